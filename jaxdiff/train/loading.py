"""L7: a workdir becomes a run, with the average of the parameters that is asked for."""

import dataclasses
import functools
from pathlib import Path

import jax

from jaxdiff.train.assembly import assemble, fresh_state
from jaxdiff.train.checkpoints import Checkpoints
from jaxdiff.train.memory import check_state
from jaxdiff.train.posthoc import average_of
from jaxdiff.train.run import Run
from jaxdiff.train.workdir import CHECKPOINTS, read_config
from jaxdiff.typing import InputError


def load(
    workdir: str | Path, *, ema_decay: float | None = None, ema_std: float | None = None
) -> Run:
    """Load the newest checkpoint of a workdir, for sampling.

    Args:
        workdir: as given to ``experiments.train``.
        ema_decay: which of the averages that the run keeps; its ``ema_decay`` by default.
        ema_std: instead, the standard deviation of a power profile, as a share of the run, whose
            average is put together from those that were stored (``config.training.ema_stds``).

    Returns:
        The run, with averaged parameters.

    Raises:
        InputError: if the folder, its configuration, its checkpoints or the average are missing.
    """
    workdir = Path(workdir)
    run = assemble(*read_config(workdir))
    if not (workdir / CHECKPOINTS).is_dir():
        raise InputError(f"{workdir} holds no checkpoint to load; train it first")
    shapes = jax.eval_shape(functools.partial(fresh_state, run))
    check_state(shapes, run.config.network.name)
    with Checkpoints(workdir) as checkpoints:
        state = checkpoints.restore(shapes)
    settings, loaded = run.config.training, run.at(state)
    if ema_std is not None:
        if ema_decay is not None:
            raise InputError(f"load takes ema_decay or ema_std, got {ema_decay} and {ema_std}")
        average = average_of(workdir, run.config, std=ema_std, step=loaded.step)
        return dataclasses.replace(
            loaded, params=average, average=f"power average of std {ema_std}"
        )
    if ema_decay is not None:
        decays = settings.ema_decays
        if ema_decay not in decays:
            kept = ", ".join(map(str, decays))
            raise InputError(f"ema_decay is one that the run keeps, {kept}, got {ema_decay}")
        average = state.averages[decays.index(ema_decay)]
        return dataclasses.replace(loaded, params=average, average=f"EMA {ema_decay}")
    return loaded
