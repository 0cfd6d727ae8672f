"""Endless training batches, where the batch of step k is a pure function of (seed, k).

Epoch e is one permutation of the source, keyed on (seed, e); laid end to end, the epochs are one
endless sequence of positions, and step k reads positions kB, ..., (k+1)B − 1. So every example
comes exactly once an epoch, nothing is dropped where an epoch ends inside a batch, and a run that
resumes at step k reads what it would have read, without replaying. Grain provides random access by
step, and prefetching. Images stay bytes; the training step converts them (see ``augment``).

The permutation is numpy's: ``grain``'s ``shuffle`` runs a cipher over at least 2¹⁶ values, element
by element, which took 2 ms for a batch of 128 of 1,797 digits (and 7 ms for one of 3 examples),
against 0.04 ms for gathering a slice of a permutation.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from absl import flags

from jaxdiff.data import pixels
from jaxdiff.data.sources import Example, Source, take
from jaxdiff.extras import require
from jaxdiff.typing import InputError

THREADS = 2
BUFFERED_BATCHES = 4


@lru_cache(maxsize=4)  # two epochs meet in one batch, for two splits
def _epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """Return the permutation of ``range(size)`` that is epoch ``epoch``."""
    return np.random.default_rng([seed, epoch]).permutation(size)


@dataclass(frozen=True)
class Schedule:
    """The indices that each step reads, as a random-access source for grain.

    Example:
        >>> schedule = Schedule(size=4, batch_size=3, seed=0)
        >>> sorted(np.concatenate([schedule[step] for step in range(4)]).tolist())  # 3 epochs
        [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    """

    size: int
    batch_size: int
    seed: int

    def __len__(self) -> int:
        """Return the largest length there is: steps never end."""
        return sys.maxsize

    def __getitem__(self, step: int, /) -> np.ndarray:
        """Return the indices ``[B]`` of batch ``step``."""
        start, stop = step * self.batch_size, (step + 1) * self.batch_size
        return np.concatenate(
            [
                _epoch_order(self.seed, epoch, self.size)[
                    max(start - epoch * self.size, 0) : stop - epoch * self.size
                ]
                for epoch in range(start // self.size, (stop - 1) // self.size + 1)
            ]
        )


def batches(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    shard_index: int = 0,
    shard_count: int = 1,
    workers: int = 0,
) -> Iterator[Example]:
    """Iterate endlessly over shuffled batches of examples as they are stored.

    Args:
        source: a split.
        batch_size: examples per batch; may exceed the size of the split.
        seed: with the step, decides everything in a batch; not negative.
        start_step: the step of the first batch; not negative.
        shard_index: which shard of each batch is read, from 0: each of several processes reads
            its own.
        shard_count: number of equal shards that a batch is divided into.
        workers: processes that read and decode, in a program started by ``absl.app.run``; 0 reads
            in threads of this one. Batches do not depend on it.

    Returns:
        An endless iterator of ``{"x": uint8 [B, H, W, C] or float32 [B, D], "label": int32 [B]}``.

    Raises:
        InputError: the source is empty, images are not bytes, or a number is out of range.

    Example:
        >>> from jaxdiff import data
        >>> digits = data.load("digits").train
        >>> straight = data.batches(digits, batch_size=8, seed=0)
        >>> resumed = data.batches(digits, batch_size=8, seed=0, start_step=1)
        >>> _, second = next(straight), next(straight)
        >>> bool((next(resumed)["x"] == second["x"]).all())
        True
    """
    require("grain", purpose="drawing batches")
    import grain

    for name, got, least in [
        ("batch_size", batch_size, 1),
        ("seed", seed, 0),
        ("start_step", start_step, 0),
        ("shard_count", shard_count, 1),
        ("workers", workers, 0),
    ]:
        if got < least:
            raise InputError(f"{name} must be an integer of at least {least}, got {got}")
    is_image = _holds_images(source)
    if batch_size % shard_count:
        raise InputError(
            f"shard_count must be a divisor of batch_size ({batch_size}), got {shard_count}"
        )
    if not 0 <= shard_index < shard_count:
        raise InputError(
            f"shard_index must be an integer from 0 to {shard_count - 1}, got {shard_index}"
        )
    size = batch_size // shard_count
    mine = slice(shard_index * size, (shard_index + 1) * size)

    dtype = np.uint8 if is_image else np.float32

    def read(indices: np.ndarray) -> Example:
        batch = take(source, indices[mine])
        return {"x": batch["x"].astype(dtype, copy=False), "label": batch["label"]}

    steps = grain.MapDataset.source(Schedule(len(source), batch_size, seed))
    steps = steps.map(read)[start_step:]
    options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=BUFFERED_BATCHES)
    read_ahead = steps.to_iter_dataset(options)
    if workers:
        if not flags.FLAGS.is_parsed():  # grain reads flags of its own for its processes
            raise InputError(
                f"workers must be 0 in a program not started by absl.app.run, got {workers}"
            )
        read_ahead = read_ahead.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    return iter(read_ahead)


def stack(
    source: Source, *, limit: int | None = None, value_range: pixels.Range = pixels.SYMMETRIC
) -> tuple[np.ndarray, np.ndarray]:
    """Load a whole split into memory, in its own order, for evaluation.

    Args:
        source: a split.
        limit: keep at most this many examples, spread evenly over the split.
        value_range: ``(low, high)``, what the bytes 0 and 255 become; vectors are left as they are.

    Returns:
        ``x`` float32 ``[n, ...]`` and ``label`` int32 ``[n]``.

    Raises:
        InputError: the source is empty, or ``limit`` is below 1.

    Example:
        >>> from jaxdiff import data
        >>> x, label = data.stack(data.load("digits").test, limit=100)
        >>> x.shape, label.shape
        ((100, 8, 8, 1), (100,))
    """
    x, label = take_all(source, limit=limit)
    is_image = _holds_images(source)
    return pixels.to_floats(x, value_range) if is_image else x.astype(np.float32), label


def take_all(source: Source, *, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Load a whole split into memory as it is stored: bytes for images.

    Args:
        source: a split.
        limit: keep at most this many examples, spread evenly over the split.

    Returns:
        ``x`` of the source's own type ``[n, ...]`` and ``label`` int32 ``[n]``.

    Raises:
        InputError: the source is empty, or ``limit`` is below 1.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit must be an integer of at least 1, or None, got {limit}")
    _holds_images(source)
    size = len(source) if limit is None else min(limit, len(source))
    batch = take(source, np.arange(size) * len(source) // size)
    return batch["x"], batch["label"]


def _holds_images(source: Source) -> bool:
    """Whether examples are images; refuses an empty source, and images that are not bytes."""
    if not len(source):
        raise InputError("the source must hold at least one example, got none")
    x = source[0]["x"]
    if x.ndim == 3 and x.dtype != np.uint8:
        raise InputError(f"pixels must be uint8, got {x.dtype}")
    return x.ndim == 3
