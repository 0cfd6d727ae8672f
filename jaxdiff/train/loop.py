"""L8: the loop around the pure step. The side effects of training live here and in ``progress``.

The batch of step k is a pure function of (seed, k), its noise of (key, k), and a checkpoint holds
the whole state: a run that was stopped and goes on ends bit for bit where it would have ended.
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
    """What is trained: all that the loop is told of a model.

    Args:
        algorithm: ``(*, microbatches, gather) -> Algorithm``, such as a partial
            :func:`jaxdiff.train.alternate`.
        key: of the state at step 0.
        batch_spec: shapes and dtypes of a whole batch.
        batches: ``(*, start_step, shard_index, shard_count, workers) -> iterator`` over the batches
            of the steps after ``start_step``, of which process ``shard_index`` of ``shard_count``
            gets its rows. It reads nothing before the first is asked for.
        identity: of the run.
        frozen: what losses read and no step changes, such as a teacher's parameters.
        evaluate: figures of a state on held-out data by name, every ``eval_every`` steps; by
            ``eval_loss`` the best checkpoints are kept.
        draw: draws a picture of a state to a path, every ``sample_every`` steps and at the end; all
            processes call it, and one writes. It gives the path, or None where nothing is to see.
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
    """Train, or go on training, on all devices there are, and leave everything in ``workdir``.

    Neither devices nor microbatches change what is trained, but for the rounding of sums; a run may
    go on under others than it began with. SIGTERM and SIGINT end it after the step at hand, saved.

    Args:
        task: what is trained.
        workdir: gets ``config.json``, ``data.json``, ``metrics.jsonl``, ``loss.png``,
            ``samples.png``, ``samples/``, ``tensorboard/`` and ``checkpoints/``.
        settings: how long, how often, and what is kept.
        fsdp: over how many devices parameters, averages and moments are divided.
        microbatches: in how many parts a device goes through its share of a batch.
        workers: processes that read and decode, beside this one; 0 for threads of this one.
        profile_steps: first and last of the steps whose trace goes to ``profile/``.
        say: called with each line of report; that one cannot be printed does not stop training.

    Returns:
        The state after the last step.

    Raises:
        InputError: if the workdir holds another run or is being trained in, a checkpoint cannot be
            written, or the loss is not finite for long.
    """
    require(*EXTRAS["train"], purpose="training")
    workdir, say = Path(workdir), unfailing(say)
    plots.check_backend()  # which is needed at the end
    writes = jax.process_index() == 0
    mesh = sharding.mesh(fsdp=fsdp)
    sharding.check_batch(settings.batch_size, microbatches, mesh)
    batches = functools.partial(
        task.batches,
        shard_index=jax.process_index(),
        shard_count=jax.process_count(),
        workers=workers,
    )
    batches()  # reads nothing yet, and refuses what cannot be read
    profiling = profiled(workdir / PROFILE, profile_steps)
    algorithm = on_mesh(task.algorithm, mesh, microbatches=microbatches)
    make = functools.partial(algorithm.init, task.key)
    like = sharding.laid_out(mesh, jax.eval_shape(make))
    memory.check_state(like)

    def draw(state: TrainState, path: Path) -> Path | None:
        return None if task.draw is None else task.draw(state, path, mesh)

    with (
        # not before here: what was refused owns no folder
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
            say(f"going on from step {int(state.step)} of {settings.num_steps}")
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
                    checkpoints.flush()  # of the step before, now that the devices have this one
                    step, state, metrics, data_wait, stopped, last = update
                    figures = None
                    if settings.eval_every and task.evaluate and update.due(settings.eval_every):
                        figures = task.evaluate(state)
                    progress.update(step, metrics, data_wait=data_wait, also=figures)
                    if update.due(settings.checkpoint_every):
                        progress.flush()
                        if not progress.skipping:  # or what is sick would push out what was well
                            checkpoints.save(step, state, metrics=figures)
                            posthoc.store(workdir, step, state, settings.ema_stds, writes=writes)
                    if step % settings.sample_every == 0 and not last:
                        checkpoints.flush()  # beside the walks from noise, which take a while
                        draw(state, picture_of(workdir, step))
                checkpoints.flush()
                seconds = progress.seconds
            checkpoints.wait()
            say(
                f"{step - first} steps in {seconds:.1f} s, pictures and checkpoints included: "
                f"{(step - first) / seconds:.2f} steps/s"
            )
            if progress.skipping:
                say(
                    f"the last updates, up to step {step}, were not finite and not made; saved is "
                    f"{checkpoints.latest_step}"
                )
            if stopped is not None:
                say(f"stopped by {stopped} after step {step}; saved is {checkpoints.latest_step}")

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
    """Draw the course of each player's loss: ``loss.png``, of several ``<player>_loss.png``."""
    rows = read_lines_json(workdir / METRICS_FILE)
    losses = [name for name in rows[-1] if name.rpartition("/")[2] == "loss"] if rows else ["loss"]
    drawn = []
    for name in losses:
        drawn.append(workdir / (name.replace("/", "_") + ".png"))
        plots.curve(drawn[-1], rows, y=name)
    return drawn


def picture_of(workdir: Path, step: int) -> Path:
    """File of the picture that is drawn in the middle of a run."""
    return workdir / "samples" / f"step_{step:07d}.png"


def catch_up(
    workdir: Path,
    state: TrainState,
    settings: TrainingConfig,
    draw: Callable[[TrainState, Path], Path | None],
    *,
    writes: bool,
) -> None:
    """Leave what belongs to the step gone on from, and what a kill or the disk may have taken.

    A run that ended by this step has no picture of it either, since that is ``samples.png``.
    """
    step = int(state.step)
    posthoc.store(workdir, step, state, settings.ema_stds, writes=writes)  # whatever lies there
    due = step % settings.sample_every == 0 and 0 < step < settings.num_steps
    if due and not sharding.agreed(picture_of(workdir, step).exists()):
        draw(state, picture_of(workdir, step))
