"""L7: checkpoints of the training state, by orbax: whole or not at all, the last few kept."""

from pathlib import Path
from typing import Any

import jax

from jaxdiff.train.state import TrainState
from jaxdiff.train.workdir import CHECKPOINTS
from jaxdiff.typing import InputError


class Checkpoints:
    """The checkpoints of one workdir; a context manager that waits for the last write.

    Args:
        workdir: of the run.
        keep: how many of the newest to keep; None opens them for reading alone.
    """

    def __init__(self, workdir: Path, *, keep: int | None = None) -> None:
        import orbax.checkpoint as ocp  # slow to import, and needed by nobody who only samples

        self._ocp = ocp
        self._manager = ocp.CheckpointManager(
            (workdir / CHECKPOINTS).absolute(),
            # not orbax's read_only, which warns of itself; to make and delete nothing is enough
            options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=keep is not None),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        self._manager.close()

    @property
    def latest_step(self) -> int | None:
        """Step of the newest checkpoint, None where there is none."""
        return self._manager.latest_step()

    def save(self, state: TrainState) -> None:
        """Write the state under its step, in the background; a step that is there is left alone."""
        step = int(state.step)
        if step != self.latest_step:
            self._manager.save(step, args=self._ocp.args.StandardSave(state))

    def restore(self, like: TrainState) -> TrainState:
        """Read the newest checkpoint into the structure, shapes and dtypes of ``like``.

        Raises:
            InputError: if there is none.
        """
        if self.latest_step is None:
            raise InputError(f"{self._manager.directory} holds no checkpoint to load")
        target = jax.tree.map(_describe, like)
        return self._manager.restore(self.latest_step, args=self._ocp.args.StandardRestore(target))


def _describe(leaf: Any) -> Any:
    """Shape, dtype and placement of a leaf: here, wherever it was when it was written."""
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here)
