"""L2: exact answers, for data whose distribution is known.

If x_0 is Gaussian with mean m and covariance C then x_t is N(αm, α²C + σ²I), and

    E[x_0 | x_t] = m + αC (α²C + σ²I)⁻¹ (x_t − αm),    E[ε | x_t] = σ (α²C + σ²I)⁻¹ (x_t − αm).

For a mixture the same holds within each component, weighted by its posterior probability; given a
noisy linear measurement of x_0, or its class, the data are again a mixture. Neither view divides by
α or σ, so both are exact at t = 0 and at t = 1. Everything that takes a model is tested with these:
solvers must reach the exact distribution, losses the exact value, guidance the exact conditional.
"""

from jaxdiff.oracles.gaussian import gaussian
from jaxdiff.oracles.labelled import Labelled, labelled
from jaxdiff.oracles.mixture import mixture
from jaxdiff.oracles.posterior import Mixture, condition, sample_mixture

__all__ = [
    "Labelled",
    "Mixture",
    "condition",
    "gaussian",
    "labelled",
    "mixture",
    "sample_mixture",
]
