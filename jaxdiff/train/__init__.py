"""L8: the generic training loop: it trains any task, and knows no model.

:func:`alternate` makes the pure step of one player or several; :func:`fit` runs it and handles
devices, checkpoints, faults and progress.
"""

from jaxdiff.train.algorithm import Algorithm, Turn, alternate
from jaxdiff.train.identity import Identity, plain_identity
from jaxdiff.train.loop import Task, fit
from jaxdiff.train.settings import TrainingConfig
from jaxdiff.train.state import BatchSlice, LossFn, Player, TrainState, View, view_of

__all__ = [
    "Algorithm",
    "BatchSlice",
    "Identity",
    "LossFn",
    "Player",
    "Task",
    "TrainState",
    "TrainingConfig",
    "Turn",
    "View",
    "alternate",
    "fit",
    "plain_identity",
    "view_of",
]
