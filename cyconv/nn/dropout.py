"""Dropout: of elements, of whole channels, and the forms for networks of SELU."""

from __future__ import annotations

from typing import Any

from cyconv import functional as F
from cyconv.functional._arrays import generator
from cyconv.nn._ranks import for_rank
from cyconv.nn.module import Module, Pending


class Dropout(Module):
    """
    In training mode, set each value to 0 with probability `p` and scale the others by 1 / (1 - p).

    Parameters
    ----------
    p : float
        Probability of a zero, in [0, 1].
    rng : numpy.random.Generator, int or None
        Where the random numbers come from: a generator, a seed, or None for fresh entropy.

    Raises
    ------
    ValueError
        If `p` is not in [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Dropout
    >>> Dropout(0.5, rng=0)(np.ones(4)).tolist()
    [2.0, 2.0, 2.0, 0.0]
    >>> Dropout(0.5).eval()(np.ones(4)).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """

    _function = "dropout"

    def __init__(self, p: float = 0.5, *, rng: Any = None) -> None:
        if isinstance(p, (str, bytes)) or not 0 <= p <= 1:
            raise ValueError(f"{type(self).__name__}: p must be a probability in [0, 1], got {p!r}")
        self.p = p
        self.rng = generator(type(self).__name__, rng)

    def forward(self, input: Any) -> Any:
        """Return the thinned input in training mode, in eval mode the input itself."""
        if not self.training:
            self._saved = None
            return input
        output, mask = getattr(F, self._function)(input, self.p, True, rng=self.rng, return_mask=True)
        self._saved = (input, mask)
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        if not input_grad:
            return None
        input, mask = self._saved
        return getattr(F, f"{self._function}_backward")(grad_output, input, self.p, True, mask=mask)[0]

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return f"p={self.p}"


_DROPOUT = """
    In training mode, set each channel of each sample to 0 with probability `p` and scale the others by 1 / (1 - p).

    Parameters
    ----------
    p : float
        Probability of being dropped, in [0, 1].
    rng : numpy.random.Generator, int or None
        Where the random numbers come from: a generator, a seed, or None for fresh entropy.

    Raises
    ------
    ValueError
        If `p` is not in [0, 1].

    Notes
    -----
    Input {input}.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Dropout{rank}d
    >>> y = Dropout{rank}d(0.5, rng=0)(np.ones({four}))
    >>> y.reshape(4, -1)[:, 0].tolist()
    [2.0, 2.0, 2.0, 0.0]
    """


class Dropout1d(Dropout):
    __doc__ = for_rank(1, _DROPOUT)

    _function = "dropout1d"


class Dropout2d(Dropout):
    __doc__ = for_rank(2, _DROPOUT)

    _function = "dropout2d"


class Dropout3d(Dropout):
    __doc__ = for_rank(3, _DROPOUT)

    _function = "dropout3d"


class AlphaDropout(Dropout):
    """
    In training mode, set each value with probability `p` to the lower limit of SELU, and keep mean 0 and variance 1.

    Parameters
    ----------
    p : float
        Probability of being dropped, in [0, 1].
    rng : numpy.random.Generator, int or None
        Where the random numbers come from: a generator, a seed, or None for fresh entropy.

    Raises
    ------
    ValueError
        If `p` is not in [0, 1].

    Notes
    -----
    Input of any shape. Klambauer et al. 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import AlphaDropout
    >>> AlphaDropout(0.5, rng=0)(np.zeros(4)).round(3).tolist()
    [0.779, 0.779, 0.779, -0.779]
    """

    _function = "alpha_dropout"


class FeatureAlphaDropout(Dropout):
    """
    Alpha dropout of whole channels of samples.

    Parameters
    ----------
    p : float
        Probability of being dropped, in [0, 1].
    rng : numpy.random.Generator, int or None
        Where the random numbers come from: a generator, a seed, or None for fresh entropy.

    Raises
    ------
    ValueError
        If `p` is not in [0, 1].

    Notes
    -----
    Input (N, C) or (N, C, *spatial).

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import FeatureAlphaDropout
    >>> FeatureAlphaDropout(0.5, rng=0)(np.zeros((1, 2, 2))).round(3).tolist()
    [[[0.779, 0.779], [0.779, 0.779]]]
    """

    _function = "feature_alpha_dropout"
