"""Random-access sources of examples, and the two splits that make a dataset.

An example is ``{"x": uint8 [H, W, C] or float32 [D], "label": int32 []}``. Any object with
``__len__`` and ``__getitem__`` that returns such examples is a source; the two below also gather a
whole batch at once (``take``), which costs microseconds where a Python loop costs milliseconds.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from jaxdiff.typing import InputError

Example = dict[str, Any]
"""One example, or a batch of them with one more leading axis on every value."""

CACHE_BYTES = 2**30
"""A split whose decoded images fit in this is decoded once and cached; a larger one is not."""


class Source(Protocol):
    """A split: random access to examples ``{"x", "label"}``."""

    def __len__(self) -> int:
        """Return the number of examples."""

    def __getitem__(self, index: int, /) -> Example:
        """Return the example at ``index``."""


@dataclass(frozen=True)
class Dataset:
    """A named dataset: two splits, the shape of one event, and the number of classes.

    ``shape`` is ``(H, W, C)`` for images and ``(D,)`` for vectors; ``num_classes`` is None where
    the dataset has no labels (every label is then 0). A dataset of a single example has an empty
    test split.
    """

    name: str
    train: Source
    test: Source
    shape: tuple[int, ...]
    num_classes: int | None

    @property
    def is_image(self) -> bool:
        """Whether an event is an image ``[H, W, C]``, not a vector."""
        return len(self.shape) == 3


@dataclass(frozen=True, eq=False)
class Arrays:
    """A source held in memory: ``x [n, ...]`` and ``label [n]``."""

    x: np.ndarray
    label: np.ndarray

    def __len__(self) -> int:
        """Return n."""
        return len(self.x)

    def __getitem__(self, index: int, /) -> Example:
        """Return the example at ``index``."""
        return {"x": self.x[index], "label": np.int32(self.label[index])}

    def take(self, indices: np.ndarray) -> Example:
        """Return the batch at ``indices [B]``."""
        return {"x": self.x[indices], "label": self.label[indices]}


class Decoded:
    """A source of images that are decoded on first access, and cached if all fit in memory.

    Args:
        decode: ``indices -> (uint8 [B, H, W, C], int [B])``; must be pure, since two threads may
            decode the same image at once.
        size: the number of examples.
        shape: of one image, ``(H, W, C)``.
    """

    def __init__(
        self,
        decode: Callable[[list[int]], tuple[np.ndarray, np.ndarray]],
        size: int,
        shape: tuple[int, ...],
    ):
        self._decode = decode
        kept = size if size * math.prod(shape) <= CACHE_BYTES else 0
        self._known = np.zeros(kept, bool)
        self._cache = Arrays(np.empty((kept, *shape), np.uint8), np.zeros(kept, np.int32))
        self._size = size

    def __len__(self) -> int:
        """Return the number of examples."""
        return self._size

    def __getitem__(self, index: int, /) -> Example:
        """Return the example at ``index``."""
        # range() maps a negative index and raises IndexError past the end, as a list would.
        batch = self.take(np.array([range(self._size)[index]]))
        return {"x": batch["x"][0], "label": batch["label"][0]}

    def take(self, indices: np.ndarray) -> Example:
        """Return the batch at ``indices [B]``."""
        if not len(self._known):
            x, label = self._decode(indices.tolist())
            return {"x": x, "label": label.astype(np.int32)}
        unknown = np.unique(indices[~self._known[indices]])
        if len(unknown):
            self._cache.x[unknown], self._cache.label[unknown] = self._decode(unknown.tolist())
            self._known[unknown] = True  # last, so that no thread reads a row half written
        return self._cache.take(indices)


def take(source: Source, indices: np.ndarray) -> Example:
    """Gather a batch from any source, by its ``take`` if it has one.

    Args:
        source: a split.
        indices: ``[B]``, integers in ``[0, len(source))``.

    Returns:
        ``{"x": [B, ...], "label": int32 [B]}``.

    Example:
        >>> arrays = Arrays(np.arange(6.0).reshape(3, 2), np.arange(3))
        >>> take(arrays, np.array([2, 0]))["x"].tolist()
        [[4.0, 5.0], [0.0, 1.0]]
    """
    if hasattr(source, "take"):
        return source.take(indices)
    examples = [source[i] for i in indices.tolist()]
    return {
        "x": np.stack([example["x"] for example in examples]),
        "label": np.array([example["label"] for example in examples], np.int32),
    }


def hold_out(size: int, num_test: int) -> tuple[np.ndarray, np.ndarray]:
    """Split ``range(size)`` by one fixed permutation, the same on every machine.

    Args:
        size: how many examples there are.
        num_test: how many of them become the test split: at least one, unless there is only one
            example, which is trained on.

    Returns:
        The indices of the train split and of the test split, disjoint.

    Raises:
        InputError: if there is no example.

    Example:
        >>> train, test = hold_out(10, 3)
        >>> sorted([*train.tolist(), *test.tolist()]) == list(range(10))
        True
    """
    if size < 1:
        raise InputError(f"a dataset must have at least 1 example, got {size}")
    order = np.random.default_rng(0).permutation(size)
    num_train = max(size - max(num_test, 1), 1)
    return order[:num_train], order[num_train:]
