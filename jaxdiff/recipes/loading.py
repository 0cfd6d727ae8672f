"""L9: loads the run of a workdir, with any EMA of its parameters."""

import dataclasses
from pathlib import Path

import jax

from jaxdiff.recipes.diffusion import PLAYER, assemble, fresh_state
from jaxdiff.recipes.resuming import read_config
from jaxdiff.recipes.run import Run
from jaxdiff.train.checkpoints import Checkpoints
from jaxdiff.train.memory import check_state
from jaxdiff.train.posthoc import average_of
from jaxdiff.train.workdir import CHECKPOINTS
from jaxdiff.typing import InputError


def load(
    workdir: str | Path, *, ema_decay: float | None = None, ema_std: float | None = None
) -> Run:
    """Load the newest checkpoint of a workdir, for sampling.

    Args:
        workdir: as given to ``experiments.train``.
        ema_decay: which of the EMAs that the run keeps; its ``ema_decay`` by default.
        ema_std: instead, the standard deviation of a power profile, as a fraction of the run, whose
            average is reconstructed from the stored ones (``config.training.ema_stds``).

    Returns:
        The run, with averaged parameters.

    Raises:
        InputError: if the folder, its configuration, its checkpoints or the average are missing.
    """
    workdir = Path(workdir)
    model = assemble(*read_config(workdir))
    if not (workdir / CHECKPOINTS).is_dir():
        raise InputError(f"{workdir} holds no checkpoint to load; train it first")
    shapes = jax.eval_shape(lambda: fresh_state(model))
    check_state(shapes)
    with Checkpoints(workdir) as checkpoints:
        state = checkpoints.restore(shapes)
    settings, loaded = model.config.training, Run(model).at(state)
    if ema_std is not None:
        if ema_decay is not None:
            raise InputError(
                f"load must be given ema_decay or ema_std, not both, got {ema_decay} and {ema_std}"
            )
        average = average_of(
            workdir,
            PLAYER,
            shapes.players[PLAYER].params,
            settings.ema_stds,
            std=ema_std,
            step=loaded.step,
        )
        return dataclasses.replace(
            loaded, params=average, average=f"power average of std {ema_std}"
        )
    if ema_decay is not None:
        decays = settings.ema_decays
        if ema_decay not in decays:
            kept = ", ".join(map(str, decays))
            raise InputError(f"ema_decay must be one that the run keeps, {kept}, got {ema_decay}")
        average = state.players[PLAYER].averages[decays.index(ema_decay)]
        return dataclasses.replace(loaded, params=average, average=f"EMA {ema_decay}")
    return loaded
