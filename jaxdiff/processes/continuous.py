"""Processes given by formulas: VP, sub-VP, VE and the cosine VP."""

import math

import jax.numpy as jnp
import numpy as np

from jaxdiff.checks import check_known, known
from jaxdiff.processes.base import Process
from jaxdiff.typing import Array, ArrayLike, Float, InputError, Real, Scalar


class VP(Process):
    """Variance-preserving SDE, the limit of DDPM's chain: β(t) linear, α² + σ² = 1.

    log α(t) = −¼t²(β_max − β_min) − ½tβ_min,    σ²(t) = 1 − α²(t)

    Args:
        beta_min: β(0), per unit of time.
        beta_max: β(1), per unit of time.

    Raises:
        InputError: if one is negative or not finite, or both are 0.

    Example:
        >>> round(float(VP(beta_min=0.1, beta_max=20.0).log_alpha(1.0)), 4)
        -5.025

    Reference: Song et al. 2021, eq. 32 and 33.
    """

    beta_min: Scalar = 0.1
    beta_max: Scalar = 20.0

    def __post_init__(self) -> None:
        _check_betas(self.beta_min, self.beta_max)

    def log_alpha(self, t: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """See :meth:`Process.log_alpha`."""
        return _linear_beta_log_alpha(t, self.beta_min, self.beta_max)

    def variance(self, t: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """See :meth:`Process.variance`."""
        return -jnp.expm1(2 * self.log_alpha(t))


class SubVP(Process):
    """Sub-VP SDE: the α of :class:`VP`, with a variance bounded above by that of VP.

    σ(t) = 1 − α²(t): the standard deviation itself, not its square

    Args:
        beta_min: β(0), per unit of time.
        beta_max: β(1), per unit of time.

    Raises:
        InputError: if one is negative or not finite, or both are 0.

    Reference: Song et al. 2021, eq. 28 and 29.
    """

    beta_min: Scalar = 0.1
    beta_max: Scalar = 20.0

    def __post_init__(self) -> None:
        _check_betas(self.beta_min, self.beta_max)

    def log_alpha(self, t: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """See :meth:`Process.log_alpha`."""
        return _linear_beta_log_alpha(t, self.beta_min, self.beta_max)

    def variance(self, t: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """See :meth:`Process.variance`."""
        return jnp.expm1(2 * self.log_alpha(t)) ** 2


class VE(Process):
    """Variance-exploding SDE, the limit of NCSN's scales: α = 1, σ(t) = σ_min (σ_max/σ_min)^t.

    Args:
        sigma_min: σ(0) > 0, in units of the data: the noise that remains at t = 0.
        sigma_max: σ(1), in units of the data; about the largest distance between two examples.

    Raises:
        InputError: if not 0 < σ_min < σ_max, both finite.

    Example:
        >>> round(float(VE(sigma_min=0.01, sigma_max=50.0).sigma(1.0)), 3)
        50.0

    Reference: Song et al. 2021, eq. 30 and 31.
    """

    sigma_min: Scalar = 0.01
    sigma_max: Scalar = 50.0

    def __post_init__(self) -> None:
        check_known(
            lambda low, high: (low > 0) & (low < high) & np.isfinite(high),
            self.sigma_min,
            self.sigma_max,
            requirement="VE requires finite 0 < sigma_min < sigma_max",
            got="sigma_min={}, sigma_max={}",
        )

    @property
    def starts_without_noise(self) -> bool:
        """False: σ(0) is σ_min."""
        return False

    def log_alpha(self, t: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """See :meth:`Process.log_alpha`."""
        return jnp.zeros_like(jnp.asarray(t) * 1.0)

    def variance(self, t: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """See :meth:`Process.variance`."""
        log_min, log_max = jnp.log(self.sigma_min), jnp.log(self.sigma_max)
        return jnp.exp(2 * (log_min + t * (log_max - log_min)))


class CosineVP(Process):
    """Cosine schedule in continuous time, with a finite terminal log SNR.

    α(t) = cos φ(t) / cos φ(0), φ linear in t from ½πs/(1+s) to the angle at which
    α² = sigmoid(log_snr_min). The published schedule lets φ reach ½π, where α = 0 and
    ε-prediction is undefined; at −20 the two differ by 5e-5 in φ.

    Args:
        s: offset of the first angle.
        log_snr_min: log SNR at t = 1; a chain of 1000 steps with β ≤ 0.999 ends at −20.

    Raises:
        InputError: if s is negative, or either is not finite.

    Example:
        >>> round(float(CosineVP(log_snr_min=-10.0).log_snr(1.0)), 3)
        -10.0

    Reference: Nichol & Dhariwal 2021, eq. 17.
    """

    s: Scalar = 0.008
    log_snr_min: Scalar = -20.0

    def __post_init__(self) -> None:
        first, last = known(self.s), known(self.log_snr_min)
        bad_offset = first is not None and not np.all((first >= 0) & np.isfinite(first))
        if bad_offset or (last is not None and not np.all(np.isfinite(last))):
            raise InputError(
                f"CosineVP requires a finite s >= 0 and a finite log_snr_min, got s={self.s}, "
                f"log_snr_min={self.log_snr_min}"
            )

    def log_alpha(self, t: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """See :meth:`Process.log_alpha`."""
        # Two forms of one number: near the data from σ², which does not cancel there; near the
        # noise from the angle remaining to ½π, which stays accurate where the cosine vanishes.
        first, last = self._complements()
        near_noise = jnp.log(jnp.sin((1 - t) * first + t * last) / jnp.sin(first))
        near_data = 0.5 * jnp.log1p(-jnp.minimum(self.variance(t), 0.9))
        return jnp.where(jnp.asarray(t) < 0.5, near_data, near_noise)

    def variance(self, t: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """See :meth:`Process.variance`. 1 − cos²φ/cos²φ₀ = sin(φ − φ₀) sin(φ + φ₀) / cos²φ₀."""
        first, last = self._complements()
        turned = t * (first - last)
        start = 0.5 * math.pi - first
        return jnp.sin(turned) * jnp.sin(turned + 2 * start) / jnp.sin(first) ** 2

    def _complements(self) -> tuple[Array, Array]:
        """Angles remaining to ½π at t = 0 and at t = 1."""
        first = 0.5 * math.pi / (1 + jnp.asarray(self.s))
        alpha_min = jnp.exp(-0.5 * jnp.logaddexp(0.0, -jnp.asarray(self.log_snr_min)))
        return first, jnp.arcsin(alpha_min * jnp.sin(first))


def _linear_beta_log_alpha(t: ArrayLike, beta_min: ArrayLike, beta_max: ArrayLike) -> Array:
    """−½∫β for β rising linearly from beta_min to beta_max, shared by VP and sub-VP."""
    t = jnp.asarray(t)
    return -0.25 * t**2 * (jnp.asarray(beta_max) - beta_min) - 0.5 * t * beta_min


def _check_betas(beta_min: ArrayLike, beta_max: ArrayLike) -> None:
    check_known(
        lambda low, high: (low >= 0) & (high >= 0) & (low + high > 0) & np.isfinite(low + high),
        beta_min,
        beta_max,
        requirement="beta_min and beta_max must be finite, at least 0 and not both 0",
        got="beta_min={}, beta_max={}",
    )
