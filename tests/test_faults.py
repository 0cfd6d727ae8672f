"""Processes that are really killed, signalled or started twice: nothing is lost silently."""

import random
import resource
import shutil
import signal
import time

import jax
import pytest
from PIL import Image
from running import forked, run, start

from jaxdiff import recipes, train
from jaxdiff.train.signals import stop_signals

STEPS, SAVED_EVERY, PICTURED_AT = 20, 4, 16


def flags(steps=STEPS, saved_every=SAVED_EVERY):
    return [
        "experiments.train",
        "--config=tests/tiny.py",
        f"--config.training.num_steps={steps}",
        f"--config.training.checkpoint_every={saved_every}",
        f"--config.training.sample_every={PICTURED_AT}",
    ]


def parameters(workdir, steps=STEPS):
    """Bytes of every averaged parameter at the end of a run."""
    run = recipes.load(workdir)
    assert run.step == steps
    return [leaf.tobytes() for leaf in map(jax.device_get, jax.tree.leaves(run.params))]


def losses(workdir):
    rows = train.loop.read_lines_json(workdir / "metrics.jsonl")
    return [(row["step"], row["loss"]) for row in rows]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("unbroken") / "run"
    done = run(*flags(), f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir


def wait_for(running, happened):
    while running.alive and not happened():
        time.sleep(0.003)


def kill(running, delay=0.0):
    time.sleep(delay)
    running.signal(signal.SIGKILL)
    assert running.end().returncode == -signal.SIGKILL  # it was still running


def rows_of(workdir):
    log = workdir / "metrics.jsonl"
    return log.read_text().count("\n") if log.exists() else 0


def saved(workdir):
    """The step of the newest complete checkpoint, 0 if there is none."""
    names = (path.name for path in (workdir / "checkpoints").glob("*"))
    return max((int(name) for name in names if name.isdigit()), default=0)


def writing(workdir):
    """Whether a checkpoint is currently being written."""
    return any((workdir / "checkpoints").glob("*tmp*"))


def cut_last_line(workdir):
    """Leave the log as a kill in the middle of a line would."""
    log = workdir / "metrics.jsonl"
    log.write_bytes(log.read_bytes()[:-20])


def assert_ends_like(reference, workdir, steps=STEPS, saved_every=SAVED_EVERY):
    """Resume to the end, which must equal that of an uninterrupted run."""
    done = run(*flags(steps, saved_every), f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert "resuming from step" in done.stdout
    assert parameters(workdir, steps) == parameters(reference, steps)
    assert losses(workdir) == losses(reference)
    assert not writing(workdir)


@pytest.mark.slow
def test_a_run_killed_at_each_of_its_stages_resumes_to_the_same_bits(unbroken, tmp_path):
    workdir = tmp_path / "run"

    def kill_when(happened):
        running = start(*flags(), f"--workdir={workdir}", folder=tmp_path)
        wait_for(running, happened)
        kill(running)

    def kill_in_a_write(newest=0):
        for _ in range(4):  # a write takes 0.1 s, which a busy machine may miss; try the next one
            kill_when(lambda: saved(workdir) >= newest and writing(workdir))
            if writing(workdir):
                return
        pytest.fail("no checkpoint was caught while it was being written")

    kill_when((workdir / "config.json").exists)  # it starts to compile
    assert not rows_of(workdir)
    kill_when(lambda: rows_of(workdir))  # the first steps, none of which is saved
    kill_in_a_write()
    kill_in_a_write(newest=SAVED_EVERY)  # next to a complete one
    cut_last_line(workdir)
    kill_when((workdir / "samples").exists)  # the folder is created to write an image
    for picture in (workdir / "samples").glob("*.png"):
        Image.open(picture).verify()
    kill_when(lambda: saved(workdir) == STEPS)  # the last step, before the final images
    assert not (workdir / "samples.png").exists()
    assert_ends_like(unbroken, workdir)
    for name in ("samples.png", f"samples/step_{PICTURED_AT:07d}.png"):
        assert (workdir / name).read_bytes() == (unbroken / name).read_bytes()


@pytest.mark.slow
@pytest.mark.weekly
def test_a_run_killed_twenty_times_at_random_resumes_to_the_same_bits(tmp_path):
    """Every other time while a checkpoint is written; each run completes at least a few steps."""
    steps, saved_every, kills = 80, 2, 20
    reference, workdir = tmp_path / "unbroken", tmp_path / "run"
    assert run(*flags(steps, saved_every), f"--workdir={reference}").returncode == 0
    generator, while_writing = random.Random(0), 0
    for number in range(kills):
        enough = rows_of(workdir) + generator.randint(1, 3)
        running = start(*flags(steps, saved_every), f"--workdir={workdir}", folder=tmp_path)
        wait_for(running, lambda enough=enough: rows_of(workdir) > enough)
        if number % 2:
            wait_for(running, lambda: writing(workdir))
        kill(running, delay=0.0 if number % 2 else 0.05 * generator.random())
        while_writing += writing(workdir)
    assert while_writing >= kills // 4
    assert_ends_like(reference, workdir, steps, saved_every)


@pytest.mark.slow
def test_a_second_process_is_refused_and_a_signal_stops_the_first_after_saving(unbroken, tmp_path):
    """The first is suspended meanwhile, so that it is still running; then it continues."""
    workdir = tmp_path / "run"
    with start(*flags(), f"--workdir={workdir}", folder=tmp_path) as first:
        wait_for(first, lambda: rows_of(workdir) >= 5)
        first.signal(signal.SIGSTOP)
        second = run(*flags(), f"--workdir={workdir}")
        assert second.returncode == 2
        assert "is in use by another process" in second.stderr
        seen = rows_of(workdir)
        first.signal(signal.SIGCONT)
        wait_for(first, lambda: rows_of(workdir) > seen)
        first.signal(signal.SIGTERM)
        done = first.end()
    assert done.returncode == 0, done.stderr
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith("to resume: python -m experiments.train ")
    stopped = recipes.load(workdir).step
    assert seen < stopped < STEPS
    assert (
        f"stopped by SIGTERM after step {stopped}; last checkpoint: step {stopped}" in done.stdout
    )
    done = run(*last.removeprefix("to resume: python -m ").split())
    assert done.returncode == 0, done.stderr
    assert f"resuming from step {stopped} of" in done.stdout
    assert parameters(workdir) == parameters(unbroken)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_caught_and_the_next_has_its_usual_effect(number):
    class Uncaught(Exception):
        pass

    def raising(number, frame):
        raise Uncaught

    before = signal.signal(number, raising)
    try:
        with stop_signals() as should_stop:
            assert should_stop() is None
            signal.raise_signal(number)
            assert should_stop() == number.name
            with pytest.raises(Uncaught):
                signal.raise_signal(number)
        assert signal.getsignal(number) is raising
    finally:
        signal.signal(number, before)


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_is_named_and_loses_only_its_steps(unbroken, tmp_path):
    workdir = shutil.copytree(unbroken, tmp_path / "run")
    for path in (workdir / "checkpoints" / str(STEPS)).rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = run(*flags(), f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert f"checkpoints/{STEPS}, now {workdir}/damaged/{STEPS}, is damaged" in done.stderr
    assert f"resuming from step {STEPS - SAVED_EVERY}" in done.stdout
    assert parameters(workdir) == parameters(unbroken)


@pytest.mark.slow
def test_an_unwritable_folder_is_reported_in_one_line(tmp_path):
    """In a separate process, to include its exit, which commands run within the tests lack."""
    (tmp_path / "file").write_text("")
    done = forked(*flags(), f"--workdir={tmp_path / 'file' / 'run'}")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_run_that_cannot_print_ends_normally(unbroken, tmp_path):
    workdir = tmp_path / "run"
    for name in ("stdout", "stderr"):
        (tmp_path / name).symlink_to("/dev/full")
    running = start(*flags(), f"--workdir={workdir}", folder=tmp_path)
    running.process.join()
    assert running.process.exitcode == 0
    assert parameters(workdir) == parameters(unbroken)
    assert losses(workdir) == losses(unbroken)


@pytest.mark.slow
def test_no_file_takes_the_descriptor_of_a_closed_stream(tmp_path):
    """Otherwise libraries would print errors into that file: 2>&- frees descriptor 2."""
    done = forked("closed_stream", str(tmp_path / "file"))
    assert done.returncode == 0
    number, size = map(int, done.stdout.split())
    assert number > 2
    assert size == 0


@pytest.mark.slow
def test_a_checkpoint_that_does_not_fit_is_reported_in_one_line(tmp_path):
    """From some step on, the file size limit is below a checkpoint's description of its arrays."""
    workdir = tmp_path / "run"
    with start(*flags(200), f"--workdir={workdir}", folder=tmp_path) as running:
        wait_for(running, lambda: saved(workdir))
        limits = resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (16_000, limits[1]))
        done = running.end()
    assert done.returncode == 2, done.stderr
    *bars, last = done.stderr.splitlines()
    assert [line for line in bars if line and "step/s" not in line] == []
    newest = saved(workdir)
    message = f"could not be written (File too large); that of step {newest} is intact"
    assert last == f"error: {workdir}/checkpoints: a checkpoint {message}"
