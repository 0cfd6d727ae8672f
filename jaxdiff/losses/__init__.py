"""L3: objectives. Each returns one number per example, ``[batch]``; reduction is the caller's."""

from jaxdiff.losses import times, weights
from jaxdiff.losses.denoising import denoising
from jaxdiff.losses.denoising_score_matching import dsm
from jaxdiff.losses.elbo import Elbo, elbo_terms
from jaxdiff.losses.score_matching import esm, fd_ssm, ism, ssm

__all__ = [
    "Elbo",
    "denoising",
    "dsm",
    "elbo_terms",
    "esm",
    "fd_ssm",
    "ism",
    "ssm",
    "times",
    "weights",
]
