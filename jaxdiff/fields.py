"""L0: fields of frozen dataclasses with a range, as configurations are made of.

The range stands beside the default; who reads a configuration from outside holds each value to it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any


def ranged(
    default: Any,
    takes: str,
    ok: Callable[[Any], bool],
    *,
    names: tuple[str, ...] = (),
    wide: bool = False,
) -> Any:
    """A field with a range.

    Args:
        default: what it is where nothing else is said.
        takes: completes the sentence "<field> must be …".
        ok: whether a value, of the right type already, lies in the range.
        names: the values that there are, of which the nearest to a wrong one is suggested.
        wide: whether integers beyond 31 bits pass.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Settings:
        ...     rate: float = ranged(0.1, "a number above 0", lambda v: v > 0)
        >>> Settings().rate, dataclasses.fields(Settings)[0].metadata["takes"]
        (0.1, 'a number above 0')
    """
    metadata = {"takes": takes, "ok": ok, "names": names, "wide": wide}
    return dataclasses.field(default=default, metadata=metadata)


def positive(default: Any) -> Any:
    """A number above 0."""
    return ranged(default, "a number above 0", lambda v: v > 0)


def non_negative(default: Any) -> Any:
    """A number of at least 0."""
    return ranged(default, "a number of at least 0", lambda v: v >= 0)


def fraction(default: float) -> Any:
    """A number in [0, 1)."""
    return ranged(default, "a number in [0, 1)", lambda v: 0 <= v < 1)


def numbers(low: float, high: float) -> Any:
    """Any number of numbers strictly between two, none by default."""
    return ranged(
        (),
        f"a list of numbers in ({low}, {high})",
        lambda v: all(isinstance(x, float) and low < x < high for x in v),
    )


def one_of(default: str, *names: str) -> Any:
    """One of several words."""
    return ranged(default, "one of " + ", ".join(names), lambda v: v in names, names=names)
