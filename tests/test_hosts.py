"""Several processes train together: same losses as one, and all end when one is lost."""

import contextlib
import json
import signal
import socket
import time

import pytest
from running import run, start

from jaxdiff import recipes

STEPS, SAVED_EVERY = 16, 10
FLAGS = [  # images flipped at random, with classes, a third of them dropped
    "--config=tests/tiny.py",
    "--config.data.flip=true",
    "--config.model.class_conditional=true",
    "--config.model.label_dropout=0.3",
    "--config.network.width=32",  # wide enough for matrices worth dividing
    "--config.optimizer.learning_rate=1e-2",
    "--config.optimizer.schedule=constant",  # the same first steps, however many follow
    f"--config.training.checkpoint_every={SAVED_EVERY}",
]
SHORT = [*FLAGS, f"--config.training.num_steps={STEPS}", "--config.training.eval_every=10"]
LONG = [*FLAGS, "--config.training.num_steps=100000", "--heartbeat_seconds=10"]
TRAIN = "experiments.train"


def free_port():
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


@contextlib.contextmanager
def together(modules, flags, folder, devices=1):
    """Start one process of a run for each module; none outlives the test."""
    port, started = free_port(), []
    for index, module in enumerate(modules):
        (folder / str(index)).mkdir(exist_ok=True)
        hosts = [f"--num_processes={len(modules)}", f"--process={index}"]
        hosts += [f"--coordinator=127.0.0.1:{port}"]
        started.append(start(module, *flags, *hosts, folder=folder / str(index), devices=devices))
    try:
        yield started
    finally:
        for process in started:
            if process.alive:
                process.signal(signal.SIGKILL)


def losses(workdir, name="loss"):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row[name] for row in rows if name in row}


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("single") / "run"
    done = run(TRAIN, *SHORT, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir


def assert_first_losses_are_those_of(single, workdir):
    found, expected = losses(workdir), losses(single)
    assert set(found) == set(range(1, len(found) + 1))
    assert all(found[step] == pytest.approx(expected[step], rel=1e-5) for step in expected)


@pytest.mark.slow
def test_processes_together_have_the_losses_of_one(single, tmp_path):
    """Two devices each, and every matrix divided over all four."""
    workdir = tmp_path / "run"
    flags = [*SHORT, f"--workdir={workdir}", "--fsdp=4"]
    with together([TRAIN, TRAIN], flags, tmp_path, devices=2) as processes:
        ended = [p.end() for p in processes]
    assert [done.returncode for done in ended] == [0, 0], ended[0].stderr + ended[1].stderr
    assert_first_losses_are_those_of(single, workdir)
    held_out, expected = (losses(path, "eval_loss") for path in (workdir, single))
    assert held_out == pytest.approx(expected, rel=1e-5)
    assert expected.keys() == {10, STEPS}
    assert "for 4 devices" in ended[0].stdout
    assert "wrote" not in ended[1].stdout  # only the first one prints
    assert recipes.load(workdir).step == STEPS  # one process can read a checkpoint of several


@pytest.mark.slow
def test_when_one_is_killed_all_end_and_a_restart_resumes_until_one_is_signalled(single, tmp_path):
    workdir = tmp_path / "run"
    flags = [*LONG, f"--workdir={workdir}"]
    with together([TRAIN, "dying"], flags, tmp_path) as processes:
        killed = processes[1].end()
        began = time.monotonic()
        done = processes[0].end()
        assert time.monotonic() - began < 60
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    # whichever notices first: the step, or jax's own service, which aborts the process
    ends = {
        75: "error: another process of this run was lost; restart all of them",
        -signal.SIGABRT: "the JAX distributed service detected fatal errors",
    }
    assert done.returncode in ends
    assert ends[done.returncode] in done.stderr
    with together([TRAIN, TRAIN], flags, tmp_path) as again:
        while max(losses(workdir)) < STEPS:
            assert all(p.alive for p in again), again[0].end().stderr
            time.sleep(0.05)
        again[1].signal(signal.SIGTERM)  # either one stops both
        deadline = time.monotonic() + 60
        while any(p.alive for p in again):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        ended = [p.end() for p in again]
    assert [done.returncode for done in ended] == [0, 0], ended[0].stderr + ended[1].stderr
    assert f"resuming from step {SAVED_EVERY} of" in ended[0].stdout
    stopped = recipes.load(workdir).step
    assert (
        f"stopped by SIGTERM after step {stopped}; last checkpoint: step {stopped}"
        in ended[0].stdout
    )
    assert_first_losses_are_those_of(single, workdir)


@pytest.mark.parametrize(
    "flags",
    [
        ["--num_processes=2"],
        ["--coordinator=127.0.0.1:1", "--num_processes=2"],
        ["--coordinator=auto", "--process=1", "--num_processes=2"],
    ],
    ids=["no coordinator", "no process id", "auto and explicit"],
)
def test_incompatible_flags_are_reported_in_one_line(tmp_path, flags):
    done = run(TRAIN, *SHORT, f"--workdir={tmp_path / 'run'}", *flags)
    assert done.returncode == 2
    assert "--coordinator" in done.stderr
    assert not (tmp_path / "run").exists()
