"""L0: the types that every layer speaks, and the one error that is the caller's fault.

A name that is unknown is told beside those that are known, of which the nearest is suggested.

Shapes are written in the notation of jaxtyping, and tests check them: ``"batch *event"`` is a batch
of examples, ``"batch"`` one number per example, ``""`` a scalar.
"""

import difflib
from collections.abc import Callable, Iterable
from typing import Any

import jaxtyping
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray, PyTree, Real, Shaped

__all__ = [
    "Array",
    "ArrayLike",
    "Bool",
    "Float",
    "InputError",
    "Int",
    "Key",
    "Keys",
    "Params",
    "PerEntry",
    "PerExample",
    "PyTree",
    "Real",
    "Scalar",
    "Shaped",
    "WeightFn",
    "nearest",
    "one_line",
    "out_of",
]

Key = PRNGKeyArray
Keys = jaxtyping.Key[Array, "batch"]
"""One key per example."""
Params = PyTree
Scalar = Real[ArrayLike, ""]
"""One number: of Python, of NumPy or an array without axes."""
PerExample = Real[ArrayLike, ""] | Real[ArrayLike, "batch"]
"""One number for all examples, or one for each."""
PerEntry = PerExample | Real[ArrayLike, "batch *event"]
"""One number for all examples, one for each, or one for each entry of each."""
WeightFn = Callable[[Any, Float[Array, "batch"]], Float[Array, "batch"]]
"""``(process, t) -> weights``."""


def one_line(error: Exception) -> str:
    """What an error of another library says, in one line; its name if it says nothing.

    Example:
        >>> one_line(ValueError("no such   thing")), one_line(MemoryError())
        ('no such thing', 'MemoryError')
    """
    return " ".join(str(error).split()) or type(error).__name__


class InputError(ValueError):
    """What the caller gave cannot be used: one sentence says what, what it was, what it takes.

    The command line prints the sentence and exits with 2; a traceback is for bugs only.
    """


def nearest(got: object, known: Iterable[str]) -> str:
    """End a sentence about an unknown name: with the known one that is nearest, if one is near.

    Example:
        >>> nearest("VPP", ["ve", "vp"]), nearest("x", ["ve", "vp"])
        ("; did you mean 'vp'?", '')
    """
    by_lower_case = {name.lower(): name for name in known}
    found = difflib.get_close_matches(str(got).lower(), by_lower_case, n=1)
    return f"; did you mean {by_lower_case[found[0]]!r}?" if found else ""


def out_of(got: object, known: Iterable[str]) -> str:
    """Complete the sentence "<name> must be one of …" about a name that is not.

    Example:
        >>> f"order must be one of {out_of('second', ['first', 'secnd'])}"
        "order must be one of first, secnd, got 'second'; did you mean 'secnd'?"
    """
    known = list(known)
    return f"{', '.join(known)}, got {got!r}{nearest(got, known)}"
