"""Fingerprints that tell whether two datasets are the same, small enough for a file.

Sizes are compared as they are; of the examples a fixed sample, spread evenly over the split, is
hashed as it is stored, so that a dataset of any size takes no longer than a batch.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdiff.data.pipeline import take_all
from jaxdiff.data.sources import Dataset, Source

SAMPLE = 64
"""Examples of a split that are hashed."""


def fingerprint(dataset: Dataset) -> dict[str, Any]:
    """Summarise both splits: their sizes, and a hash each of a sample's examples and labels.

    Args:
        dataset: any dataset.

    Returns:
        Nested dicts of numbers and text, ready for JSON.

    Example:
        >>> from jaxdiff import data
        >>> fingerprint(data.load("digits"))["test"]["size"]
        297
    """
    return {"train": _of_split(dataset.train), "test": _of_split(dataset.test)}


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Describe what differs between two fingerprints, one phrase per split that differs.

    Example:
        >>> from jaxdiff import data
        >>> changes(*(fingerprint(data.load(f"toy:{name}")) for name in ("moons", "rings")))
        ['different examples and labels in train', 'different examples and labels in test']
    """
    return [phrase for split in new if (phrase := _change(split, old.get(split, {}), new[split]))]


def _change(split: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    if old.get("size") != new["size"]:
        return f"{new['size']} examples in {split} instead of {old.get('size')}"
    differing = [name for name in ("examples", "labels") if old.get(name) != new[name]]
    return f"different {' and '.join(differing)} in {split}" if differing else ""


def _of_split(source: Source) -> dict[str, Any]:
    if not len(source):
        return {"size": 0, "examples": "", "labels": ""}
    x, label = take_all(source, limit=SAMPLE)
    return {"size": len(source), "examples": _hash(x), "labels": _hash(label)}


def _hash(array: np.ndarray) -> str:
    """Hash type, shape and values, identically on machines of either byte order."""
    little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
    kind = f"{array.dtype.name} {array.shape}"
    return hashlib.sha256(kind.encode() + little.tobytes()).hexdigest()
