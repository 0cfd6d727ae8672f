"""Many samples of a run: batch by batch, with a progress bar, ready to be saved."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from jaxdiff import data
from jaxdiff.recipes import Run
from jaxdiff.train import sharding
from jaxdiff.train.memory import check_fits


def draw_samples(
    run: Run, n: int, *, seed: int, batch_size: int = 512, options: Mapping[str, Any] | None = None
) -> np.ndarray:
    """Draw n samples; images are rounded to the 256 levels that a file holds.

    Args:
        run: the trained run.
        n: how many.
        seed: of all randomness; batch i uses ``fold_in(key(seed), i)``.
        batch_size: samples per compiled call, sharded over all devices, which do not affect the
            draws.
        options: keyword arguments of :meth:`Run.sample`.

    Returns:
        ``[n, *shape]``: bytes for images, float32 for vectors.
    """
    check_fits("n", n, 4 * n * math.prod(run.shape))
    size = min(n, batch_size)
    mesh = sharding.mesh() if jax.device_count() > 1 else None
    chunks = []
    with tqdm(total=n, unit="sample", dynamic_ncols=True) as bar:
        for index in range(-(-n // size)):
            key = jax.random.fold_in(jax.random.key(seed), index)
            chunks.append(np.asarray(run.sample(key, size, mesh=mesh, **(options or {}))))
            bar.update(min(size, n - index * size))
    x = np.concatenate(chunks)[:n]
    if not run.is_image:
        return x
    return data.to_uint8(x, run.value_range, dequantized=run.config.data.dequantize)
