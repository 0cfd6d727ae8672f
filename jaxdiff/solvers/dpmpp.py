"""DPM-Solver++ and its SDE, multistep: exponential integrators in the estimate of the data.

With λ = log(α/σ) the dynamics that preserve all marginals, with noise of amplitude η (0 the ODE, 1
the reverse SDE), are linear in x except for x̂_0, and solved over a step of h = λ_s − λ_t by

    x_s = (σ_s/σ_t) e^{−η²h} x_t + α_s ∫_0^1 k e^{−k(1−u)} x̂_0(λ_t + uh) du + σ_s √(1 − e^{−2η²h}) z

with k = (1 + η²)h. A constant x̂_0 gives order 1 (DDIM at η = 0, ancestral sampling at η = 1), a
line through the previous estimate order 2, a parabola through the previous two order 3.

The line of 2M is integrated by the midpoint rule, ½(1 − e^{−k}), as published, the parabola
exactly. (The published code of 3M uses half of the second difference, and is of order 2.)
"""

from collections.abc import Sequence

import jax.numpy as jnp

from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process
from jaxdiff.solvers.base import Solver, half_log_snr
from jaxdiff.solvers.multistep import WeightsFn, multistep
from jaxdiff.solvers.quadrature import POINTS, exponential_weights, lagrange
from jaxdiff.typing import Array, Float, Scalar


def dpmpp_1(denoise_fn: DenoiseFn, process: Process, *, eta: Scalar = 0.0) -> Solver:
    """DPM-Solver++ of order 1: DDIM at η = 0, SDE-DPM-Solver++ 1 (ancestral sampling) at η = 1.

    x_s = α_s x̂_0 + e^{−η²h} σ_s ε̂ + σ_s √(1 − e^{−2η²h}) z

    Args:
        denoise_fn: the model.
        process: the forward process.
        eta: amplitude of the noise, 0 for the ODE, 1 for the reverse SDE.

    Returns:
        A solver of order 1 with one evaluation per step.

    Raises:
        InputError: if eta is negative.

    Reference: Lu et al. 2022 (DPM-Solver++), eq. 8 at order 1, and section 6.
    """
    return multistep(
        denoise_fn, process, data_weights(process), length=0, view=lambda e: e.x0, eta=eta
    )


def dpmpp_2m(denoise_fn: DenoiseFn, process: Process, *, eta: Scalar = 0.0) -> Solver:
    """DPM-Solver++(2M), and at η = 1 SDE-DPM-Solver++(2M).

    The first-order step with x̂_0 + (h/2h') (x̂_0 − x̂_0') for x̂_0, where ' marks the previous step

    Args:
        denoise_fn: the model.
        process: the forward process.
        eta: amplitude of the noise, 0 for the ODE, 1 for the reverse SDE.

    Returns:
        A solver with one evaluation per step, of order 2 without noise; with noise the
        error of its mean is of order 2, and its weak order is 1.

    Raises:
        InputError: if eta is negative.

    Example:
        >>> import jax, jaxdiff
        >>> from jaxdiff import oracles, processes, schedules
        >>> process = processes.VP()
        >>> exact = oracles.gaussian(process, jnp.full(1, 3.0), jnp.zeros((1, 1)))  # all data are 3
        >>> x = processes.sample_prior(jax.random.key(0), process, (4, 1))
        >>> times = schedules.log_snr_times(process, 10)
        >>> x = jaxdiff.sample(jax.random.key(1), dpmpp_2m(exact, process), x, times)
        >>> bool(jnp.allclose(x, 3.0, atol=0.1))
        True

    Reference: Lu et al. 2022 (DPM-Solver++), algorithm 2 and section 6.
    """
    weights = data_weights(process, eta)
    return multistep(denoise_fn, process, weights, length=1, view=lambda e: e.x0, eta=eta)


def dpmpp_3m(denoise_fn: DenoiseFn, process: Process, *, eta: Scalar = 0.0) -> Solver:
    """DPM-Solver++(3M), and with noise its SDE.

    x̂_0(λ) is the parabola through the estimates of this step and of the previous two.

    Args:
        denoise_fn: the model.
        process: the forward process.
        eta: amplitude of the noise, 0 for the ODE, 1 for the reverse SDE.

    Returns:
        A solver with one evaluation per step, of order 3 without noise.

    Raises:
        InputError: if eta is negative.

    Reference: Lu et al. 2022 (DPM-Solver++), eq. 8 at order 3.
    """
    weights = data_weights(process, eta)
    return multistep(denoise_fn, process, weights, length=2, view=lambda e: e.x0, eta=eta)


def data_weights(process: Process, eta: Scalar = 0.0) -> WeightsFn:
    """Weights of earlier estimates of the data: none, those of a line or of a parabola.

    Args:
        process: the forward process.
        eta: amplitude of the noise.

    Returns:
        The weights_fn of :func:`jaxdiff.solvers.multistep.multistep`.
    """
    stiffness = 1 + jnp.square(jnp.asarray(eta))

    def weights_fn(t: Array, earlier: Sequence[Array], s: Array) -> list[Array]:
        now, *before = (half_log_snr(process, time) for time in (t, *earlier))
        width = half_log_snr(process, s) - now
        if len(earlier) == 1:
            return [0.5 * jnp.expm1(-stiffness * width) * width / (now - before[0])]
        return exact_weights([now, *before], width, stiffness * width)

    return weights_fn


def exact_weights(
    nodes: Sequence[Float[Array, ""]], width: Float[Array, ""], decay: Float[Array, ""]
) -> list[Float[Array, ""]]:
    """∫_0^1 k e^{−k(1−u)} ℓ_j(λ_0 + uh) du for every node except the first.

    Args:
        nodes: λ of the estimates; the first is λ_0, where the step begins.
        width: h, the length of the step in λ.
        decay: k, the decay over the step.

    Returns:
        One weight for each node except the first.
    """
    points = nodes[0] + width * jnp.asarray(POINTS, width.dtype)
    kernel = exponential_weights(decay)
    return [jnp.sum(kernel * basis) for basis in lagrange(list(nodes), points)[1:]]
