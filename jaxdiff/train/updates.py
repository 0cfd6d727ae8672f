"""L8: the updates of a run, such that the device has work while the host reads."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from jaxdiff.train import sharding
from jaxdiff.train.compiled import CompiledStep
from jaxdiff.train.state import TrainState
from jaxdiff.typing import Array, InputError, PyTree


class Update(NamedTuple):
    """The result of an update; its state is donated to the next one.

    Args:
        step: its number, from 1 on.
        state: after the update.
        metrics: of the update, still on the device.
        data_wait: seconds for which the device had no batch to work on.
        stopped: the signal that stops the run here, or None.
        last: whether no update follows.
    """

    step: int
    state: TrainState
    metrics: dict[str, Array]
    data_wait: float
    stopped: str | None
    last: bool

    def due(self, every: int) -> bool:
        """Whether something done every ``every`` steps, and at the end, is due now."""
        return self.last or self.step % every == 0


def updates(
    state: TrainState,
    step_fn: CompiledStep,
    batches: Iterator[PyTree],
    mesh: Mesh,
    *,
    frozen: PyTree = (),
    until: int,
    should_stop: Callable[[], str | None],
    trace: Callable[[int], None],
) -> Iterator[Update]:
    """Update a state until the last step, or until the run is asked to stop.

    Args:
        state: of a step before ``until``; donated.
        step_fn: the compiled step.
        batches: of this process's rows, from the state's step on.
        mesh: the devices.
        frozen: what no step changes, laid out over the mesh.
        until: the last step.
        should_stop: returns, after each step, the signal that stops the run, or None.
        trace: called with each step before it is made.

    Yields:
        Each update.
    """
    metrics = stopped = None
    step = int(state.step)
    while step < until and stopped is None:
        batch, data_wait = next_batch(batches, mesh, metrics)
        step += 1
        trace(step)
        state, metrics = step_fn(state, batch, frozen)
        stopped = should_stop()
        yield Update(step, state, metrics, data_wait, stopped, step == until or stopped is not None)


def next_batch(
    batches: Iterator[PyTree], mesh: Mesh, previous: PyTree | None
) -> tuple[PyTree, float]:
    """Read a batch and shard it, while the device is busy with the previous step.

    Args:
        batches: of this process's rows.
        mesh: the devices.
        previous: what the previous step returned, None before the first.

    Returns:
        The batch, and an upper bound on the seconds for which the device was idle without it.
    """
    began = time.perf_counter()
    batch = sharding.put_batch(next(batches), mesh)
    idle = previous is None or all(leaf.is_ready() for leaf in jax.tree.leaves(previous))
    return batch, time.perf_counter() - began if idle else 0.0


def profiled(
    folder: Path, steps: tuple[int, int] | None
) -> contextlib.AbstractContextManager[Callable[[int], None]]:
    """Write a ``jax.profiler`` trace of the steps from the first to the last of ``steps``.

    Raises:
        InputError: immediately, if there are no such steps.
    """
    if steps is not None and not 0 < steps[0] <= steps[1]:
        raise InputError(
            f"profile_steps must be FIRST:LAST, 1 <= FIRST <= LAST, got {steps[0]}:{steps[1]}"
        )
    return _profiled(folder, steps)


@contextlib.contextmanager
def _profiled(folder: Path, steps: tuple[int, int] | None) -> Iterator[Callable[[int], None]]:
    running: list[int] = []

    def before_step(step: int) -> None:
        if steps is None:
            return
        if step == steps[0]:
            jax.profiler.start_trace(folder)
            running.append(step)
        elif step == steps[1] + 1 and running:
            running.pop()
            jax.profiler.stop_trace()

    try:
        yield before_step
    finally:
        if running:
            jax.profiler.stop_trace()
