"""Calls made of bytes (checks/fuzz.py): those that the guided search found, and some from a generator."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from processes import output_of

from cyconv import functional as F

FUZZ = Path(__file__).parent / "checks" / "fuzz.py"
specification = importlib.util.spec_from_file_location("fuzz", FUZZ)
fuzz = importlib.util.module_from_spec(specification)
specification.loader.exec_module(fuzz)


def test_the_corpus_computes_or_is_refused():
    fuzz.counts.clear()
    for data in fuzz.corpus():
        fuzz.run_or_show(data)
    assert min(fuzz.counts[ending] for ending in ("computed", "compared", "refused")) > 50


@pytest.mark.parametrize("seed", range(4))
def test_bytes_from_a_generator(seed):
    rng = np.random.default_rng(seed)
    fuzz.counts.clear()
    for _ in range(400):
        fuzz.run_or_show(rng.bytes(96))
    assert fuzz.counts["compared"] > 200
    assert fuzz.counts["refused"] > 50


def test_a_wrong_result_is_found(monkeypatch):
    """The comparison can fail: an output off by one part in ten thousand does not pass."""
    right = F.conv1d
    monkeypatch.setattr(F, "conv1d", lambda *args, **how: right(*args, **how) * np.float32(1.0001))
    with pytest.raises(AssertionError, match="conv1d, output: error"):
        fuzz.run(bytes([0, 0, 0, 0]) + bytes([3] * 60))


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="needs atheris")
def test_a_guided_run_says_how_much_was_computed_compared_and_refused(tmp_path):
    (tmp_path / "checks").mkdir()
    for source, to in ((FUZZ, "checks/fuzz.py"), (FUZZ.parents[1] / "tolerances.py", "tolerances.py")):
        (tmp_path / to).write_text(source.read_text())
    said = output_of(str(tmp_path / "checks" / "fuzz.py"), "--guided", "--calls", "300", timeout=100).splitlines()[-1]
    counted = ast.literal_eval(said)
    assert 290 <= counted["computed"] + counted["refused"] <= 310
    assert 0 < counted["compared"] <= counted["computed"]
    assert (tmp_path / "checks" / "corpus.txt").stat().st_size > 0
