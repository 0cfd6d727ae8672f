"""L3: objectives. Each returns one number per example; the caller reduces."""

from jaxdiff.losses import decoders, loss_aware, times, weights
from jaxdiff.losses.bits import bits_per_dim
from jaxdiff.losses.continuous_elbo import (
    continuous_elbo,
    denoising_rate,
    girsanov_bound,
    girsanov_rate,
)
from jaxdiff.losses.denoising import denoising
from jaxdiff.losses.denoising_score_matching import dsm
from jaxdiff.losses.elbo import Elbo, denoising_draws, elbo_terms
from jaxdiff.losses.elbo_consistency import consistency_terms
from jaxdiff.losses.estimates import Mean, mean_and_error
from jaxdiff.losses.reverse_step import log_variance, posterior_kl
from jaxdiff.losses.score_matching import esm, fd_ssm, ism, ssm
from jaxdiff.losses.variational import hybrid, vlb

__all__ = [
    "Elbo",
    "Mean",
    "bits_per_dim",
    "consistency_terms",
    "continuous_elbo",
    "decoders",
    "denoising",
    "denoising_draws",
    "denoising_rate",
    "dsm",
    "elbo_terms",
    "esm",
    "fd_ssm",
    "girsanov_bound",
    "girsanov_rate",
    "hybrid",
    "ism",
    "log_variance",
    "loss_aware",
    "mean_and_error",
    "posterior_kl",
    "ssm",
    "times",
    "vlb",
    "weights",
]
