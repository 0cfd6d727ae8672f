"""The pickled checkpoints of score_sde_pytorch, and their EMA."""

import os
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxdiff.nets.convert.score_sde import from_score_sde
from jaxdiff.nets.convert.tensors import as_numpy, read_pickle
from jaxdiff.nets.unet import UNet
from jaxdiff.typing import InputError, Params


class ScoreSdeCheckpoint(NamedTuple):
    """The parts of a score_sde checkpoint that are read; the state of Adam is not."""

    average: Params
    """EMA of the variables, for sampling."""
    trained: Params
    """The trained variables themselves."""
    step: int
    """Number of updates."""


def load_score_sde(path: str | os.PathLike[str], net: UNet) -> ScoreSdeCheckpoint:
    """Read a ``checkpoint_N.pth`` of score_sde_pytorch; this needs torch.

    Args:
        path: of the checkpoint.
        net: the network it belongs to, which the file does not describe.

    Returns:
        Variables for ``net.apply``, and the number of updates behind them.

    Raises:
        InputError: if the file holds no such model, or torch is not installed.
    """
    what = "a checkpoint of score_sde_pytorch"
    stored = read_pickle(path, what)
    try:
        state = {name: as_numpy(tensor) for name, tensor in stored["model"].items()}
        shadow = [as_numpy(tensor) for tensor in stored["ema"]["shadow_params"]]
        step = int(stored["step"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} must be {what}, with its model, ema and step, got a file without: {error}"
        ) from error
    return ScoreSdeCheckpoint(
        average=from_score_sde(averaged(state, shadow), net),
        trained=from_score_sde(state, net),
        step=step,
    )


def averaged(state: Mapping[str, np.ndarray], shadow: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Replace the trained parameters of a state dict by their EMA, a list without names.

    Args:
        state: the state dict: buffers, fixed frequencies and trained parameters, in their order.
        shadow: averages of the trained ones, in the same order.

    Raises:
        InputError: if there are more or fewer of them, or one has another shape.
    """

    def fixed(name: str) -> bool:
        return name.endswith(("sigmas", "all_modules.0.W"))

    trained = [name for name in state if not fixed(name)]
    shapes = [np.shape(state[name]) for name in trained]
    if [np.shape(tensor) for tensor in shadow] != shapes:
        raise InputError(
            f"the EMA must match the {len(trained)} trained tensors of its model in number and "
            f"shape, got {len(shadow)} tensors"
        )
    return {**state, **dict(zip(trained, shadow, strict=True))}
