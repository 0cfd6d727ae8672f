"""Weightings λ(t) of the denoising loss, each defined once and usable with every target.

The errors that one estimate makes in ε, x0, v and the score differ by known factors:

    ‖Δε‖² = SNR ‖Δx0‖² = σ² ‖Δscore‖² = α²/(α² + σ²)² ‖Δv‖²,    SNR = α²/σ².

So a weighting is a weight on the error in ε, and :func:`per_target` converts it to a weight on
whichever error is measured: ``target`` never changes the loss, only its conditioning. Weights are
multiplied as logarithms; where one diverges (at the data itself, SNR and g²/σ²) it is capped at
e⁸⁰, so that its product with an error of zero is zero.

    eps         1                       L_simple; also λ = σ² on the score (NCSN, Song 2021)
    x0          1/SNR                   the error in x0 itself
    likelihood  ½g²/σ²                  a bound on −log p in nats: half the likelihood weighting
    likelihood_weighting  g²/σ²         λ = g² on the score (Song 2021b; score_sde)
    min_snr     min(SNR, γ)/SNR         Hang et al. 2023
    p2          (k + SNR)^{−γ}          Choi et al. 2022
    edm         (α²σ_d² + σ²)/(ασ_d)²   the error in F, of unit variance at every noise level
    posterior   (α_s(1 − r))²/SNR       the error in the posterior's mean, r = SNR_t/SNR_s
"""

from typing import Literal

import jax.numpy as jnp

from jaxdiff.checks import check_one_of
from jaxdiff.processes import Process, drift_diffusion, one_minus_snr_ratio
from jaxdiff.typing import Array, Float, Scalar

Target = Literal["eps", "x0", "v", "score"]
"""The quantities whose error a weight multiplies."""


def eps(
    process: Process, t: Float[Array, "*shape"], *, target: Target = "eps"
) -> Float[Array, "*shape"]:
    """Weight 1 on the error in ε: L_simple, and λ = σ² on the error in the score.

    Args:
        process: the forward process.
        t: times, positive.
        target: which squared error the weight multiplies: "eps", "x0", "v" or "score".

    Reference: Ho et al. 2020, eq. 14; Song & Ermon 2019, section 4.2.
    """
    return per_target(process, t, jnp.zeros_like(t), target=target)


def x0(
    process: Process, t: Float[Array, "*shape"], *, target: Target = "eps"
) -> Float[Array, "*shape"]:
    """Weight 1 on the error in x0.

    Args:
        process: the forward process.
        t: times, positive.
        target: which squared error the weight multiplies: "eps", "x0", "v" or "score".

    Reference: Salimans & Ho 2022, section 4.
    """
    return per_target(process, t, -process.log_snr(t), target=target)


def likelihood(
    process: Process, t: Float[Array, "*shape"], *, target: Target = "eps"
) -> Float[Array, "*shape"]:
    """½g² on the error in the score: integrated over t, an upper bound on −log p up to a constant.

    Args:
        process: the forward process.
        t: times, positive.
        target: which squared error the weight multiplies: "eps", "x0", "v" or "score".

    Returns:
        In nats per unit of time.

    Reference: Song et al. 2021b, theorem 1.
    """
    _, g2 = drift_diffusion(process, t)
    log_weight = jnp.log(0.5 * g2) - 2 * jnp.log(process.sigma(t))
    return per_target(process, t, log_weight, target=target)


def likelihood_weighting(
    process: Process, t: Float[Array, "*shape"], *, target: Target = "eps"
) -> Float[Array, "*shape"]:
    """g² on the error in the score, twice :func:`likelihood`: λ of Song et al. and score_sde.

    Args:
        process: the forward process.
        t: times, positive.
        target: which squared error the weight multiplies: "eps", "x0", "v" or "score".

    Reference: Song et al. 2021b, theorem 1, without its ½; score_sde's ``losses.py``.
    """
    return 2 * likelihood(process, t, target=target)


def posterior(
    process: Process, t: Float[Array, "*shape"], *, num_steps: int, target: Target = "eps"
) -> Float[Array, "*shape"]:
    """Weight 1 on the error in the posterior's mean, one step of a chain of T towards the data.

    ‖μ(x_t, x_0) − μ(x_t, x̂_0)‖² = (α_s(1 − SNR_t/SNR_s))² ‖x_0 − x̂_0‖²,  s = t − 1/T

    Args:
        process: the forward process.
        t: nodes i/T of the chain.
        num_steps: length T of the chain.
        target: which squared error the weight multiplies: "eps", "x0", "v" or "score".

    Example:
        >>> from jaxdiff.processes import VE
        >>> posterior(VE(), jnp.array([0.01]), num_steps=100, target="x0").round(3)  # 1 − e^{−0.17}
        Array([0.025], dtype=float32)

    Reference: Ho et al. 2020, eq. 8 and 10.
    """
    s = jnp.maximum(t - 1 / num_steps, 0.0)
    log_moved = process.log_alpha(s) + jnp.log(one_minus_snr_ratio(process, s=s, t=t))
    return per_target(process, t, 2 * log_moved - process.log_snr(t), target=target)


def min_snr(
    process: Process, t: Float[Array, "*shape"], *, target: Target = "eps", gamma: Scalar = 5.0
) -> Float[Array, "*shape"]:
    """min(SNR, γ) on the error in x0.

    Args:
        process: the forward process.
        t: times, positive.
        target: which squared error the weight multiplies: "eps", "x0", "v" or "score".
        gamma: cap on the signal-to-noise ratio.

    Example:
        >>> from jaxdiff.processes import VE
        >>> process = VE(sigma_min=0.1, sigma_max=10.0)  # SNR is 100, 1 and 0.01
        >>> min_snr(process, jnp.array([0.0, 0.5, 1.0]), target="x0").round(2)
        Array([5.  , 1.  , 0.01], dtype=float32)

    Reference: Hang et al. 2023, section 3.4.
    """
    log_capped = jnp.minimum(0.0, jnp.log(gamma) - process.log_snr(t))
    return per_target(process, t, log_capped, target=target)


def p2(
    process: Process,
    t: Float[Array, "*shape"],
    *,
    target: Target = "eps",
    gamma: Scalar = 1.0,
    k: Scalar = 1.0,
) -> Float[Array, "*shape"]:
    """(k + SNR)^{−γ} on the error in ε: less weight on low noise levels, more on content.

    Args:
        process: the forward process.
        t: times, positive.
        target: which squared error the weight multiplies: "eps", "x0", "v" or "score".
        gamma: strength; 0 is L_simple.
        k: bounds the weight where SNR vanishes.

    Example:
        >>> from jaxdiff.processes import VE
        >>> p2(VE(sigma_min=0.1, sigma_max=10.0), jnp.array([0.0, 0.5, 1.0]))
        Array([0.00990099, 0.5       , 0.990099  ], dtype=float32)

    Reference: Choi et al. 2022, eq. 8.
    """
    log_weight = -jnp.asarray(gamma) * jnp.logaddexp(jnp.log(k), process.log_snr(t))
    return per_target(process, t, log_weight, target=target)


def edm(
    process: Process, t: Float[Array, "*shape"], *, target: Target = "eps", data_std: Scalar = 0.5
) -> Float[Array, "*shape"]:
    """Weight 1 on the error in EDM's F: the initial loss is equal at all noise levels.

    Args:
        process: the forward process.
        t: times, positive.
        target: which squared error the weight multiplies: "eps", "x0", "v" or "score".
        data_std: standard deviation σ_d of the data.

    Reference: Karras et al. 2022, eq. 8 and table 1.
    """
    log_weight = jnp.logaddexp(0.0, -process.log_snr(t) - 2 * jnp.log(data_std))
    return per_target(process, t, log_weight, target=target)


LARGEST = 80.0
"""Logarithm of the largest weight: e⁸⁰ is finite in float32."""


def per_target(
    process: Process,
    t: Float[Array, "*shape"],
    log_on_eps: Float[Array, "*shape"],
    *,
    target: Target,
) -> Float[Array, "*shape"]:
    """Convert a weight on the error in ε to a weight on the error in ``target``.

    Args:
        process: the forward process.
        t: times.
        log_on_eps: logarithm of the weight on ‖Δε‖².
        target: "eps", "x0", "v" or "score".

    Raises:
        InputError: if ``target`` is none of these.
    """
    check_one_of(target=(target, Target))
    match target:
        case "eps":
            log_factor = jnp.zeros_like(t)
        case "x0":
            log_factor = process.log_snr(t)
        case "v":
            log_alpha, log_variance = process.log_alpha(t), 2 * jnp.log(process.sigma(t))
            log_factor = 2 * (log_alpha - jnp.logaddexp(2 * log_alpha, log_variance))
        case _:
            log_factor = 2 * jnp.log(process.sigma(t))
    return jnp.exp(jnp.minimum(log_on_eps + log_factor, LARGEST))
