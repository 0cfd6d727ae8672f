"""L1: forward processes, each given by α(t) and σ²(t), and the Gaussian algebra they share."""

from jaxdiff.processes.algebra import (
    Gaussian,
    Noised,
    Transition,
    drift_diffusion,
    one_minus_snr_ratio,
    perturb,
    posterior,
    prior_log_prob,
    sample_prior,
    transition,
)
from jaxdiff.processes.base import Process, chain_length
from jaxdiff.processes.continuous import VE, VP, CosineVP, SubVP
from jaxdiff.processes.discrete import DiscreteVE, DiscreteVP
from jaxdiff.processes.learned import LearnedVP, with_fixed_ends, with_fixed_shape

__all__ = [
    "VE",
    "VP",
    "CosineVP",
    "DiscreteVE",
    "DiscreteVP",
    "Gaussian",
    "LearnedVP",
    "Noised",
    "Process",
    "SubVP",
    "Transition",
    "chain_length",
    "drift_diffusion",
    "one_minus_snr_ratio",
    "perturb",
    "posterior",
    "prior_log_prob",
    "sample_prior",
    "transition",
    "with_fixed_ends",
    "with_fixed_shape",
]
