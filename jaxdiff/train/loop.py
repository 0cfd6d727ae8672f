"""L8: the loop around the pure step. The side effects of training live here and in ``progress``.

The batch of step k is a pure function of (seed, k), its noise of (key, k), and a checkpoint holds
the whole state: a run that is stopped and resumed gives the same result bit for bit.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from jaxdiff import plots
from jaxdiff.extras import EXTRAS, require
from jaxdiff.files import read_lines_json
from jaxdiff.train import memory, posthoc, sharding
from jaxdiff.train.algorithm import Algorithm
from jaxdiff.train.checkpoints import Checkpoints
from jaxdiff.train.compiled import compile_step, on_mesh
from jaxdiff.train.identity import Identity
from jaxdiff.train.output import unfailing
from jaxdiff.train.progress import Progress
from jaxdiff.train.same_data import check_same_data
from jaxdiff.train.settings import TrainingConfig
from jaxdiff.train.signals import stop_signals
from jaxdiff.train.state import TrainState
from jaxdiff.train.updates import profiled, updates
from jaxdiff.train.workdir import (
    CHECKPOINTS,
    CONFIG_FILE,
    METRICS_FILE,
    PROFILE,
    SAMPLES_FILE,
    TENSORBOARD,
    go_on_with,
    owned,
)
from jaxdiff.typing import Key, PyTree


class Task(NamedTuple):
    """What is trained: everything that the loop knows about a model.

    Args:
        algorithm: ``(*, microbatches, mesh) -> Algorithm``, such as a partial
            :func:`jaxdiff.train.alternate`.
        key: of the state at step 0.
        batch_spec: shapes and dtypes of a whole batch.
        batches: ``(*, start_step, shard_index, shard_count, workers) -> iterator`` over the batches
            of the steps after ``start_step``, of which process ``shard_index`` of ``shard_count``
            gets its rows. It reads nothing before the first ``next``.
        identity: of the run.
        frozen: what losses read and no step changes, such as a teacher's parameters.
        evaluate: metrics of a state on held-out data by name, every ``eval_every`` steps; the best
            checkpoints are kept by ``eval_loss``.
        draw: draws a picture of a state to a path, every ``sample_every`` steps and at the end; all
            processes call it, and one writes. Returns the path, or None if nothing can be drawn.
    """

    algorithm: Callable[..., Algorithm]
    key: Key
    batch_spec: PyTree
    batches: Callable[..., Iterator[PyTree]]
    identity: Identity
    frozen: PyTree = ()
    evaluate: Callable[[TrainState], Mapping[str, float]] | None = None
    draw: Callable[[TrainState, Path, Mesh], Path | None] | None = None


def fit(
    task: Task,
    workdir: str | Path,
    settings: TrainingConfig,
    *,
    fsdp: int = 1,
    microbatches: int = 1,
    workers: int = 0,
    profile_steps: tuple[int, int] | None = None,
    say: Callable[[str], None] = print,
) -> TrainState:
    """Train, or resume training, on all available devices, and write everything to ``workdir``.

    Devices and microbatches change the result only by the rounding of sums; a run may be resumed
    with others than it started with. On SIGTERM or SIGINT it saves after the current step and ends.

    Args:
        task: what is trained.
        workdir: gets ``config.json``, ``data.json``, ``metrics.jsonl``, ``loss.png``,
            ``samples.png``, ``samples/``, ``tensorboard/`` and ``checkpoints/``.
        settings: how long, how often, and what is kept.
        fsdp: number of devices over which parameters, averages and moments are sharded.
        microbatches: number of parts in which a device processes its shard of a batch.
        workers: extra processes that read and decode; 0 for threads of this one.
        profile_steps: first and last of the steps whose trace is written to ``profile/``.
        say: called with each line of the report; its errors do not stop training.

    Returns:
        The state after the last step.

    Raises:
        InputError: if the workdir holds another run or is in use, a checkpoint cannot be written,
            or the loss is not finite for too many steps.
    """
    require(*EXTRAS["train"], purpose="training")
    workdir, say = Path(workdir), unfailing(say)
    plots.check_backend()  # needed at the end
    writes = jax.process_index() == 0
    mesh = sharding.mesh(fsdp=fsdp)
    sharding.check_batch(settings.batch_size, microbatches, mesh)
    batches = functools.partial(
        task.batches,
        shard_index=jax.process_index(),
        shard_count=jax.process_count(),
        workers=workers,
    )
    batches()  # reads nothing yet, but checks the data
    profiling = profiled(workdir / PROFILE, profile_steps)
    algorithm = on_mesh(task.algorithm, mesh, microbatches=microbatches)
    make = functools.partial(algorithm.init, task.key)
    like = sharding.laid_out(mesh, jax.eval_shape(make))
    memory.check_state(like)

    def draw(state: TrainState, path: Path) -> Path | None:
        return None if task.draw is None else task.draw(state, path, mesh)

    with (
        # not before here: a refused run must not create a folder
        owned(workdir, task.identity, num_steps=settings.num_steps)
        if writes
        else contextlib.nullcontext(),
        stop_signals() as should_stop,
        Checkpoints(workdir, keep=settings) as checkpoints,
    ):
        if writes and task.identity.dataset is not None:
            check_same_data(workdir, task.identity.dataset)
        if checkpoints.latest_step is None:
            shardings = jax.tree.map(lambda leaf: leaf.sharding, like)
            state = jax.jit(make, out_shardings=shardings)()
        else:
            state = checkpoints.restore(like)
            say(f"resuming from step {int(state.step)} of {settings.num_steps}")
            catch_up(workdir, state, settings, draw, writes=writes)
        for change in go_on_with(workdir, task.identity) if writes else ():
            say(f"changed in {workdir / CONFIG_FILE}: {change}")
        first = step = int(state.step)
        if first < settings.num_steps:
            frozen = jax.device_put(task.frozen, sharding.state_shardings(mesh, task.frozen))
            step_fn = compile_step(algorithm, state, task.batch_spec, mesh, frozen=frozen, say=say)
            with (
                Progress(
                    workdir if writes else None,
                    settings,
                    first,
                    newest=lambda: checkpoints.latest_step,
                ) as progress,
                profiling as trace,
            ):
                feed, until, stopped = batches(start_step=first), settings.num_steps, None
                for update in updates(
                    state,
                    step_fn,
                    feed,
                    mesh,
                    frozen=frozen,
                    until=until,
                    should_stop=should_stop,
                    trace=trace,
                ):
                    checkpoints.flush()  # the previous step's, now that the devices have this one
                    step, state, metrics, data_wait, stopped, last = update
                    figures = None
                    if settings.eval_every and task.evaluate and update.due(settings.eval_every):
                        figures = task.evaluate(state)
                    progress.update(step, metrics, data_wait=data_wait, also=figures)
                    if update.due(settings.checkpoint_every):
                        progress.flush()
                        if not progress.skipping:  # a diverged state must not evict a good one
                            checkpoints.save(step, state, metrics=figures)
                            posthoc.store(workdir, step, state, settings.ema_stds, writes=writes)
                    if step % settings.sample_every == 0 and not last:
                        checkpoints.flush()  # while sampling, which takes a while
                        draw(state, picture_of(workdir, step))
                checkpoints.flush()
                seconds = progress.seconds
            checkpoints.wait()
            say(
                f"{step - first} steps in {seconds:.1f} s, including pictures and checkpoints: "
                f"{(step - first) / seconds:.2f} steps/s"
            )
            if progress.skipping:
                say(
                    f"the last updates, up to step {step}, were not finite and were skipped; last "
                    f"checkpoint: step {checkpoints.latest_step}"
                )
            if stopped is not None:
                saved = checkpoints.latest_step
                say(f"stopped by {stopped} after step {step}; last checkpoint: step {saved}")

    picture = draw(state, workdir / SAMPLES_FILE)
    if writes:
        config, log, *rest = (
            workdir / name for name in (CONFIG_FILE, METRICS_FILE, TENSORBOARD, CHECKPOINTS)
        )
        for path in (config, log, *draw_losses(workdir), *rest, picture):
            if path is not None:
                say(f"wrote {path}")
    return state


def draw_losses(workdir: Path) -> list[Path]:
    """Plot each player's loss: ``loss.png``, or ``<player>_loss.png`` if there are several."""
    rows = read_lines_json(workdir / METRICS_FILE)
    losses = [name for name in rows[-1] if name.rpartition("/")[2] == "loss"] if rows else ["loss"]
    drawn = []
    for name in losses:
        drawn.append(workdir / (name.replace("/", "_") + ".png"))
        plots.curve(drawn[-1], rows, y=name)
    return drawn


def picture_of(workdir: Path, step: int) -> Path:
    """File of a picture that is drawn during a run."""
    return workdir / "samples" / f"step_{step:07d}.png"


def catch_up(
    workdir: Path,
    state: TrainState,
    settings: TrainingConfig,
    draw: Callable[[TrainState, Path], Path | None],
    *,
    writes: bool,
) -> None:
    """Write what belongs to the resumed step, and may be missing after a kill or a disk error.

    A run that ended at this step has no picture of it either, since that is ``samples.png``.
    """
    step = int(state.step)
    posthoc.store(workdir, step, state, settings.ema_stds, writes=writes)  # overwrites
    due = step % settings.sample_every == 0 and 0 < step < settings.num_steps
    if due and not sharding.agreed(picture_of(workdir, step).exists()):
        draw(state, picture_of(workdir, step))
