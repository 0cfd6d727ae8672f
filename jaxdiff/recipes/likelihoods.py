"""L9: bits per dimension of a run by its probability-flow ODE.

The density is that of the run's own distribution: the prior transported by the ODE to the time at
which the bound of :mod:`jaxdiff.recipes.bounds` ends. Images are dequantised uniformly, which
bounds the probability of their levels. The divergence is estimated along one random direction per
solution.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import likelihood, losses
from jaxdiff.recipes.bounds import (
    BitsPerDim,
    OnBatch,
    averaged,
    check_examples,
    dequantized,
    last_time,
)
from jaxdiff.recipes.measures import NUM_LEVELS
from jaxdiff.recipes.run import Run
from jaxdiff.typing import Array, Int, Key, Real


def ode_bits_per_dim(
    run: Run,
    data: Real[np.ndarray, "n *event"],
    label: Int[np.ndarray, "n"],
    *,
    draws: int,
    seed: int,
    rtol: float = 1e-4,
    on_batch: OnBatch | None = None,
) -> BitsPerDim:
    """Estimate the bits per dimension of examples under a run, by its probability-flow ODE.

    −log₂ p(x) / D, with log p of :func:`jaxdiff.likelihood.log_likelihood`

    Args:
        run: the trained run.
        data: bytes for images, floats for vectors, as :func:`jaxdiff.data.take_all` returns them.
        label: their classes, used where the run is conditional.
        draws: solutions for each example, each with its own direction and dequantisation.
        seed: of directions and dequantisation.
        rtol: tolerance of a solution, relative and absolute.
        on_batch: called after each batch with its number of examples, ``n * draws`` in all.

    Returns:
        ``BitsPerDim(bits, std_error, kind, n, matmul_precision)``, an unbiased estimate: for
        vectors of −log₂ of their density, for images of an upper bound on −log₂ of the probability
        of their levels.

    Raises:
        InputError: as :func:`jaxdiff.recipes.bits_per_dim`; if ``rtol`` is not positive, or the
            solver does not reach the end.

    Example:
        >>> from jaxdiff import recipes
        >>> from jaxdiff.recipes.diffusion import init_params
        >>> config = recipes.Config(
        ...     network=recipes.choice("mlp", width=8, depth=1),
        ...     model=recipes.ModelConfig(kind="edm", data_std=1.0))
        >>> model = recipes.assemble(config, (2,), None)
        >>> run = recipes.Run(model, init_params(model, jax.random.key(0)))  # N(0, I), exactly
        >>> found = ode_bits_per_dim(run, np.zeros((1, 2)), np.zeros(1, int), draws=1, seed=0)
        >>> round(found.bits, 3)  # ½ log₂ 2π
        1.326

    Reference: Song et al. 2021, eq. 39; Theis et al. 2016, section 3.1.
    """
    t_min = last_time(run)
    scale = f"uniform dequantisation of {NUM_LEVELS} levels" if run.is_image else "density"
    kind = f"ODE likelihood from t = {t_min:.3g}, rtol {rtol:g}, Rademacher probe, {scale}"
    draw = functools.partial(_draw, t_min=t_min, rtol=rtol)
    return averaged(draw, run, data, label, draws=draws, seed=seed, kind=kind, on_batch=on_batch)


def check(
    run: Run, data: Real[np.ndarray, "n *event"], label: Int[np.ndarray, "n"], *, rtol: float
) -> None:
    """Refuse what :func:`ode_bits_per_dim` would refuse, without computing anything.

    Raises:
        InputError: as it does.
    """
    check_examples(run, data, label)
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
