"""L8: checkpoints of the training state, by orbax: written atomically, and verified when read.

Each is written in the background into a temporary folder, which is renamed when complete. The
state is stored with its fingerprint, so that a checkpoint altered on disk is detected.
A single process copies the state on its devices and continues: orbax's work on every array, before
it writes in the background, overlaps with the next step. Several processes, which have to exchange
messages for it, do that work at once.
"""

import contextlib
import functools
import os
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff.extras import require
from jaxdiff.train.fingerprint import fingerprint
from jaxdiff.train.formats import FORMAT, as_stored, from_stored
from jaxdiff.train.settings import TrainingConfig
from jaxdiff.train.state import TrainState
from jaxdiff.train.workdir import CHECKPOINTS, DAMAGED
from jaxdiff.typing import InputError

METRIC = "eval_loss"
DEFAULT_ITEM = "default"
"""Folder in which orbax keeps the only item of a checkpoint."""

_fingerprint = jax.jit(fingerprint)
_copy = jax.jit(functools.partial(jax.tree.map, jnp.copy))


class Checkpoints:
    """The checkpoints of one workdir; a context manager that waits for the last write.

    Args:
        workdir: of the run.
        keep: which to keep; None opens them read-only.
    """

    def __init__(self, workdir: Path, *, keep: TrainingConfig | None = None) -> None:
        require("orbax", purpose="reading and writing checkpoints")
        import orbax.checkpoint as ocp  # slow to import, and not needed for sampling

        self._ocp, self._workdir, self._writes = ocp, workdir, keep is not None
        policies = ocp.checkpoint_managers
        kept = []
        if keep is not None:
            kept = [policies.LatestN(keep.keep_checkpoints)]
            if keep.keep_every:
                kept.append(policies.EveryNSteps(keep.keep_every))
            if keep.keep_best:
                best = policies.BestN(
                    get_metric_fn=lambda metrics: -metrics[METRIC],
                    n=keep.keep_best,
                    keep_checkpoints_without_metrics=False,
                )
                kept.append(best)
        self._manager = ocp.CheckpointManager(
            (workdir / CHECKPOINTS).absolute(),
            item_handlers=ocp.StandardCheckpointHandler(),
            # not orbax's read_only, which warns; creating and deleting nothing is enough
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policies.AnyPreservationPolicy(kept) if kept else None,
                create=self._writes,
                cleanup_tmp_directories=self._writes,
            ),
        )
        # training itself asks jax whether to stop, and counts the calls: see train.signals
        self._manager.reached_preemption = lambda step: False
        self._copied: Callable[[], Any] | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self.flush()
        finally:
            self._reraise_as_input_error(self._manager.close)

    @property
    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, in order."""
        return sorted(self._manager.all_steps())

    @property
    def latest_step(self) -> int | None:
        """Step of the newest checkpoint, or None."""
        return self._manager.latest_step()

    def path(self, step: int) -> Path:
        """Folder of the checkpoint of a step."""
        return self._workdir / CHECKPOINTS / str(step)

    def save(
        self, step: int, state: TrainState, *, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Copy the state on its devices; :meth:`flush` and :meth:`wait` write it under its step.

        An existing checkpoint is not overwritten. Several processes write at once, without a copy.

        Raises:
            InputError: if this or an earlier one could not be written; those before it remain.
        """
        self.flush()
        if step == self.latest_step:
            return
        single = jax.process_count() == 1
        # a copy, since the arrays of the state are donated to the next step
        saved = {
            "state": _copy(state) if single else state,
            "fingerprint": _fingerprint(state),
        }
        args = self._ocp.args.StandardSave(saved)
        self._copied = functools.partial(
            self._manager.save,
            step,
            args=args,
            metrics=metrics and dict(metrics),
            custom_metadata={"format": FORMAT},
        )
        if not single:
            self.flush()

    def flush(self) -> None:
        """Start writing what was saved, best when the devices are busy with the next step.

        Raises:
            InputError: if this or an earlier one could not be written; those before it remain.
        """
        write, self._copied = self._copied, None
        if write is not None:
            self._reraise_as_input_error(write)

    def wait(self) -> None:
        """Wait until everything is written.

        Raises:
            InputError: if something could not be written.
        """
        self.flush()
        self._reraise_as_input_error(self._manager.wait_until_finished)

    def restore(self, like: TrainState) -> TrainState:
        """Read the newest undamaged checkpoint into the structure and layout of ``like``.

        Newer damaged ones raise a warning and, unless opened read-only, are moved aside.

        Raises:
            InputError: if there is none, or if its arrays have other shapes or dtypes.
        """
        self.wait()
        reasons: dict[int, str] = {}
        for step in reversed(self.steps):
            try:
                state = self._read(step, like)
            except Exception as error:  # a damaged file can raise anything
                self._refuse_other_arrays(step, like)
                reasons[step] = _reason(error)
                continue
            for damaged, reason in reasons.items():
                self._set_aside(damaged, reason, step)
            return state
        if reasons:
            newest = max(reasons)
            raise InputError(
                f"no checkpoint in {self._workdir / CHECKPOINTS} can be read, and none was "
                f"changed; reading that of step {newest} failed: {reasons[newest]}"
            )
        raise InputError(f"{self._workdir / CHECKPOINTS} holds no checkpoint to load")

    def _read(self, step: int, like: TrainState) -> TrainState:
        try:
            return self._read_as(FORMAT, step, like)
        except Exception:
            number = self._format(step)  # slower than reading most states
            if number == FORMAT:
                raise
        return self._read_as(number, step, like)

    def _read_as(self, number: int, step: int, like: TrainState) -> TrainState:
        stored = as_stored(like, number)
        target = {"state": stored, "fingerprint": jax.eval_shape(_fingerprint, stored)}
        read = self._manager.restore(
            step, args=self._ocp.args.StandardRestore(jax.tree.map(_describe, target))
        )
        state = read["state"]
        if int(_fingerprint(state)) != int(read["fingerprint"]) or int(state.step) != step:
            raise InputError("its content differs from what was saved")
        return from_stored(state, like)

    def _format(self, step: int) -> int:
        """Format number of a checkpoint; the first format stored none."""
        metadata: Any = self._manager.metadata(step)
        return int((metadata.custom_metadata or {}).get("format", 1))

    def _refuse_other_arrays(self, step: int, like: TrainState) -> None:
        """Distinguish a checkpoint of other arrays from a damaged one.

        Raises:
            InputError: naming the first array of another shape or dtype, or a later format.
        """
        item = self.path(step).absolute() / DEFAULT_ITEM
        try:
            with contextlib.closing(self._ocp.StandardCheckpointHandler()) as handler:
                stored = _by_name(handler.metadata(item).tree)
            number = self._format(step)
        except Exception:  # it is damaged
            return
        for name, leaf in _by_name({"state": as_stored(like, number)}).items():
            found = stored.get(name)
            if found is None or jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                continue
            if (found.shape, found.dtype) != (leaf.shape, leaf.dtype):
                raise InputError(
                    f"{name} in {self.path(step)} must be {leaf.dtype} of shape {leaf.shape} for "
                    f"the network of this config, got {found.dtype} of shape {found.shape}; the "
                    "checkpoint is not damaged, and was not changed"
                )

    def _set_aside(self, step: int, reason: str, instead: int) -> None:
        path, aside = self.path(step), self._workdir / DAMAGED / str(step)
        if self._writes and jax.process_index() == 0:
            aside.parent.mkdir(exist_ok=True)
            path.rename(aside)
        if self._writes:
            if jax.process_count() > 1:
                from jax.experimental import multihost_utils

                multihost_utils.sync_global_devices(f"step {step} is set aside")
            self._manager.reload()
        moved = f", now {aside}," if self._writes else ""
        warnings.warn(
            f"{path}{moved} is damaged ({reason[:200]}); falling back to that of step {instead}",
            stacklevel=3,
        )

    def _reraise_as_input_error(self, write: Callable[[], Any]) -> None:
        try:
            write()
        except InputError:
            raise
        except Exception as error:
            newest = max((s for s in self.steps if (self.path(s)).is_dir()), default=None)
            before = "there is none yet" if newest is None else f"that of step {newest} is intact"
            raise InputError(
                f"{self._workdir / CHECKPOINTS}: a checkpoint could not be written "
                f"({_reason(error)}); {before}"
            ) from error


def _reason(error: Exception) -> str:
    """The system's error message if there is one, else the first line of the error, or its name."""
    number = re.search(r"os_error_code='(\d+)'", str(error))  # tensorstore's format
    if number:
        return os.strerror(int(number[1]))
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _by_name(tree: Any) -> dict[str, Any]:
    """Leaves by their path, which is the same for a state and for orbax's metadata of it."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _describe(leaf: Any) -> Any:
    """Shape, dtype and layout of a leaf on these devices, wherever it was written."""
    here = getattr(leaf, "sharding", None)
    here = here or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here)
