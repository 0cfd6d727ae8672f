"""Processes given by tables: the chains of DDPM and NCSN on the grid t_i = i/T.

At t_0 = 0 there is no noise (α = 1, σ = 0); at t_i the chain has taken i steps. Between the nodes
log α (DDPM) or σ² (NCSN) is linear, so that β, or the growth of σ², is constant on each interval:
a chain is thus an ordinary process, for every solver, loss and likelihood.
"""

import jax.numpy as jnp
import numpy as np

from jaxdiff.checks import check_known, known
from jaxdiff.processes.base import Process
from jaxdiff.typing import Array, ArrayLike, Float, InputError, Real

ALL_SIGNAL = -44.0
"""Log of the factor by which a step with β = 1 scales the signal, a finite stand-in for −∞."""
EPSILON = 1e-7


class DiscreteVP(Process):
    """DDPM's chain, x_i = √(1 − β_i) x_{i−1} + √β_i ε, at t_i = i/T.

    log α(t_i) = ½ Σ_{j ≤ i} log(1 − β_j),    σ² = 1 − α²

    Args:
        log_alphas: log α at t_0 … t_T, starting with 0; see :meth:`from_betas`.

    Example:
        >>> process = DiscreteVP.from_betas(jnp.array([0.1, 0.2]))
        >>> [round(float(process.alpha(t)) ** 2, 4) for t in (0.0, 0.5, 1.0)]
        [1.0, 0.9, 0.72]

    Reference: Ho et al. 2020, eq. 4; Lin et al. 2024 for β_T = 1.
    """

    log_alphas: Float[Array, "nodes"]

    @classmethod
    def from_betas(cls, betas: Real[ArrayLike, "steps"]) -> "DiscreteVP":
        """Build the chain from β_1 … β_T, each in (0, 1), the last one in (0, 1].

        β_T = 1 leaves no signal at t = 1: the zero terminal SNR of Lin et al. 2024. α(1) is then
        below 1e-19, indistinguishable from 0 in a sum with noise of unit variance, and the log SNR
        stays finite. A network for such a chain must predict x_0, v or F: at t = 1 ε and the score
        determine nothing about the data, and :func:`jaxdiff.denoisers.denoiser` rejects them.

        Raises:
            InputError: if ``betas`` is not a vector, or a β is outside its range.
        """
        betas = _as_vector(betas, "betas")
        numbers = known(betas)
        if numbers is not None and not (
            np.all((numbers > 0) & (numbers <= 1)) and np.all(numbers[:-1] < 1)
        ):
            raise InputError(
                "betas must be strictly between 0 and 1, except that the last may be 1, got "
                f"{numbers.min()} to {numbers.max()}"
            )
        steps = jnp.where(betas < 1, 0.5 * jnp.log1p(-jnp.minimum(betas, 1 - EPSILON)), ALL_SIGNAL)
        return cls(log_alphas=jnp.concatenate([jnp.zeros_like(steps[:1]), jnp.cumsum(steps)]))

    @property
    def num_steps(self) -> int:
        """Length T of the chain."""
        return self.log_alphas.shape[0] - 1

    @property
    def ends_without_signal(self) -> bool:
        """Whether β_T is known to be 1."""
        nodes = known(self.log_alphas)
        return nodes is not None and bool(nodes[-1] - nodes[-2] <= 0.99 * ALL_SIGNAL)

    def index(self, t: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """Index of the step that ends at t, counted from the least noise: t·T − 1, 0 to T − 1.

        Reference: Ho et al. 2020; their networks, and score_sde's for VP, take this noise level.
        """
        return jnp.asarray(t) * self.num_steps - 1

    def log_alpha(self, t: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """See :meth:`Process.log_alpha`."""
        return _interpolate(self.log_alphas, t)

    def variance(self, t: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """See :meth:`Process.variance`."""
        return -jnp.expm1(2 * self.log_alpha(t))


class DiscreteVE(Process):
    """NCSN's scales as a chain, x_i = x_{i−1} + √(σ_i² − σ_{i−1}²) ε, at t_i = i/L, σ(t_0) = 0.

    Args:
        variances: σ² at t_0 … t_L, starting with 0; see :meth:`from_sigmas`.

    Example:
        >>> process = DiscreteVE.from_sigmas(jnp.array([1.0, 10.0]))
        >>> [round(float(process.sigma(t)), 4) for t in (0.5, 1.0)]
        [1.0, 10.0]

    Reference: Song et al. 2021, eq. 20.
    """

    variances: Float[Array, "nodes"]

    @classmethod
    def from_sigmas(cls, sigmas: Real[ArrayLike, "steps"]) -> "DiscreteVE":
        """Build the chain from σ_1 < … < σ_L, in units of the data.

        Raises:
            InputError: if ``sigmas`` is not a vector of increasing positive numbers.
        """
        sigmas = _as_vector(sigmas, "sigmas")
        check_known(
            lambda levels: (np.diff(levels, prepend=0.0) > 0) & np.isfinite(levels),
            sigmas,
            requirement="sigmas must be positive, finite and strictly increasing",
        )
        return cls(variances=jnp.concatenate([jnp.zeros_like(sigmas[:1]), sigmas**2]))

    @property
    def num_steps(self) -> int:
        """Number L of noise scales."""
        return self.variances.shape[0] - 1

    def index(self, t: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """Index of the noise scale at t, counted from the largest σ: L − t·L, from 0 to L − 1.

        Reference: Song & Ermon 2019; their networks, and score_sde's for VE, take this noise level.
        """
        return self.num_steps - jnp.asarray(t) * self.num_steps

    def log_alpha(self, t: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """See :meth:`Process.log_alpha`."""
        return jnp.zeros_like(jnp.asarray(t) * 1.0)

    def variance(self, t: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """See :meth:`Process.variance`."""
        return _interpolate(self.variances, t)


def _interpolate(nodes: Array, t: ArrayLike) -> Array:
    """Piecewise linear function of t ∈ [0, 1] with values ``nodes [T + 1]`` at i/T.

    At a node the slope is that of the interval below it, so that a step from t_i down to t_{i−1}
    uses β_i; the 5e-7 keeps the rounding of i/T in float32 from reaching into the next interval.
    """
    num_steps = nodes.shape[0] - 1
    position = jnp.asarray(t) * num_steps
    index = jnp.clip(jnp.ceil(position * (1 - 5e-7)).astype(int) - 1, 0, num_steps - 1)
    low, high = nodes[index], nodes[index + 1]
    return low + (position - index) * (high - low)


def _as_vector(values: ArrayLike, name: str) -> Array:
    values = jnp.asarray(values)
    if values.ndim != 1 or values.shape[0] == 0:
        raise InputError(
            f"{name} must be a vector of at least one number, got shape {values.shape}"
        )
    return values
