"""L1: forward processes, as rows of a table: α(t), σ²(t), and the Gaussian algebra of all."""

from jaxdiff.processes.algebra import (
    Gaussian,
    Noised,
    Transition,
    drift_diffusion,
    lost_share,
    perturb,
    posterior,
    prior_log_prob,
    sample_prior,
    transition,
)
from jaxdiff.processes.base import Process
from jaxdiff.processes.continuous import VE, VP, CosineVP, SubVP
from jaxdiff.processes.discrete import DiscreteVE, DiscreteVP

__all__ = [
    "VE",
    "VP",
    "CosineVP",
    "DiscreteVE",
    "DiscreteVP",
    "Gaussian",
    "Noised",
    "Process",
    "SubVP",
    "Transition",
    "drift_diffusion",
    "lost_share",
    "perturb",
    "posterior",
    "prior_log_prob",
    "sample_prior",
    "transition",
]
