"""Several processes that train together: the losses of one, and an end when one is lost."""

import contextlib
import json
import signal
import socket
import time

import pytest
from running import run, start
from tiny import FEW_SAMPLES, POINTS

from jaxdiff import train

STEPS = 6
SMALL = [
    f"--config.training.num_steps={STEPS}",
    "--config.training.batch_size=16",
    "--config.training.checkpoint_every=3",
    "--config.training.log_every=1",
]
IMAGES = [  # flipped at random, with classes, a third of them withheld
    "experiments.train",
    "--config=experiments/configs/cifar10_dit.py",
    "--config.data.name=digits",
    "--config.data.flip=true",
    "--config.model.label_dropout=0.3",
    "--config.network.features=8",
    "--config.network.depth=1",
    "--config.network.heads=1",
    "--config.network.patch=4",
    "--config.optimizer.learning_rate=1e-2",
    "--config.training.eval_every=3",
    *FEW_SAMPLES,
    *SMALL,
]
# wide enough for a matrix that is worth dividing
OF_POINTS = ["experiments.train", *POINTS, "--config.network.width=32", *SMALL]
LONG = [*OF_POINTS, "--config.training.num_steps=100000", "--config.training.checkpoint_every=10"]
LONG += ["--heartbeat_seconds=10"]


def free_port():
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


@contextlib.contextmanager
def together(n, flags, folder):
    """Start n processes of one run, of which none outlives the test."""
    port, started = free_port(), []
    for index in range(n):
        (folder / str(index)).mkdir(exist_ok=True)
        hosts = (f"--coordinator=127.0.0.1:{port}", f"--num_processes={n}", f"--process={index}")
        started.append(start(*flags, *hosts, folder=folder / str(index)))
    try:
        yield started
    finally:
        for process in started:
            if process.alive:
                process.signal(signal.SIGKILL)


def losses(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "n", "more"),
    [(IMAGES, 2, []), (OF_POINTS, 4, ["--fsdp=2"])],
    ids=["2, of images", "4, parameters divided"],
)
def test_processes_together_have_the_losses_of_one(tmp_path, flags, n, more):
    alone = run(*flags, f"--workdir={tmp_path / 'alone'}")
    assert alone.returncode == 0, alone.stderr
    workdir = tmp_path / "run"
    with together(n, [*flags, f"--workdir={workdir}", *more], tmp_path) as processes:
        ended = [p.end() for p in processes]
    assert [done.returncode for done in ended] == [0] * n, ended[0].stderr + ended[-1].stderr
    expected, found = losses(tmp_path / "alone"), losses(workdir)
    assert found.keys() == expected.keys() == set(range(1, STEPS + 1))
    assert all(found[step] == pytest.approx(expected[step], rel=1e-5) for step in expected)
    assert f"for {n} devices" in ended[0].stdout
    assert not any("wrote" in done.stdout for done in ended[1:])  # only one of them speaks
    assert train.load(workdir).step == STEPS  # a checkpoint of many is read by one


@pytest.mark.slow
def test_when_one_is_killed_the_others_say_so_and_end_and_a_restart_goes_on(tmp_path):
    workdir = tmp_path / "run"
    flags = [*LONG, f"--workdir={workdir}"]
    with together(2, flags, tmp_path) as processes:
        while not any(p.name.isdigit() for p in (workdir / "checkpoints").glob("*")):
            assert all(p.alive for p in processes), processes[0].end().stderr
            time.sleep(0.05)
        processes[1].signal(signal.SIGKILL)
        began = time.monotonic()
        done = processes[0].end()
        assert time.monotonic() - began < 60
    # whichever hears of it first: the step, or jax's own service, which ends the process itself
    ends = {
        75: "error: another process of this run was lost; start all of them again",
        -signal.SIGABRT: "the JAX distributed service detected fatal errors",
    }
    assert done.returncode in ends
    assert ends[done.returncode] in done.stderr
    with together(2, flags, tmp_path) as again:
        while "going on from step" not in again[0].said[0].read_text():
            assert all(p.alive for p in again), again[0].end().stderr
            time.sleep(0.05)
        time.sleep(2)
        again[1].signal(signal.SIGTERM)  # while it compiles; either hears it for both
        deadline = time.monotonic() + 60
        while any(p.alive for p in again):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        ended = [p.end() for p in again]
    assert [done.returncode for done in ended] == [0, 0], ended[0].stderr
    assert "stopped by SIGTERM after step" in ended[0].stdout


@pytest.mark.parametrize(
    "flags",
    [
        ["--num_processes=2"],
        ["--coordinator=127.0.0.1:1", "--num_processes=2"],
        ["--coordinator=auto", "--process=1", "--num_processes=2"],
    ],
    ids=["nobody to meet", "which of them", "auto and not"],
)
def test_flags_that_do_not_go_together_are_one_sentence(tmp_path, flags):
    done = run(*OF_POINTS, f"--workdir={tmp_path / 'run'}", *flags)
    assert done.returncode == 2
    assert "--coordinator" in done.stderr
    assert not (tmp_path / "run").exists()
