"""Diffusion and score-based generative models in JAX.

A forward process is two functions of time, x_t = α(t) x_0 + σ(t) ε, and everything else is derived
from them once: see :mod:`jaxdiff.processes`. Time runs from data (t = 0) to noise (t = 1).
"""

from jaxdiff import (
    data,
    denoisers,
    divergence,
    flow,
    guidance,
    latents,
    likelihood,
    losses,
    metrics,
    nets,
    oracles,
    predictions,
    processes,
    recipes,
    schedules,
    solvers,
    train,
)
from jaxdiff.likelihood import log_likelihood
from jaxdiff.recipes import load
from jaxdiff.sampling import sample, trajectory

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "data",
    "denoisers",
    "divergence",
    "flow",
    "guidance",
    "latents",
    "likelihood",
    "load",
    "log_likelihood",
    "losses",
    "metrics",
    "nets",
    "oracles",
    "predictions",
    "processes",
    "recipes",
    "sample",
    "schedules",
    "solvers",
    "train",
    "trajectory",
]
