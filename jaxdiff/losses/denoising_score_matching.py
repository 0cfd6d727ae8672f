"""Denoising score matching: learn the score of noisy data from that of the noise itself.

Given x_0 the score of x_t = α x_0 + σ ε is known, ∇log q(x_t | x_0) = −ε/σ, and matching it

    J_DSM(t) = ½ E‖s(x_t, t) + ε/σ‖²

equals matching the marginal score ∇log p_t explicitly, up to a constant without parameters:

    J_DSM − J_ESM = ½ (D/σ² − E‖∇log p_t(x_t)‖²)                     (Vincent 2011, eq. 11)
"""

from collections.abc import Callable

import jax.numpy as jnp

from jaxdiff.arrays import expand_to, sum_events
from jaxdiff.processes import Process, perturb
from jaxdiff.typing import Array, Float, Key, Keys, WeightFn


def dsm(
    key: Key | Keys,
    score_fn: Callable[
        [Float[Array, "batch *event"], Float[Array, "batch"]], Float[Array, "batch *event"]
    ],
    process: Process,
    x0: Float[Array, "batch *event"],
    t: Float[Array, "batch"],
    *,
    weight_fn: WeightFn | None = None,
) -> Float[Array, "batch"]:
    """Denoising score matching at one noisy draw of each example.

    λ(t) ½‖s(x_t, t) + ε/σ(t)‖²

    One σ is a process at one t, NCSN's scales a ``DiscreteVE`` at its nodes; the SDEs take any t.

    Args:
        key: randomness of the noise.
        score_fn: ``(x_t, t) -> score``.
        process: the forward process.
        x0: data.
        t: one time per example, with σ(t) > 0.
        weight_fn: ``(process, t) -> weights``; NCSN's λ = σ² is
            ``partial(losses.weights.eps, target="score")``. 1 if None.

    Returns:
        Summed over the event.

    Example:
        >>> import jax
        >>> from jaxdiff.processes import VE
        >>> x0, t = jnp.zeros((2, 3)), jnp.ones(2)
        >>> process = VE(sigma_max=10.0)
        >>> loss = dsm(jax.random.key(0), lambda x, t: -x / 100, process, x0, t)
        >>> bool(jnp.allclose(loss, 0.0))  # all data are 0, so the score is that of the noise
        True

    Reference: Vincent 2011, eq. 9; Song & Ermon 2019, eq. 5 and 6.
    """
    x_t, eps = perturb(key, process, x0, t)
    error = 0.5 * sum_events(jnp.square(score_fn(x_t, t) + eps / expand_to(process.sigma(t), x0)))
    return error if weight_fn is None else weight_fn(process, t) * error
