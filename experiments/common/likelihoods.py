"""Bits per dimension of a trained run by its probability-flow ODE, with the standard error.

The density is that of the run's own law, the prior carried by the ODE to the time at which the
bound of :mod:`experiments.common.bounds` ends; images are dequantised uniformly, which bounds the
probability of their levels. The divergence is estimated along one random direction a solution.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.bounds import NUM_LEVELS, Bound, averaged, dequantized, last_time
from jaxdiff import likelihood, losses
from jaxdiff.recipes import Run
from jaxdiff.typing import Array, Key


def ode_bits_per_dim(
    run: Run, data: np.ndarray, label: np.ndarray, *, draws: int, rtol: float, seed: int
) -> Bound:
    """Measure bits per dimension by the instantaneous change of variables.

    Args:
        run: the trained run.
        data: bytes ``[n, h, w, c]`` or vectors ``[n, d]``.
        label: their classes ``[n]``, used where the run is conditional.
        draws: solutions for each example, each with its own direction and dequantisation.
        rtol: tolerance of a solution, relative and absolute.
        seed: of directions and dequantisation.

    Returns:
        ``Bound``: for vectors an unbiased estimate of their density, for images of a bound.
    """
    t_min = last_time(run)
    scale = f"uniform dequantisation of {NUM_LEVELS} levels" if run.is_image else "density"
    kind = f"ODE likelihood from t = {t_min:.3g}, rtol {rtol:g}, Rademacher probe, {scale}"
    draw = functools.partial(_draw, t_min=t_min, rtol=rtol)
    return averaged(draw, run, data, label, draws=draws, seed=seed, kind=kind)


def check(run: Run, data: np.ndarray, label: np.ndarray, *, rtol: float) -> None:
    """Refuse whatever :func:`ode_bits_per_dim` would refuse, without computing anything.

    Raises:
        InputError: as it does.
    """
    draw = functools.partial(_draw, run, t_min=last_time(run), rtol=rtol)
    jax.eval_shape(draw, jax.random.key(0), data[:1], label[:1])


def _draw(run: Run, key: Key, data: Array, label: Array, *, t_min: float, rtol: float) -> Array:
    """Bits per dimension of each example along one direction."""
    model = run.conditioned(label if run.config.model.class_conditional else None)

    def log_prob(key: Key, x0: Array) -> Array:
        return likelihood.log_likelihood(
            key, model, run.process, x0, num_probes=1, t_min=t_min, rtol=rtol, atol=rtol
        ).log_prob

    levels = data.astype(jnp.float32)
    if not run.is_image:
        return losses.bits_per_dim(-log_prob(key, levels), levels)
    to_data = functools.partial(dequantized, run)
    nats = -likelihood.dequantized_log_likelihood(key, log_prob, levels, to_data=to_data)
    return losses.bits_per_dim(nats, levels)
