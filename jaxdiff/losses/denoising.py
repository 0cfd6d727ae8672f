"""The denoising loss: estimate the noise in x_t, or anything equivalent to it.

L(x_0; t) = λ(t) ‖target(x_0, ε) − target(x̂_0, ε̂)‖²,    x_t = α x_0 + σ ε.

Its minimiser over all functions of (x_t, t) is the conditional mean E[target | x_t] for every
positive λ, hence the score of p_t: denoising is score matching (Vincent 2011).
"""

import jax.numpy as jnp

from jaxdiff.arrays import sum_events
from jaxdiff.checks import check_one_of
from jaxdiff.losses.weights import Target
from jaxdiff.predictions import Denoised, DenoiseFn, from_denoised
from jaxdiff.processes import Process, perturb
from jaxdiff.typing import Array, Float, Key, Keys, WeightFn


def denoising(
    key: Key | Keys,
    denoise_fn: DenoiseFn,
    process: Process,
    x0: Float[Array, "batch *event"],
    t: Float[Array, "batch"],
    *,
    target: Target = "eps",
    weight_fn: WeightFn | None = None,
) -> Float[Array, "batch"]:
    """Squared error of the estimate at one noisy draw of each example.

    λ(t) ‖target − target̂‖²

    Args:
        key: randomness of the noise.
        denoise_fn: the model.
        process: the forward process.
        x0: data.
        t: one time per example.
        target: the quantity whose error is measured: "eps", "x0", "v" or "score"; independent of
            what the network inside ``denoise_fn`` predicts.
        weight_fn: ``(process, t) -> weights``, as in :mod:`jaxdiff.losses.weights`; 1 if None.

    Returns:
        Summed over the event.

    Raises:
        InputError: if ``target`` is none of these.

    Example:
        >>> import jax
        >>> from jaxdiff import oracles, processes
        >>> process = processes.VP()
        >>> exact = oracles.gaussian(process, jnp.zeros(2), jnp.eye(2))
        >>> x0 = jax.random.normal(jax.random.key(0), (4, 2))
        >>> denoising(jax.random.key(1), exact, process, x0, jnp.full(4, 0.5)).shape
        (4,)

    Reference: Ho et al. 2020, eq. 14; Vincent 2011, eq. 9.
    """
    check_one_of(target=(target, Target))
    x_t, eps = perturb(key, process, x0, t)
    scales = process.alpha(t), process.sigma(t)
    truth = from_denoised(Denoised(x0, eps), x_t, *scales, kind=target)
    estimate = from_denoised(denoise_fn(x_t, t), x_t, *scales, kind=target)
    error = sum_events(jnp.square(truth - estimate))
    return error if weight_fn is None else weight_fn(process, t) * error
