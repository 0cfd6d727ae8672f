"""Langevin dynamics: steps at one time t, which leave its distribution p_t invariant.

One step of size a on the score ∇log p_t = −ε̂/σ,

    x ← x − a ε̂/σ + √(2a) z,

has the stationary distribution p_t up to an error of order a: for a Gaussian of variance v the mean
is exact, and the variance too large by a factor of 1/(1 − a/2v). Both rules below choose a
proportional to σ², and with a = cσ² the step is x ← x − cσ ε̂ + σ√(2c) z, without any division.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from jaxdiff.arrays import SIGMA_FLOOR, expand_to, std_of, sum_events
from jaxdiff.checks import check_count, check_one_of, known_scalar
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process
from jaxdiff.solvers.base import Solver, one_step
from jaxdiff.typing import Array, Key, Scalar

SMALLEST_NOISE = 1e-6
"""Least ‖ε̂‖/√D that a step is divided by: at σ = 0 it then does nothing, for any ε̂."""

Norms = Literal["example", "batch"]
LANGEVIN_STEPS = "num_steps, the number of Langevin steps, must be a positive integer"


def langevin(
    denoise_fn: DenoiseFn,
    process: Process,
    *,
    snr: Scalar = 0.16,
    num_steps: int = 1,
    norms: Norms = "example",
) -> Solver:
    """Score_sde's corrector: Langevin steps whose length adapts to the norm of the score.

    a = 2 (snr · σ ‖z‖/‖ε̂‖)²,    x ← x − a ε̂/σ + √(2a) z,    num_steps times, all at t

    A step of this solver stays at its first time t and ignores the second: use it in
    :func:`predictor_corrector`, or by itself. On VP the paper multiplies a by 1 − β_i,
    which on DDPM's chain is within 2% of 1; here it is 1, for every process.

    With the exact score of isotropic Gaussian data the stationary variance is too large by a factor
    of 1 + snr². In high dimension the norm of one example reflects the noise level; in fewer than
    about ten dimensions use the norms of the batch, or an example whose ε̂ happens to vanish makes
    an enormous step.

    Args:
        denoise_fn: the model.
        process: the forward process.
        snr: ratio r of the lengths of drift and noise in a step, positive.
        num_steps: corrections at each time, the paper's M.
        norms: "example" uses the norms of each example; "batch" their means over the batch, as
            the published code does, so that a sample depends on the rest of its batch.

    Returns:
        A stochastic corrector with ``num_steps`` evaluations per step.

    Raises:
        InputError: if snr is not positive, num_steps < 1, or norms is neither of these.

    Example:
        >>> from jaxdiff import oracles, processes
        >>> process = processes.VE(sigma_min=0.01, sigma_max=10.0)
        >>> exact = oracles.gaussian(process, jnp.zeros(2), jnp.eye(2))
        >>> corrector, t = langevin(exact, process, num_steps=3), jnp.array(0.5)
        >>> state = corrector.init(jnp.ones((4, 2)), t)
        >>> corrector.step(jax.random.key(0), state, t, t).x.shape
        (4, 2)

    Reference: Song et al. 2021, algorithms 4 and 5.
    """
    known_scalar("snr must be positive and finite", snr, 0, strict=True)
    check_count(LANGEVIN_STEPS, num_steps)
    check_one_of(norms=(norms, Norms))

    def move(x: Array, eps: Array, sigma: Array, z: Array) -> Array:
        of_z, of_eps = _norms(z), _norms(eps)
        if norms == "batch":
            of_z, of_eps = jnp.mean(of_z), jnp.mean(of_eps)
        least = SMALLEST_NOISE * (z.size / z.shape[0]) ** 0.5
        ratio = expand_to(snr * of_z / jnp.maximum(of_eps, least), x)  # a = 2σ² ratio²
        return x - 2 * sigma * ratio * (ratio * eps - z)

    return one_step(lambda key, x, t, s: _steps_at(key, denoise_fn, process, x, t, move, num_steps))


def annealed_langevin(
    denoise_fn: DenoiseFn,
    process: Process,
    *,
    step_size: Scalar = 0.062,
    num_steps: int = 5,
    denoise: bool = True,
) -> Solver:
    """NCSN's sampler: Langevin steps at every noise scale, from the largest to the smallest.

    x ← x − a ε̂/σ + √(2a) z,    a = step_size · σ(t)²,    num_steps times at t

    A step from t to s stays at t; moving on to s only changes the score. If σ(s) = 0 it ends with
    x̂_0(x, t), NCSNv2's final denoising. On ``DiscreteVE.from_sigmas`` with L scales the grid
    ``uniform_times(L)`` visits every scale once and ends in this way. Since x is not rescaled from
    t to s, this is a sampler for VE; on other processes it serves as a corrector. The fractions of
    samples in several distant modes are decided as the noise decreases, with an error of about
    1/num_steps.

    The papers write ε σ_i²/σ_L², with σ_L the least of the σ: NCSNv2 for our a, hence
    step_size = ε/σ_L² (CIFAR-10: 6.2e-6/0.01² = 0.062 with 5 steps on 232 scales); NCSN for 2a,
    since it moves by half of it, hence ε/(2σ_L²) (2e-5/(2 · 0.01²) = 0.1 with 100 steps on 10).

    Args:
        denoise_fn: the model.
        process: the forward process.
        step_size: a/σ², in (0, 2); beyond it the steps are unstable where the data are narrow.
        num_steps: steps at each time, the papers' T.
        denoise: whether a step that ends where σ = 0 returns x̂_0.

    Returns:
        A stochastic solver with ``num_steps`` evaluations per step, and one more to denoise.

    Raises:
        InputError: if step_size is not in (0, 2), or num_steps < 1.

    Example:
        >>> import jaxdiff
        >>> from jaxdiff import oracles, processes, schedules
        >>> sigmas = schedules.geometric_sigmas(20, sigma_min=0.01, sigma_max=10.0)
        >>> process = processes.DiscreteVE.from_sigmas(sigmas)
        >>> exact = oracles.gaussian(process, jnp.full(1, 3.0), jnp.zeros((1, 1)))  # all data are 3
        >>> x = processes.sample_prior(jax.random.key(0), process, (4, 1))
        >>> solver = annealed_langevin(exact, process)
        >>> x = jaxdiff.sample(jax.random.key(1), solver, x, schedules.uniform_times(20))
        >>> bool(jnp.allclose(x, 3.0))
        True

    Reference: Song & Ermon 2019, algorithm 1; Song & Ermon 2020, algorithm 1.
    """
    requirement = "step_size, relative to sigma squared, must be in (0, 2)"
    known_scalar(requirement, step_size, 0, 2, strict=True)
    check_count(LANGEVIN_STEPS, num_steps)

    def move(x: Array, eps: Array, sigma: Array, z: Array) -> Array:
        return x - step_size * sigma * eps + sigma * jnp.sqrt(2 * jnp.asarray(step_size)) * z

    def step(key: Key, x: Array, t: Array, s: Array) -> Array:
        x = _steps_at(key, denoise_fn, process, x, t, move, num_steps)
        if not denoise:
            return x
        last = process.sigma(s) <= SIGMA_FLOOR
        return jax.lax.cond(last, lambda: denoise_fn(x, t).x0.astype(x.dtype), lambda: x)

    return one_step(step)


def _steps_at(
    key: Key,
    denoise_fn: DenoiseFn,
    process: Process,
    x: Array,
    t: Array,
    move: Callable[[Array, Array, Array, Array], Array],
    num_steps: int,
) -> Array:
    """``num_steps`` times x ← move(x, ε̂(x, t), σ(t), z), each with its own key."""
    sigma = process.sigma(t)

    def once(x: Array, key: Key) -> tuple[Array, None]:
        z = jax.random.normal(key, x.shape, x.dtype)
        return move(x, denoise_fn(x, t).eps, sigma, z).astype(x.dtype), None

    x, _ = jax.lax.scan(once, x, jax.random.split(key, num_steps))
    return x


def _norms(x: Array) -> Array:
    """Norm of every example, with a finite slope at zero."""
    return std_of(sum_events(x**2))
