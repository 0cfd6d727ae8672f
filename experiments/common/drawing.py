"""Many samples of a run: batch by batch, with a progress bar, ready to be saved."""

import functools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from experiments.common.kept import kept_array
from jaxdiff import data
from jaxdiff.recipes import Run
from jaxdiff.train import sharding
from jaxdiff.train.fingerprint import fingerprint
from jaxdiff.train.memory import check_fits

BATCH = 512
"""Samples per compiled call."""


def draw_samples(
    run: Run,
    n: int,
    *,
    seed: int,
    options: Mapping[str, Any] | None = None,
    folder: Path | None = None,
) -> np.ndarray:
    """Draw n samples; images are rounded to the 256 levels that a file holds.

    Every batch is sharded over all devices, which do not affect the draws.

    Args:
        run: the trained run.
        n: how many.
        seed: of all randomness; batch i uses ``fold_in(key(seed), i)``.
        options: keyword arguments of :meth:`Run.sample`.
        folder: keeps every batch as soon as it is drawn; those of the same run, seed and options
            that it holds already are not drawn again.

    Returns:
        ``[n, *shape]``: bytes for images, float32 for vectors.
    """
    check_fits("n", n, 4 * n * math.prod(run.shape))
    size = min(n, BATCH)
    mesh = sharding.mesh() if jax.device_count() > 1 else None

    def draw(index: int) -> np.ndarray:
        key = jax.random.fold_in(jax.random.key(seed), index)
        x = np.asarray(run.sample(key, size, mesh=mesh, **(options or {})))
        if not run.is_image:
            return x
        return data.to_uint8(x, run.value_range, dequantized=run.config.data.dequantize)

    made_by = (
        "" if folder is None else f"{identity(run)} {seed} {size} {sorted((options or {}).items())}"
    )
    chunks = []
    with tqdm(total=n, unit="sample", dynamic_ncols=True) as bar:
        for index in range(-(-n // size)):
            if folder is None:
                chunks.append(draw(index))
            else:
                path = folder / f"{index:05d}.npz"
                chunks.append(kept_array(path, made_by, functools.partial(draw, index)))
            bar.update(min(size, n - index * size))
    return np.concatenate(chunks)[:n]


def identity(run: Run) -> str:
    """What samples of a run depend on, as text: its configuration and its parameters."""
    return f"{int(jax.jit(fingerprint)(run.params)):08x} {json.dumps(run.config.as_dict())}"
