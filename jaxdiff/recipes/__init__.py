"""L9: configurations, what is built from them, and trained runs.

``load(workdir)`` returns a trained :class:`Run`, which is all that a notebook needs.
"""

from jaxdiff.recipes.bounds import BitsPerDim, bits_per_dim
from jaxdiff.recipes.config import (
    Choice,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    SamplingConfig,
    choice,
)
from jaxdiff.recipes.diffusion import Diffusion, assemble
from jaxdiff.recipes.likelihoods import ode_bits_per_dim
from jaxdiff.recipes.loading import load
from jaxdiff.recipes.parsing import from_dict
from jaxdiff.recipes.run import Run
from jaxdiff.recipes.training import diffusion_task, draw, train
from jaxdiff.train.settings import TrainingConfig

__all__ = [
    "BitsPerDim",
    "Choice",
    "Config",
    "DataConfig",
    "Diffusion",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "Run",
    "SamplingConfig",
    "TrainingConfig",
    "assemble",
    "bits_per_dim",
    "choice",
    "diffusion_task",
    "draw",
    "from_dict",
    "load",
    "ode_bits_per_dim",
    "train",
]
