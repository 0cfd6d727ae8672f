"""Processes that are really killed, signalled, doubled: nothing is lost, and it is said."""

import random
import shutil
import signal
import time

import jax
import pytest
from running import forked, start

from jaxdiff import train

STEPS, KILLS = 80, 20
FLAGS = [
    "experiments.train",
    "--config=experiments/configs/toy_vp.py",
    "--config.network.width=8",
    f"--config.training.num_steps={STEPS}",
    "--config.training.batch_size=16",
    "--config.training.checkpoint_every=2",
    "--config.training.log_every=1",
    "--config.optimizer.warmup_steps=1",
    "--config.sampling.num_images=4",
    "--config.sampling.num_steps=2",
]


def parameters(workdir):
    """Bytes of every averaged parameter at the end of a run."""
    run = train.load(workdir)
    assert run.step == STEPS
    return [leaf.tobytes() for leaf in map(jax.device_get, jax.tree.leaves(run.params))]


def losses(workdir):
    rows = train.loop.read_lines_json(workdir / "metrics.jsonl")
    return [(row["step"], row["loss"]) for row in rows]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("unbroken") / "run"
    done = forked(*FLAGS, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir


def wait_for(running, happened):
    while running.alive and not happened():
        time.sleep(0.001)


def rows_of(workdir):
    log = workdir / "metrics.jsonl"
    return log.read_text().count("\n") if log.exists() else 0


def writing(workdir):
    """Whether a checkpoint is being written at this moment."""
    return any((workdir / "checkpoints").glob("*tmp*"))


def test_a_run_killed_twenty_times_ends_in_the_same_bits(unbroken, tmp_path):
    """Every other time while a checkpoint is written; each run makes a few steps at least."""
    workdir, chance, while_writing = tmp_path / "run", random.Random(0), 0
    for kill in range(KILLS):
        before = rows_of(workdir)
        running = start(*FLAGS, f"--workdir={workdir}", folder=tmp_path)
        enough = before + chance.randint(1, 3)
        wait_for(running, lambda enough=enough: rows_of(workdir) > enough)
        if kill % 2:
            wait_for(running, lambda: writing(workdir))
        else:
            time.sleep(0.05 * chance.random())
        running.signal(signal.SIGKILL)
        assert running.end().returncode == -signal.SIGKILL  # it was in the middle of its work
        while_writing += writing(workdir)
    assert while_writing >= KILLS // 4
    done = forked(*FLAGS, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert "going on from step" in done.stdout
    assert parameters(workdir) == parameters(unbroken)
    assert losses(workdir) == losses(unbroken)
    assert not writing(workdir)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_training_saved_and_says_how_to_go_on(unbroken, tmp_path, number):
    workdir = tmp_path / "run"
    running = start(*FLAGS, f"--workdir={workdir}", folder=tmp_path)
    wait_for(running, lambda: rows_of(workdir) >= 5)
    running.signal(number)
    done = running.end()
    assert done.returncode == 0, done.stderr
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith("to go on: python -m experiments.train ")
    stopped = train.load(workdir).step
    assert 5 <= stopped < STEPS
    assert f"stopped by {number.name} after step {stopped}; saved is {stopped}" in done.stdout
    done = forked(*last.removeprefix("to go on: python -m ").split())
    assert done.returncode == 0, done.stderr
    assert f"going on from step {stopped} of" in done.stdout
    assert parameters(workdir) == parameters(unbroken)


def test_a_second_process_in_the_same_workdir_is_refused_and_the_first_goes_on(tmp_path):
    workdir = tmp_path / "run"
    first = start(*FLAGS, f"--workdir={workdir}", folder=tmp_path)
    wait_for(first, lambda: rows_of(workdir) >= 1)
    second = forked(*FLAGS, f"--workdir={workdir}")
    assert second.returncode == 2
    assert "is being trained in by another process" in second.stderr
    assert first.alive
    first.signal(signal.SIGTERM)
    assert first.end().returncode == 0


def test_a_damaged_newest_checkpoint_is_named_and_costs_only_its_steps(unbroken, tmp_path):
    workdir = shutil.copytree(unbroken, tmp_path / "run")
    for path in (workdir / "checkpoints" / str(STEPS)).rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = forked(*FLAGS, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert f"checkpoints/{STEPS}, now {workdir}/damaged/{STEPS}, is damaged" in done.stderr
    assert f"going on from step {STEPS - 2}" in done.stdout
    assert parameters(workdir) == parameters(unbroken)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    done = forked(*FLAGS, f"--workdir={tmp_path / 'file' / 'run'}")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
