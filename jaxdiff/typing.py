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
]

Key = PRNGKeyArray
Params = PyTree
WeightFn = Callable[[Any, Array], Array]
"""``(process, t [batch]) -> [batch]``."""


class InputError(ValueError):
    """What the caller gave cannot be used: one sentence says what, what it was, what it takes.

    The command line prints the sentence and exits with 2; a traceback is for bugs only.
    """
