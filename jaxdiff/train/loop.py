"""L7: the loop around the pure step. The side effects of training live here and in ``progress``.

The batch of step k is a pure function of (seed, k), its noise of (key, k), and a checkpoint holds
the whole state: a run that was stopped and goes on ends bit for bit where it would have ended.
"""

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from jaxdiff import data, plots
from jaxdiff.extras import EXTRAS, require
from jaxdiff.files import read_lines_json
from jaxdiff.train import build, devices, memory, posthoc
from jaxdiff.train.assembly import assemble, fresh_state
from jaxdiff.train.checkpoints import METRIC, Checkpoints
from jaxdiff.train.compiled import compile_step
from jaxdiff.train.config import Config
from jaxdiff.train.held_out import held_out_loss
from jaxdiff.train.interrupts import stop_signals
from jaxdiff.train.output import unfailing
from jaxdiff.train.progress import Progress
from jaxdiff.train.run import Run
from jaxdiff.train.same_data import check_same_data
from jaxdiff.train.state import TrainState
from jaxdiff.train.updates import traced, updates
from jaxdiff.train.workdir import (
    CHECKPOINTS,
    CONFIG_FILE,
    LOSS_FILE,
    METRICS_FILE,
    PROFILE,
    SAMPLES_FILE,
    TENSORBOARD,
    claimed,
    go_on_with,
)
from jaxdiff.typing import InputError

SAMPLES = 2**31
"""Of the keys folded into the seed's, the one of pictures: far from those that training uses."""


def train(
    config: Config,
    workdir: str | Path,
    *,
    fsdp: int = 1,
    microbatches: int = 1,
    workers: int = 0,
    profile_steps: tuple[int, int] | None = None,
    say: Callable[[str], None] = print,
) -> Run:
    """Train, or go on training, on all devices there are, and leave everything in ``workdir``.

    Neither devices nor microbatches change what is trained, but for the rounding of sums; a run may
    go on under others than it began with. SIGTERM and SIGINT end it after the step at hand, saved.

    Args:
        config: of the run; on a resume it may differ from the one in the workdir in what
            :func:`jaxdiff.train.resuming.refused_changes` lets pass, which is then written there.
        workdir: gets ``config.json``, ``data.json``, ``metrics.jsonl``, ``loss.png``,
            ``samples.png``, ``samples/``, ``tensorboard/`` and ``checkpoints/``.
        fsdp: over how many devices parameters, averages and moments are divided.
        microbatches: in how many turns a device goes through its share of a batch.
        workers: processes that read and decode, beside this one; 0 for threads of this one.
        profile_steps: first and last of the steps whose trace goes to ``profile/``.
        say: called with each line of report; that one cannot be printed does not stop training.

    Returns:
        The run, trained up to ``run.step``.

    Raises:
        InputError: if the configuration cannot be built, the workdir holds another run or is being
            trained in, a checkpoint cannot be written, or the loss is not finite for long.
    """
    require(*EXTRAS["train"], purpose="training")
    workdir, settings, say = Path(workdir), config.training, unfailing(say)
    plots.check_backend()  # which is needed at the end
    writes = jax.process_index() == 0
    mesh = devices.mesh(fsdp=fsdp)
    devices.check_batch(settings.batch_size, microbatches, mesh)
    dataset = build.dataset(config)
    run = assemble(config, dataset.shape, dataset.num_classes)
    check_memory(run, workers)
    if settings.eval_every and not len(dataset.test):
        raise InputError(
            "config.training.eval_every must be 0 for data without a test split, got "
            f"{settings.eval_every}"
        )
    reference = None
    if not dataset.is_image and len(dataset.test):
        reference = data.stack(dataset.test, limit=2000)[0]
    share = (jax.process_index(), jax.process_count())
    batches = functools.partial(build.batches, config, dataset.train, share=share, workers=workers)
    batches()  # reads nothing yet, and refuses what cannot be read
    tracing = traced(workdir / PROFILE, profile_steps)
    make = functools.partial(fresh_state, run)
    like = devices.laid_out(mesh, jax.eval_shape(make))
    memory.check_state(like, config.network.name)
    draw = functools.partial(draw_samples, run, mesh=mesh, reference=reference, writes=writes)
    with (
        # not before here: what was refused owns no folder
        claimed(workdir, config, run.shape, run.num_classes)
        if writes
        else contextlib.nullcontext(),
        stop_signals() as should_stop,
        Checkpoints(workdir, keep=settings) as checkpoints,
    ):
        if writes:
            check_same_data(workdir, dataset)
        if checkpoints.latest_step is None:
            shardings = jax.tree.map(lambda leaf: leaf.sharding, like)
            state = jax.jit(make, out_shardings=shardings)()
        else:
            state = checkpoints.restore(like)
            say(f"going on from step {int(state.step)} of {settings.num_steps}")
            catch_up(workdir, state, config, draw, writes=writes)
        for change in go_on_with(workdir, config) if writes else ():
            say(f"changed in {workdir / CONFIG_FILE}: {change}")
        first = step = int(state.step)
        if first < settings.num_steps:
            step_fn = compile_step(run, state, mesh, microbatches=microbatches, say=say)
            held_out = held_out_loss(run, dataset.test) if settings.eval_every else None
            with (
                Progress(
                    workdir if writes else None,
                    settings,
                    first,
                    newest=lambda: checkpoints.latest_step,
                ) as progress,
                tracing as trace,
            ):
                feed, until, stopped = batches(start_step=first), settings.num_steps, None
                for update in updates(
                    state, step_fn, feed, mesh, until=until, should_stop=should_stop, trace=trace
                ):
                    checkpoints.flush()  # of the step before, now that the devices have this one
                    step, state, metrics, data_wait, stopped, last = update
                    figures = None
                    if held_out and update.due(settings.eval_every):
                        figures = {METRIC: held_out(state.averages[0])}
                    progress.update(step, metrics, data_wait=data_wait, also=figures)
                    if update.due(settings.checkpoint_every):
                        progress.flush()
                        if not progress.skipping:  # or what is sick would push out what was well
                            checkpoints.save(step, state, metrics=figures)
                            posthoc.store(workdir, step, state, config, writes=writes)
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
        plots.curve(workdir / LOSS_FILE, read_lines_json(workdir / METRICS_FILE))
        names = (CONFIG_FILE, METRICS_FILE, LOSS_FILE, TENSORBOARD, CHECKPOINTS)
        for path in (*(workdir / name for name in names), picture):
            if path is not None:
                say(f"wrote {path}")
    return run.at(state)


def picture_of(workdir: Path, step: int) -> Path:
    """File of the picture that is drawn in the middle of a run."""
    return workdir / "samples" / f"step_{step:07d}.png"


def catch_up(
    workdir: Path,
    state: TrainState,
    config: Config,
    draw: Callable[[TrainState, Path], Path | None],
    *,
    writes: bool,
) -> None:
    """Leave what belongs to the step gone on from, and what a kill or the disk may have taken.

    A run that ended by this step has no picture of it either, since that is ``samples.png``.
    """
    step, settings = int(state.step), config.training
    posthoc.store(workdir, step, state, config, writes=writes)  # whatever lies there
    due = step % settings.sample_every == 0 and 0 < step < settings.num_steps
    if due and not devices.agreed(picture_of(workdir, step).exists()):
        draw(state, picture_of(workdir, step))


def check_memory(run: Run, workers: int) -> None:
    """Refuse numbers of the configuration that no memory holds, by the data that they stand for."""
    settings = run.config.training
    stored = 1 if run.is_image else 4
    memory.check_examples(
        "config.training.batch_size", settings.batch_size, run.shape, itemsize=stored
    )
    memory.check_examples("config.sampling.num_images", run.config.sampling.num_images, run.shape)
    memory.check_fits("workers", workers, workers * memory.PROCESS)


def draw_samples(
    run: Run,
    state: TrainState,
    path: Path,
    *,
    mesh: Mesh,
    reference: np.ndarray | None,
    writes: bool,
) -> Path | None:
    """Picture samples of a state, always from the same noise; every process takes part."""
    key = jax.random.fold_in(jax.random.key(run.config.seed), SAMPLES)
    x = run.at(state).sample(key, run.config.sampling.num_images, mesh=mesh)
    pixels = devices.fetch(x)
    return draw(path, pixels, run, reference=reference) if writes else None


def draw(
    path: Path, x: np.ndarray, run: Run, *, reference: np.ndarray | None = None
) -> Path | None:
    """Picture examples: images as a grid, points of the plane beside the data.

    Returns:
        The path, or None where there is nothing to see: other shapes, and numbers that are not
        finite, which are no reason for training to end.
    """
    if not np.all(np.isfinite(x)):
        return None
    if run.is_image and run.shape[-1] in (1, 3):
        plots.image_grid(path, x, value_range=run.value_range)
    elif run.shape == (2,):
        plots.scatter(path, x, reference=reference)
    else:
        return None
    return path
