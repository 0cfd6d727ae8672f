"""L0: the types used by every layer, and the error for invalid input.

The error for an unknown name lists the known ones, and suggests the nearest.

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
"""One number: from Python, from NumPy, or an array without axes."""
PerExample = Real[ArrayLike, ""] | Real[ArrayLike, "batch"]
"""One number for all examples, or one for each."""
PerEntry = PerExample | Real[ArrayLike, "batch *event"]
"""One number for all examples, one for each, or one for each entry of each."""
WeightFn = Callable[[Any, Float[Array, "batch"]], Float[Array, "batch"]]
"""``(process, t) -> weights``."""


def one_line(error: Exception) -> str:
    """The message of another library's error as one line; its type if the message is empty.

    Example:
        >>> one_line(ValueError("no such   thing")), one_line(MemoryError())
        ('no such thing', 'MemoryError')
    """
    return " ".join(str(error).split()) or type(error).__name__


class InputError(ValueError):
    """Invalid input from the caller: "<name> must be <constraint>, got <value>".

    The command line prints the message and exits with status 2; a traceback is for bugs only.
    """


def nearest(got: object, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: suggest the nearest known one, if one is near.

    Example:
        >>> nearest("VPP", ["ve", "vp"]), nearest("x", ["ve", "vp"])
        ("; did you mean 'vp'?", '')
    """
    by_lower_case = {name.lower(): name for name in known}
    found = difflib.get_close_matches(str(got).lower(), by_lower_case, n=1)
    return f"; did you mean {by_lower_case[found[0]]!r}?" if found else ""


def out_of(got: object, known: Iterable[str]) -> str:
    """Complete the error "<name> must be one of …".

    Example:
        >>> f"order must be one of {out_of('second', ['first', 'secnd'])}"
        "order must be one of first, secnd, got 'second'; did you mean 'secnd'?"
    """
    known = list(known)
    return f"{', '.join(known)}, got {got!r}{nearest(got, known)}"
