"""Bits per dimension of a trained run: the evidence lower bound of held-out data, its kind named.

A chain is bounded by its own latents at i/T, a continuous process by an integral down to the time
at which the noise is as wide as one level: less noise tells nothing more of the level. Images are
levels, and the last latent is decoded to their probability by a discretised Gaussian; of
images that the run saw dequantised, and of vectors, the bound is on a density, measured per level
through the scaling that the data went through.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from jaxdiff import losses, schedules
from jaxdiff.compiling import compiler_options
from jaxdiff.losses import decoders, times, weights
from jaxdiff.recipes import Run
from jaxdiff.train import sharding
from jaxdiff.typing import Array, Key, Params

BATCH = 512
NUM_LEVELS = 256


class Bound(NamedTuple):
    """Mean over the examples, its standard error (that of the draws included), and what it is.

    Of a single example there is no standard error.
    """

    bits: float
    std_error: float | None
    kind: str
    n: int


def bits_per_dim(run: Run, data: np.ndarray, label: np.ndarray, *, draws: int, seed: int) -> Bound:
    """Bound the bits per dimension of examples under a run.

    Args:
        run: the trained run.
        data: bytes ``[n, h, w, c]`` or vectors ``[n, d]``.
        label: their classes ``[n]``, used where the run is conditional.
        draws: noisy draws of each example, each of another latent.
        seed: of the draws.

    Returns:
        ``Bound``: an upper bound of the bits per dimension, unbiased.
    """
    t_min = last_time(run)
    draw = functools.partial(_draw, t_min=t_min)
    return averaged(draw, run, data, label, draws=draws, seed=seed, kind=_kind(run, t_min))


def check(run: Run, data: np.ndarray, label: np.ndarray) -> None:
    """Refuse whatever :func:`bits_per_dim` would refuse, without computing anything.

    Raises:
        InputError: as it does.
    """
    draw = functools.partial(_draw, run, t_min=last_time(run))
    jax.eval_shape(draw, jax.random.key(0), data[:1], label[:1])


def averaged(
    draw: Callable[[Run, Key, Array, Array], Array],
    run: Run,
    data: np.ndarray,
    label: np.ndarray,
    *,
    draws: int,
    seed: int,
    kind: str,
) -> Bound:
    """Average an estimate over its draws and the examples, batch by batch, with a progress bar.

    A batch is divided over all devices, which changes nothing in what is drawn.

    Args:
        draw: one draw for each example, ``(run, key, data, label) -> [batch]``.
        run: the trained run.
        data: examples ``[n, ...]``.
        label: their classes ``[n]``.
        draws: of each example, each by another key.
        seed: of the keys.
        kind: what is measured, in words.
    """
    rows = sharding.batch_sharding(sharding.mesh())

    @functools.partial(jax.jit, compiler_options=compiler_options())
    def compiled(params: Params, key: Key, x: Array, label: Array) -> Array:
        x, label = jax.lax.with_sharding_constraint((x, label), rows)
        return draw(dataclasses.replace(run, params=params), key, x, label)

    values = []
    with tqdm(total=len(data) * draws, unit="draw", dynamic_ncols=True) as bar:
        for start in range(0, len(data), BATCH):
            part, classes = (jnp.asarray(a[start : start + BATCH]) for a in (data, label))
            total = jnp.zeros(len(part))
            for index in range(draws):
                key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), start), index)
                total += compiled(run.params, key, part, classes)
                bar.update(len(part))
            values.append(np.asarray(total, np.float64) / draws)
    bits = np.concatenate(values)
    error = float(bits.std(ddof=1) / np.sqrt(len(bits))) if len(bits) > 1 else None
    return Bound(float(bits.mean()), error, kind, len(bits))


def _kind(run: Run, t_min: float) -> str:
    """What is bounded, and how, in words."""
    chain = run.process.num_steps
    over = f"continuous from t = {t_min:.3g}" if chain is None else f"chain of {chain} steps"
    if not run.is_image:
        return f"ELBO, {over}, Gaussian decoder, density"
    if run.config.data.dequantize:
        return f"ELBO, {over}, Gaussian decoder, uniform dequantisation of {NUM_LEVELS} levels"
    return f"ELBO, {over}, discretised Gaussian decoder, {NUM_LEVELS} levels"


def _draw(run: Run, key: Key, data: Array, label: Array, *, t_min: float) -> Array:
    """One unbiased draw of the bound of each example, in bits per dimension."""
    data_key, time_key, bound_key = jax.random.split(key, 3)
    low, high = run.value_range
    levels, decoder, to_data = data.astype(jnp.float32), decoders.gaussian, None
    if not run.is_image:
        x0 = levels
    elif run.config.data.dequantize:
        levels += jax.random.uniform(data_key, levels.shape)
        to_data = functools.partial(dequantized, run)
        x0 = to_data(levels)
    else:
        x0 = low + (high - low) * levels / (NUM_LEVELS - 1)
        decoder = functools.partial(
            decoders.discretized_gaussian, num_levels=NUM_LEVELS, low=low, high=high
        )

    model = run.conditioned(label if run.config.model.class_conditional else None)
    process, chain = run.process, run.process.num_steps
    if chain is not None:
        latents = jnp.arange(chain, 0, -1) / chain
        elbo = losses.elbo_terms(
            bound_key, model, process, x0, times=latents, num_terms=1, decoder=decoder
        )
    else:
        time = times.importance(time_key, len(x0), process, weights.likelihood, t_min=t_min)
        elbo = losses.continuous_elbo(
            bound_key, model, process, x0, time, t_min=t_min, decoder=decoder
        )
    return losses.bits_per_dim(jnp.sum(jnp.stack(elbo), axis=0), levels, to_data=to_data)


def last_time(run: Run) -> float:
    """Time of the least noisy latent of a continuous process, within what training has seen."""
    trained = run.config.loss.t_min or 1e-3
    if not run.is_image:
        return trained
    low, high = run.value_range
    level = (high - low) / (NUM_LEVELS - 1)
    return max(trained, float(schedules.karras_times(run.process, 1, sigma_min=level)[-1]))


def dequantized(run: Run, levels: Array) -> Array:
    """Data of levels to which a number in [0, 1) was added: the range split evenly among them."""
    low, high = run.value_range
    return low + (high - low) * levels / NUM_LEVELS
