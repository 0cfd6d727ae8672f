"""L8: the power averages stored during a run, and reconstruction of any other from them."""

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.files import atomic_write
from jaxdiff.tensors import read_tensors
from jaxdiff.train import averages, sharding
from jaxdiff.train.fingerprint import fingerprint
from jaxdiff.train.state import TrainState
from jaxdiff.train.workdir import AVERAGES
from jaxdiff.typing import InputError, Params

_fingerprint = jax.jit(fingerprint)


def store(
    workdir: Path, step: int, state: TrainState, stds: Sequence[float], *, writes: bool
) -> None:
    """Write the power averages of a state to ``averages/<step>.safetensors``; all processes call.

    They are stored with a fingerprint, so that a file altered on disk is detected.

    Args:
        workdir: of the run.
        step: of the state.
        state: as trained.
        stds: of the power averages, which are the last averages of every player that has any.
        writes: whether this process is the one that writes.
    """
    if not stds:
        return
    kept = {
        f"{name}/{std}:{path}": leaf
        for name, player in state.players.items()
        if player.averages
        for std, average in zip(stds, player.averages[-len(stds) :], strict=True)
        for path, leaf in _by_path(average).items()
    }
    metadata = {"fingerprint": _fingerprint_of(step, kept)}
    tensors = {name: np.ascontiguousarray(sharding.fetch(leaf)) for name, leaf in kept.items()}
    if writes:
        from safetensors.numpy import save as to_bytes

        content = to_bytes(tensors, metadata=metadata)
        atomic_write(workdir / AVERAGES / f"{step:09d}.safetensors", content)


def average_of(
    workdir: str | Path,
    player: str,
    like: Params,
    stds: Sequence[float],
    *,
    std: float,
    step: int,
) -> Params:
    """Reconstruct the parameters of an average of any length.

    Args:
        workdir: of the run.
        player: whose parameters they are.
        like: its parameters, or their shapes.
        stds: of the profiles of the stored averages.
        std: standard deviation of the target profile, as a fraction of the run up to ``step``.
        step: at which it ends.

    Returns:
        Parameters, as :func:`jaxdiff.train.averages.combination` weighs the stored ones.

    Raises:
        InputError: if nothing was stored at this step, what was stored then is damaged, or the
            std is out of range.

    Reference: Karras et al. 2024, section 3.
    """
    folder = Path(workdir) / AVERAGES
    found = {
        int(path.stem): path
        for path in folder.glob("*.safetensors")
        if re.fullmatch(r"\d+", path.stem) and int(path.stem) <= step
    }
    if step not in found:
        raise InputError(
            f"{folder} holds no averages of step {step}; config.training.ema_stds of the run must "
            f"name which to store, such as (0.05, 0.1), got {stds}"
        )
    total = _weighed(found, player, stds, std=std, step=step)
    missing = sorted(_by_path(like).keys() ^ total.keys())
    if missing:
        raise InputError(
            f"{folder} must hold averages of this run's parameters, got a mismatch: {missing[0]}"
        )
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.asarray(total[_name(path)], leaf.dtype), like
    )


def _weighed(
    found: Mapping[int, Path], player: str, stds: Sequence[float], *, std: float, step: int
) -> dict[str, np.ndarray]:
    """Combine the stored averages, skipping damaged files other than the last."""
    steps = sorted(found)
    ends, profiles = np.repeat(steps, len(stds)), np.tile(stds, len(steps))
    weights = averages.combination(ends, profiles, step=step, std=std)
    total: dict[str, np.ndarray] = {}
    for index, end in enumerate(steps):
        try:
            tensors = _read(found[end], end)
        except InputError as error:
            if end == step:
                raise InputError(f"{error}; run the training command again to rewrite it") from None
            warnings.warn(f"{error}; the average is reconstructed without it", stacklevel=4)
            rest = {other: path for other, path in found.items() if other != end}
            return _weighed(rest, player, stds, std=std, step=step)
        for own, weight in zip(stds, weights[index * len(stds) :], strict=False):
            for name, tensor in tensors.items():
                # files of the first format name no player, since there was only one
                profile, _, path = name.removeprefix(f"{player}/").partition(":")
                if profile == str(own):
                    total[path] = total.get(path, 0.0) + weight * tensor.astype(np.float64)
    return total


def _by_path(tree: Any) -> dict[str, Any]:
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _read(path: Path, step: int) -> dict[str, np.ndarray]:
    """Read the averages of a step.

    Raises:
        InputError: if they differ from what was stored.
    """
    tensors = read_tensors(path)
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    if metadata is None:
        warnings.warn(f"{path} has no fingerprint and is read without a check", stacklevel=5)
    elif metadata.get("fingerprint") != _fingerprint_of(step, tensors):
        raise InputError(f"{path} is damaged: its content differs from what was saved")
    return tensors


def _fingerprint_of(step: int, tensors: Mapping[str, Any]) -> str:
    """Fingerprint of the tensors, their names and their step."""
    names = "\n".join(f"{name} {tensors[name].dtype}" for name in sorted(tensors))
    label = np.frombuffer(f"{step} {names}".encode(), np.uint8)
    return str(int(sharding.fetch(_fingerprint((label, dict(tensors))))))
