"""L7: configuration, state, the pure step, the loop around it, checkpoints, and what they leave.

``load(workdir)`` gives a trained :class:`Run`, which is all that a notebook needs.
"""

from jaxdiff.train.config import (
    Choice,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    SamplingConfig,
    TrainingConfig,
    choice,
)
from jaxdiff.train.loading import load
from jaxdiff.train.loop import draw, train
from jaxdiff.train.parsing import from_dict
from jaxdiff.train.run import Run
from jaxdiff.train.state import BatchSlice, LossFn, TrainState, init_state, train_step

__all__ = [
    "BatchSlice",
    "Choice",
    "Config",
    "DataConfig",
    "LossConfig",
    "LossFn",
    "ModelConfig",
    "OptimizerConfig",
    "Run",
    "SamplingConfig",
    "TrainState",
    "TrainingConfig",
    "choice",
    "draw",
    "from_dict",
    "init_state",
    "load",
    "train",
    "train_step",
]
