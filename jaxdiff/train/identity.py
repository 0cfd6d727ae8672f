"""L8: which run a workdir holds, and what may not change when it is resumed."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxdiff.data import Dataset

Content = Mapping[str, Any]
"""JSON-serialisable content."""


class Identity(NamedTuple):
    """What distinguishes a run from others.

    Args:
        content: written to ``config.json`` of a new workdir.
        refused: ``stored -> list``: the differences from the content found in a workdir that
            prevent resuming, one phrase each.
        changed: ``stored -> list``: the differences that are allowed, one phrase each.
        dataset: whose fingerprint is written to ``data.json`` or compared with the one there.
    """

    content: Content
    refused: Callable[[Content], list[str]]
    changed: Callable[[Content], list[str]]
    dataset: Dataset | None = None


def plain_identity(content: Content, *, dataset: Dataset | None = None) -> Identity:
    """Build the identity of a run that can only be resumed with the same content.

    Args:
        content: plain dicts, lists, text and numbers.
        dataset: that it trains on, if any.

    Example:
        >>> mine = plain_identity({"width": 8, "rate": 0.1})
        >>> mine.refused({"width": 4, "rate": 0.1})
        ['width: 4 -> 8']
    """
    return Identity(
        content, lambda stored: differences(stored, content), lambda stored: [], dataset
    )


def differences(old: Content, new: Content, *, path: str = "") -> list[str]:
    """Name the leaves in which nested mappings differ, as ``a.b: old -> new``.

    Example:
        >>> differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2}, path="config.")
        ['config.a.b: 1 -> 3']
    """
    old_leaves, new_leaves = dict(_leaves(old, path)), dict(_leaves(new, path))
    names = [*old_leaves, *(name for name in new_leaves if name not in old_leaves)]
    return [
        f"{name}: {old_leaves.get(name, 'absent')} -> {new_leaves.get(name, 'absent')}"
        for name in names
        if old_leaves.get(name) != new_leaves.get(name)
    ]


def _leaves(values: Content, path: str) -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for name, value in values.items():
        nested = isinstance(value, Mapping)
        leaves += _leaves(value, f"{path}{name}.") if nested else [(f"{path}{name}", value)]
    return leaves
