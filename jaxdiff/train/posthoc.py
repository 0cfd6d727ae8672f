"""L7: the power averages stored along a run, and any other put together from them afterwards."""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jaxdiff.files import atomic_write
from jaxdiff.nets.convert.tensors import read_tensors
from jaxdiff.train import averages, devices
from jaxdiff.train.config import Config
from jaxdiff.train.state import TrainState
from jaxdiff.train.workdir import AVERAGES
from jaxdiff.typing import InputError, Params


def store(workdir: Path, step: int, state: TrainState, config: Config, *, writes: bool) -> None:
    """Write the power averages of a state to ``averages/<step>.safetensors``; all processes call.

    Args:
        workdir: of the run.
        step: of the state.
        state: as trained.
        config: of the run, whose ``ema_stds`` say which they are.
        writes: whether this process is the one that writes.
    """
    stds = config.training.ema_stds
    tensors = {}
    for std, average in zip(stds, state.averages[len(state.averages) - len(stds) :], strict=True):
        for path, leaf in traverse_util.flatten_dict(average, sep=".").items():
            tensors[f"{std}:{path}"] = np.ascontiguousarray(devices.fetch(leaf))
    if stds and writes:
        from safetensors.numpy import save as to_bytes

        atomic_write(workdir / AVERAGES / f"{step:09d}.safetensors", to_bytes(tensors))


def average_of(workdir: str | Path, config: Config, *, std: float, step: int) -> Params:
    """Put together the parameters that an average of this length would have held.

    Args:
        workdir: of the run.
        config: of the run, with at least one of ``config.training.ema_stds``.
        std: standard deviation of the wanted profile, as a share of the run up to ``step``.
        step: at which it ends.

    Returns:
        Parameters, as :func:`jaxdiff.train.averages.combination` weighs what was stored.

    Raises:
        InputError: if nothing was stored at this step, or the profile does not exist.

    Reference: Karras et al. 2024, section 3.
    """
    folder, stds = Path(workdir) / AVERAGES, config.training.ema_stds
    found = {
        int(path.stem): path
        for path in folder.glob("*.safetensors")
        if re.fullmatch(r"\d+", path.stem) and int(path.stem) <= step
    }
    if step not in found:
        raise InputError(
            f"{folder} holds no averages of step {step}; they are stored where the run's "
            f"config.training.ema_stds names some, such as (0.05, 0.1), got {stds}"
        )
    steps = sorted(found)
    ends, profiles = np.repeat(steps, len(stds)), np.tile(stds, len(steps))
    weights = averages.combination(ends, profiles, step=step, std=std)
    total: dict[str, np.ndarray] = {}
    for index, end in enumerate(steps):
        tensors = read_tensors(found[end])
        for own, weight in zip(stds, weights[index * len(stds) :], strict=False):
            for name, tensor in tensors.items():
                if name.startswith(f"{own}:"):
                    path = name.removeprefix(f"{own}:")
                    total[path] = total.get(path, 0.0) + weight * tensor.astype(np.float64)
    arrays = {path: jnp.asarray(value, jnp.float32) for path, value in total.items()}
    params: Params = traverse_util.unflatten_dict(arrays, sep=".")
    return params
