"""L9: bits per dimension of a run by the evidence lower bound (ELBO) of examples.

A chain is bounded by its own latents at i/T, a continuous process by an integral down to the time
at which the noise is as wide as one level, below which it carries no more information. Images are
levels, whose probability the last latent is decoded to by a discretised Gaussian. For images that
were dequantised in training, and for vectors, the bound is on a density, expressed per level by
the scaling of the data.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import losses, schedules
from jaxdiff.checks import check_count
from jaxdiff.compiling import compiler_options
from jaxdiff.data.labels import whole_labels
from jaxdiff.losses import times, weights
from jaxdiff.recipes.config import Precision
from jaxdiff.recipes.measures import CONTINUOUS, NUM_LEVELS, decoder
from jaxdiff.recipes.run import Run
from jaxdiff.train import sharding
from jaxdiff.typing import Array, InputError, Int, Key, Params, Real

BATCH = 512
PRECISION: Precision = "highest"

OnBatch = Callable[[int], object]
"""Called with the number of draws just taken, such as the ``update`` of a tqdm bar."""


class BitsPerDim(NamedTuple):
    """Mean over examples, and what was measured.

    Args:
        bits: mean of −log₂ p per dimension, or of a bound on it.
        std_error: its standard error, including that of the draws; None for a single example.
        kind: what was measured, as text.
        n: number of examples.
        matmul_precision: of the network's products, whatever that of the configuration.
    """

    bits: float
    std_error: float | None
    kind: str
    n: int
    matmul_precision: Precision


def bits_per_dim(
    run: Run,
    data: Real[np.ndarray, "n *event"],
    label: Int[np.ndarray, "n"],
    *,
    draws: int,
    seed: int,
    on_batch: OnBatch | None = None,
) -> BitsPerDim:
    """Upper bound on the bits per dimension of examples under a run, by the ELBO.

    −log₂ p(x) / D ≤ −ELBO(x) / (D log 2)

    Args:
        run: the trained run.
        data: bytes for images, floats for vectors, as :func:`jaxdiff.data.take_all` returns them.
        label: their classes, used where the run is conditional.
        draws: noisy draws of each example, each with a new latent.
        seed: of the draws.
        on_batch: called after each batch with its number of examples, ``n * draws`` in all.

    Returns:
        ``BitsPerDim(bits, std_error, kind, n, matmul_precision)``, an unbiased estimate of the
        bound: of −log₂ of the probability of the levels of images, or of the density of vectors.

    Raises:
        InputError: if there is no example, their shape or type is not the run's, labels are not
            one per example, a label is not a class of the run, or ``draws`` is below 1.

    Reference: Ho et al. 2020, eq. 5; Kingma et al. 2021, eq. 11 and 18; Theis et al. 2016.
    """
    t_min = last_time(run)
    draw = functools.partial(_draw, t_min=t_min)
    return averaged(
        draw, run, data, label, draws=draws, seed=seed, kind=_kind(run, t_min), on_batch=on_batch
    )


def check(run: Run, data: Real[np.ndarray, "n *event"], label: Int[np.ndarray, "n"]) -> None:
    """Refuse the examples that :func:`bits_per_dim` would refuse, without computing anything.

    Raises:
        InputError: as it does.
    """
    check_examples(run, data, label)
    draw = functools.partial(_draw, run, t_min=last_time(run))
    jax.eval_shape(draw, jax.random.key(0), data[:1], label[:1])


def check_examples(
    run: Run, data: Real[np.ndarray, "n *event"], label: Int[np.ndarray, "n"]
) -> None:
    """Refuse anything but examples of a run with one label each.

    Raises:
        InputError: naming what they must be.
    """
    if not len(data) or data.shape[1:] != run.shape:
        shape = ", ".join(map(str, ("n", *run.shape)))
        raise InputError(f"data must have shape ({shape}) with n at least 1, got {data.shape}")
    kind, required = (np.uint8, "bytes") if run.is_image else (np.floating, "floats")
    if not np.issubdtype(data.dtype, kind):
        raise InputError(f"data must be {required}, got {data.dtype}")
    if label.shape != data.shape[:1]:
        raise InputError(f"label must have shape {data.shape[:1]}, got {label.shape}")
    if run.config.model.class_conditional:
        whole_labels("label", label, num_classes=run.num_classes)


def averaged(
    draw: Callable[[Run, Key, Array, Array], Array],
    run: Run,
    data: Real[np.ndarray, "n *event"],
    label: Int[np.ndarray, "n"],
    *,
    draws: int,
    seed: int,
    kind: str,
    on_batch: OnBatch | None = None,
) -> BitsPerDim:
    """Average an estimate over its draws and the examples, batch by batch.

    The network's products are computed in the highest precision: by default a TPU's have eight
    bits, whose errors add up over the steps of a solution. Batches are sharded over all devices,
    which does not affect the draws.

    Args:
        draw: one draw for each example, ``(run, key, data, label) -> [batch]``.
        run: the trained run.
        data: examples.
        label: their classes.
        draws: of each example, each with a different key.
        seed: of the keys.
        kind: what is measured, as text.
        on_batch: called after each batch with its number of examples.

    Raises:
        InputError: as :func:`bits_per_dim`.
    """
    check_examples(run, data, label)
    check_count("draws must be an integer of at least 1", draws)
    run = run.with_matmul_precision(PRECISION)
    rows = sharding.batch_sharding(sharding.mesh())

    @functools.partial(jax.jit, compiler_options=compiler_options())
    def compiled(params: Params, key: Key, x: Array, label: Array) -> Array:
        x, label = jax.lax.with_sharding_constraint((x, label), rows)
        with jax.default_matmul_precision(PRECISION):
            return draw(dataclasses.replace(run, params=params), key, x, label)

    values = []
    for start in range(0, len(data), BATCH):
        part, classes = (jnp.asarray(a[start : start + BATCH]) for a in (data, label))
        total = jnp.zeros(len(part))
        for index in range(draws):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), start), index)
            total += compiled(run.params, key, part, classes)
            if on_batch is not None:
                on_batch(len(part))
        values.append(np.asarray(total, np.float64) / draws)
    bits = np.concatenate(values)
    error = float(bits.std(ddof=1) / np.sqrt(len(bits))) if len(bits) > 1 else None
    return BitsPerDim(float(bits.mean()), error, kind, len(bits), PRECISION)


def _kind(run: Run, t_min: float) -> str:
    """What is bounded, and how, as text."""
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
    levels, to_data = data.astype(jnp.float32), None
    decode = decoder(run.config, is_image=run.is_image)
    if not run.is_image:
        x0 = levels
    elif run.config.data.dequantize:
        levels += jax.random.uniform(data_key, levels.shape)
        to_data = functools.partial(dequantized, run)
        x0 = to_data(levels)
    else:
        x0 = low + (high - low) * levels / (NUM_LEVELS - 1)

    model = run.conditioned(label if run.config.model.class_conditional else None)
    process, chain = run.process, run.process.num_steps
    if chain is not None:
        latents = jnp.arange(chain, 0, -1) / chain
        elbo = losses.elbo_terms(
            bound_key, model, process, x0, times=latents, num_terms=1, decoder=decode
        )
    else:
        time = times.importance(time_key, len(x0), process, weights.likelihood, t_min=t_min)
        elbo = losses.continuous_elbo(
            bound_key, model, process, x0, time, t_min=t_min, decoder=decode
        )
    return losses.bits_per_dim(jnp.sum(jnp.stack(elbo), axis=0), levels, to_data=to_data)


def last_time(run: Run) -> float:
    """Time of the least noisy latent of a continuous process, not below the trained range."""
    loss = run.config.loss
    if loss.name in CONTINUOUS:  # trained on the bound from exactly this time
        return loss.t_min
    trained = loss.t_min or 1e-3
    if not run.is_image:
        return trained
    low, high = run.value_range
    level = (high - low) / (NUM_LEVELS - 1)
    return max(trained, float(schedules.karras_times(run.process, 1, sigma_min=level)[-1]))


def dequantized(run: Run, levels: Array) -> Array:
    """Scale levels plus a number in [0, 1) to the data's range, divided evenly among the levels."""
    low, high = run.value_range
    return low + (high - low) * levels / NUM_LEVELS
