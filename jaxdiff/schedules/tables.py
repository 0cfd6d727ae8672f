"""Noise tables of discrete processes: β_1 … β_T of a DDPM chain, σ_1 < … < σ_L of NCSN.

The chain is x_i = √(1 − β_i) x_{i−1} + √β_i ε. Only this folder uses β and ᾱ = ∏(1 − β);
everywhere else α is the scale of the signal, DDPM's √ᾱ.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.checks import check_count, is_count, known_scalar
from jaxdiff.typing import Array, ArrayLike, Float, InputError, Real


def linear_betas(
    num_steps: int, *, beta_start: float = 1e-4, beta_end: float = 0.02
) -> Float[Array, "{num_steps}"]:
    """DDPM's schedule: β rises linearly.

    Args:
        num_steps: length T of the chain.
        beta_start: β_1, in (0, 1).
        beta_end: β_T, in (0, 1).

    Raises:
        InputError: if T < 1 or a β is outside (0, 1).

    Example:
        >>> linear_betas(3, beta_start=0.1, beta_end=0.3)
        Array([0.1, 0.2, 0.3], dtype=float32)

    Reference: Ho et al. 2020, section 4.
    """
    _check_betas(num_steps, beta_start=beta_start, beta_end=beta_end)
    return jnp.linspace(beta_start, beta_end, num_steps)


def quadratic_betas(
    num_steps: int, *, beta_start: float = 1e-4, beta_end: float = 0.02
) -> Float[Array, "{num_steps}"]:
    """√β rises linearly (the "scaled linear" schedule of latent diffusion).

    Args:
        num_steps: length T of the chain.
        beta_start: β_1, in (0, 1).
        beta_end: β_T, in (0, 1).

    Raises:
        InputError: if T < 1 or a β is outside (0, 1).

    Reference: Rombach et al. 2022; Ho et al. 2020, appendix.
    """
    _check_betas(num_steps, beta_start=beta_start, beta_end=beta_end)
    return jnp.linspace(math.sqrt(beta_start), math.sqrt(beta_end), num_steps) ** 2


def constant_betas(num_steps: int, *, beta: float = 0.02) -> Float[Array, "{num_steps}"]:
    """All β equal.

    Args:
        num_steps: length T of the chain.
        beta: in (0, 1).

    Raises:
        InputError: if T < 1 or β is outside (0, 1).

    Reference: Sohl-Dickstein et al. 2015; Ho et al. 2020, appendix.
    """
    _check_betas(num_steps, beta=beta)
    return jnp.full(num_steps, beta)


def sigmoid_betas(
    num_steps: int, *, beta_start: float = 1e-4, beta_end: float = 0.02, steepness: float = 6.0
) -> Float[Array, "{num_steps}"]:
    """β rises along a logistic curve evaluated from −steepness to +steepness.

    Args:
        num_steps: length T of the chain.
        beta_start: lower asymptote, in (0, 1).
        beta_end: upper asymptote, in (0, 1).
        steepness: half-width of the range of the logistic function.

    Raises:
        InputError: if T < 1 or a β is outside (0, 1).

    Reference: Xu et al. 2022 (GeoDiff), appendix.
    """
    _check_betas(num_steps, beta_start=beta_start, beta_end=beta_end)
    rise = jax.nn.sigmoid(jnp.linspace(-steepness, steepness, num_steps))
    return beta_start + (beta_end - beta_start) * rise


def cosine_betas(
    num_steps: int, *, s: float = 0.008, max_beta: float = 0.999
) -> Float[Array, "{num_steps}"]:
    """ᾱ_i = f(i/T) / f(0) with f(t) = cos²(½π (t + s)/(1 + s)), and β_i = 1 − ᾱ_i/ᾱ_{i−1}, capped.

    The ratio is taken through cos²a − cos²(a + δ) = sin(2a + δ) sin δ, which does not cancel.

    Args:
        num_steps: length T of the chain.
        s: offset that keeps the first β from vanishing.
        max_beta: cap on β, at most 1; at 1 the last step removes all signal.

    Raises:
        InputError: if T < 1, max_beta is outside (0, 1], or s is negative or not finite.

    Reference: Nichol & Dhariwal 2021, eq. 17.
    """
    _check_betas(num_steps, **({} if max_beta == 1 else {"max_beta": max_beta}))
    known_scalar("s must be finite and at least 0", s, 0)
    step = 0.5 * math.pi / (1 + s) / num_steps
    # The angle remaining to π/2, accurate where the cosine itself vanishes.
    left = step * np.arange(num_steps, 0, -1)
    betas = np.sin(2 * left - step) * math.sin(step) / np.sin(left) ** 2
    return jnp.asarray(np.minimum(betas, max_beta), jnp.result_type(float))


def zero_terminal_snr(betas: Real[ArrayLike, "steps"]) -> Float[Array, "steps"]:
    """Rescale the betas of a chain so that it ends without signal.

    √ᾱ'_i = √ᾱ_1 (√ᾱ_i − √ᾱ_T)/(√ᾱ_1 − √ᾱ_T),    β'_T = 1

    Args:
        betas: β_1 … β_T, T ≥ 2, each in (0, 1).

    Returns:
        Betas with the same β_1.

    Raises:
        InputError: if there are fewer than two, or one is outside (0, 1).

    Example:
        >>> betas = zero_terminal_snr(jnp.array([0.19, 0.36, 0.36]))  # √ᾱ: 0.9, 0.4, 0
        >>> [round(float(beta), 4) for beta in betas]
        [0.19, 0.8025, 1.0]

    Reference: Lin et al. 2024, algorithm 1.
    """
    numbers = np.asarray(betas, np.float64)
    if numbers.ndim != 1 or len(numbers) < 2 or not np.all((numbers > 0) & (numbers < 1)):
        raise InputError(
            f"betas must be at least two numbers strictly between 0 and 1, got {betas}"
        )
    root = np.sqrt(np.cumprod(1 - numbers))
    scaled = root[0] * (root - root[-1]) / (root[0] - root[-1])
    ratios = np.append(scaled[0], scaled[1:] / scaled[:-1]) ** 2
    return jnp.asarray(1 - ratios, jnp.result_type(float))


def geometric_sigmas(
    num_scales: int, *, sigma_min: float, sigma_max: float
) -> Float[Array, "{num_scales}"]:
    """NCSN's noise scales: σ_1 = σ_min to σ_L = σ_max with a constant ratio, increasing.

    Args:
        num_scales: number L of noise scales.
        sigma_min: σ_1 > 0, in units of the data.
        sigma_max: σ_L ≥ σ_min.

    Returns:
        Increasing.

    Raises:
        InputError: if L < 1 or not 0 < σ_min ≤ σ_max.

    Example:
        >>> geometric_sigmas(3, sigma_min=0.01, sigma_max=1.0).round(3)
        Array([0.01, 0.1 , 1.  ], dtype=float32)

    Reference: Song & Ermon 2019, section 4.3.
    """
    if not is_count(num_scales) or not 0 < sigma_min <= sigma_max < math.inf:
        raise InputError(
            "geometric_sigmas requires num_scales >= 1 and finite 0 < sigma_min <= sigma_max, got "
            f"num_scales={num_scales}, sigma_min={sigma_min}, sigma_max={sigma_max}"
        )
    return jnp.exp(jnp.linspace(math.log(sigma_min), math.log(sigma_max), num_scales))


def _check_betas(num_steps: int, **betas: float) -> None:
    check_count("num_steps, the length of the chain, must be a positive integer", num_steps)
    for name, value in betas.items():
        if not 0 < value < 1:
            raise InputError(f"{name} must be strictly between 0 and 1, got {value}")
