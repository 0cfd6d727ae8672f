"""L0: fields with a range, for the frozen dataclasses of configurations.

The range stands beside the default; whoever parses a configuration checks each value against it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any


def ranged(
    default: Any,
    must_be: str,
    ok: Callable[[Any], bool],
    *,
    wide: bool = False,
) -> Any:
    """A field with a range.

    Args:
        default: the default value.
        must_be: completes the sentence "<field> must be …".
        ok: whether a value that already has the right type is in the range.
        wide: whether integers beyond 31 bits are allowed.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Settings:
        ...     rate: float = ranged(0.1, "a number above 0", lambda v: v > 0)
        >>> Settings().rate, dataclasses.fields(Settings)[0].metadata["must_be"]
        (0.1, 'a number above 0')
    """
    metadata = {"must_be": must_be, "ok": ok, "wide": wide}
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
    """A list of numbers strictly between two bounds, empty by default."""
    return ranged(
        (),
        f"a list of numbers in ({low}, {high})",
        lambda v: all(isinstance(x, float) and low < x < high for x in v),
    )
