"""L0: the types that every layer speaks, and the one error that is the caller's fault.

Shapes are written in jaxtyping's notation in the docstrings: ``[batch, ...]`` is a batch of
examples, ``[batch]`` one number per example, ``[]`` a scalar.
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, ArrayLike, PRNGKeyArray, PyTree

__all__ = [
    "Array",
    "ArrayLike",
    "InputError",
    "Key",
    "Params",
    "PyTree",
    "WeightFn",
    "one_line",
]

Key = PRNGKeyArray
Params = PyTree
WeightFn = Callable[[Any, Array], Array]
"""``(process, t [batch]) -> [batch]``."""


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
