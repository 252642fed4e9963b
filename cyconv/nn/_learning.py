"""First calls of networks with lazy layers: where one fails, the layers are as lazy as they were."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

from cyconv.nn.module import Module

# Of several threads that call a network for the first time, one learns, and the others wait what becomes of it.
_one_learns = threading.RLock()
if hasattr(os, "register_at_fork"):
    # A child whose parent forked while another thread was learning would wait for ever.
    os.register_at_fork(
        before=_one_learns.acquire, after_in_parent=_one_learns.release, after_in_child=_one_learns.release
    )

#: For each call that runs, the outermost first: what makes lazy again the layers that have learnt in it.
_calls: list[list[Callable[[], None]]] = []


@contextlib.contextmanager
def learning() -> Iterator[list[Callable[[], None]]]:
    """
    Run a call in which layers may learn; if it fails, all that learnt in it forget.

    Yields
    ------
    list of functions
        To which a layer that learns appends what makes it lazy again.
    """
    with _one_learns:
        undo: list[Callable[[], None]] = []
        _calls.append(undo)
        try:
            yield undo
        except BaseException:
            for forget in reversed(undo):
                forget()
            undo.clear()
            raise
        finally:
            _calls.pop()
            if _calls:
                _calls[-1].extend(undo)  # the call around this one may fail yet


def lazy_inside(module: Module) -> bool:
    """
    Return whether this module or one below does not know its sizes yet.

    What another thread's call has taught a layer counts when that call has succeeded.
    """
    with _one_learns:
        return any(inside._unknown for inside in all_inside(module))


def all_inside(module: Module) -> Iterator[Module]:
    """Yield this module and all below, in any order, each once."""
    seen: set[int] = set()
    waiting = [module]
    while waiting:
        module = waiting.pop()
        if id(module) not in seen:
            seen.add(id(module))
            yield module
            waiting.extend(module.children())
