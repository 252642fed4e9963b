"""Docstrings of layers that exist for signals, images and volumes: one text, in which the rank is filled in."""

from __future__ import annotations

_WORDS = {
    1: {
        "rank": 1,
        "things": "signals",
        "input": "(N, C, L) or (C, L)",
        "output": "(N, C, P) or (C, P)",
        "pixel": "(N, C, 1) or (C, 1)",
        "each": "(int,)",
        "sides": 2,
        "names": "(left, right)",
    },
    2: {
        "rank": 2,
        "things": "images",
        "input": "(N, C, H, W) or (C, H, W)",
        "output": "(N, C, P, Q) or (C, P, Q)",
        "pixel": "(N, C, 1, 1) or (C, 1, 1)",
        "each": "(int, int)",
        "sides": 4,
        "names": "(left, right, top, bottom)",
    },
    3: {
        "rank": 3,
        "things": "volumes",
        "input": "(N, C, D, H, W) or (C, D, H, W)",
        "output": "(N, C, O, P, Q) or (C, O, P, Q)",
        "pixel": "(N, C, 1, 1, 1) or (C, 1, 1, 1)",
        "each": "(int, int, int)",
        "sides": 6,
        "names": "(left, right, top, bottom, front, back)",
    },
}


def for_rank(rank: int, text: str) -> str:
    """
    Return a docstring for that number of spatial dimensions.

    Parameters
    ----------
    rank : int
        1, 2 or 3.
    text : str
        With ``{rank}``, ``{input}``, ``{output}`` and the other words of this file; ``{shape}`` is that of one example
        of three channels of eight pixels in each direction, ``{half}``, ``{three}`` and ``{one}`` have so many,
        ``{row}`` is one row of three pixels, ``{widths}`` pads it by two on the left and one on the right.

    Returns
    -------
    str

    Examples
    --------
    >>> for_rank(2, "Input {input}, for example {shape}.")
    'Input (N, C, H, W) or (C, H, W), for example (1, 3, 8, 8).'
    """
    lengths = {"shape": 8, "half": 4, "three": 3, "one": 1}
    shapes = {name: str((1, 3, *[length] * rank)) for name, length in lengths.items()}
    shapes |= {"row": str((*[1] * rank, 3)), "widths": str((2, 1, *[0, 0] * (rank - 1)))}
    shapes["four"] = str((1, 4, *[2] * rank))
    return text.format(**_WORDS[rank], **shapes)
