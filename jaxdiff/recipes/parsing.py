"""L9: conversion of nested mappings to a typed configuration.

A configuration file returns a mutable ``ConfigDict``, so that flags can override any field; here it
becomes a frozen :class:`Config`, field by field. An error names the field, what it must be and what
it got.
"""

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import numpy as np

from jaxdiff.recipes.config import Choice, Config, choice, frozen
from jaxdiff.typing import InputError, nearest, out_of

T = TypeVar("T")
LARGEST = float(np.finfo(np.float32).max)


def from_dict(values: Mapping[str, Any]) -> Config:
    """Check a nested mapping, as read from a file or overridden by flags, and freeze it.

    Args:
        values: fields of :class:`Config`; those that are missing keep their defaults.

    Returns:
        The configuration.

    Raises:
        InputError: for the first field that is unknown, of the wrong type, or out of range.

    Example:
        >>> from_dict({"optimizer": {"learning_rate": -1.0}})
        Traceback (most recent call last):
        ...
        jaxdiff.typing.InputError: config.optimizer.learning_rate must be a number above 0, got -1.0
    """
    return _parse(Config, values, "config")


def check_options(
    signature: Mapping[str, Any], options: Mapping[str, Any], path: str
) -> dict[str, Any]:
    """Check the options of a :class:`Choice` against the names and types of a signature.

    Raises:
        InputError: for the first option that is unknown or of the wrong type.
    """
    for name in options:
        if name not in signature:
            known = (", ".join(signature) or "no options") + nearest(name, signature)
            raise InputError(f"{path}.{name} does not exist; {path} has {known}")
    return {name: _convert(signature[name], v, f"{path}.{name}") for name, v in options.items()}


def check_finite(value: Any, path: str) -> None:
    """Refuse infinity, NaN, and numbers beyond 32 bits, also in tuples.

    Raises:
        InputError: naming the field.
    """
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, tuple):
            check_finite(number, path)
        if isinstance(number, float) and not abs(number) <= LARGEST:
            raise InputError(f"{path} must be a finite number, got {value!r}")
        if isinstance(number, int) and abs(number) >= 2**31:
            raise InputError(f"{path} must be an integer below 2^31, got {value!r}")


def _parse(cls: type[T], values: Any, path: str) -> T:
    if not isinstance(values, Mapping):
        raise InputError(f"{path} must be a mapping of fields, got {values!r}")
    hints = typing.get_type_hints(cls)
    for name in values:
        if name not in hints:
            known = ", ".join(hints) + nearest(name, hints)
            raise InputError(f"{path}.{name} does not exist; {path} has {known}")
    parsed = {name: _convert(hints[name], v, f"{path}.{name}") for name, v in values.items()}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name not in parsed:
            continue
        value, own = parsed[field.name], field.metadata
        if "ok" in own and not own["ok"](value):
            raise InputError(f"{path}.{field.name} must be {own['must_be']}, got {value!r}")
        if not own.get("wide"):
            check_finite(value, f"{path}.{field.name}")
    return cls(**parsed)


def _convert(hint: Any, value: Any, path: str) -> Any:
    """Convert a value to its declared type if nothing is lost, or raise InputError."""
    if hint is Choice:
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            raise InputError(f"{path} must be a name and its options, got {value!r}")
        return choice(value["name"], **{k: v for k, v in value.items() if k != "name"})
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _parse(hint, value, path)
    if typing.get_origin(hint) is Literal:
        if value not in typing.get_args(hint):
            raise InputError(f"{path} must be one of {out_of(value, typing.get_args(hint))}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) <= LARGEST else math.inf if value > 0 else -math.inf
    if hint is tuple and isinstance(value, (list, tuple)):
        return frozen(value)
    takes_bool = bool in (hint, *typing.get_args(hint))
    if not isinstance(value, hint) or (isinstance(value, bool) and not takes_bool):
        raise InputError(f"{path} must be {_name_of(hint)}, got {value!r}")
    return value


def _name_of(hint: Any) -> str:
    names = {
        int | None: "an integer or None",
        bool | None: "true, false or None",
        int: "an integer",
        float: "a number",
        str: "a string",
        bool: "true or false",
    }
    return names.get(hint, "a list")
