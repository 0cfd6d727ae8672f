"""Common usage errors of the commands: one line, exit status 2, nothing written."""

import errno
import os
import re

import pytest
from running import run
from tiny import DIGITS, FEW_STEPS, POINTS

from jaxdiff.train import memory

OF_DIGITS = ["experiments.train", DIGITS[0], "--workdir={new}"]
OF_POINTS = ["experiments.train", *POINTS, *FEW_STEPS]
SAMPLE = ["experiments.sample", "--workdir={run}", "--out={new}"]
MISTAKES = {
    "unknown field": ([*OF_DIGITS, "--config.training.steps=3"], "training.steps does not exist"),
    "misspelt field": (
        [*OF_DIGITS, "--config.training.batch_sise=3"],
        "; did you mean 'batch_size'?",
    ),
    "unknown section": ([*OF_DIGITS, "--config.trainer.steps=3"], "config.trainer does not exist"),
    "wrong type": (
        [*OF_DIGITS, "--config.training.num_steps=many"],
        "config.training.num_steps=many",
    ),
    "out of range": (
        [*OF_DIGITS, "--config.optimizer.learning_rate=-1"],
        "config.optimizer.learning_rate must be a number above 0, got -1.0",
    ),
    "infinite": (
        [*OF_DIGITS, "--config.optimizer.learning_rate=inf"],
        "config.optimizer.learning_rate must be a finite number, got inf",
    ),
    "infinite option": (
        [*OF_DIGITS, "--config.sampling.times.rho=inf"],
        "config.sampling.times.rho must be a finite number, got inf",
    ),
    "a million millions": (
        [*OF_DIGITS, "--config.training.batch_size=1000000000000"],
        "config.training.batch_size must be an integer below 2^31, got 1000000000000",
    ),
    "no time": ([*SAMPLE, "--t_min=nan"], "--t_min must be a finite number, got nan"),
    "no tolerance": (
        ["experiments.evaluate", "--workdir={run}", "--rtol=nan"],
        "--rtol must be a finite number, got nan",
    ),
    "unknown flag": ([*OF_DIGITS, "--speed=3"], "speed"),
    "argument": ([*OF_DIGITS, "fast"], "all arguments must be flags, got 'fast'"),
    "unknown data": ([*OF_DIGITS, "--config.data.name=digit"], "did you mean 'digits'?"),
    "missing file": ([*OF_DIGITS, "--config.data.name=npz:none.npz"], "none.npz"),
    "not an image": ([*OF_DIGITS, "--config.data.name=folder:{folder}"], "notes.txt"),
    "size": (
        [*OF_DIGITS, "--config.network.multipliers=(1,2,2,2,2)"],
        "images whose sides are multiples of 16, got 8 x 8",
    ),
    "no channels": (
        [*OF_DIGITS, "--config.network.channels=0"],
        "channels must be a positive integer",
    ),
    "letters for numbers": (
        [*OF_DIGITS, "--config.network.multipliers=ab"],
        "multipliers must be a list",
    ),
    "no such level": (
        [*OF_DIGITS, "--config.network.attention_levels=(9,)"],
        "attention_levels must be levels from 0 to 1, got (9,)",
    ),
    "dropout": (
        [*OF_DIGITS, "--config.network.dropout=1.5"],
        "dropout must be a number in [0, 1)",
    ),
    "order": (
        [*OF_DIGITS, "--config.sampling.solver.order=7"],
        "solver: order of DEIS must be 1, 2, 3 or",
    ),
    "seed": (
        [*OF_DIGITS, "--config.seed=18446744073709551616"],
        "config.seed must be an integer in",
    ),
    "idle option": (
        [*OF_DIGITS, "--config.optimizer.weight_decay=0.1"],
        "weight_decay must be 0",
    ),
    "empty range": ([*OF_DIGITS, "--config.data.low=3.0"], "low < high"),
    "resized to no size": (
        [*OF_DIGITS, "--config.data.resize=pad"],
        "unless config.data.size is set",
    ),
    "resized vectors": (
        [*OF_POINTS, "--workdir={new}", "--config.data.size=4"],
        "size must be None for data that are not images, got 4 for toy:checkerboard",
    ),
    "flipped vectors": (
        [*OF_POINTS, "--workdir={new}", "--config.data.flip=true"],
        "flip and dequantize must be false for vectors",
    ),
    "whole section": (
        [*OF_DIGITS, "--config.process=ve"],
        "config.process must be set field by field",
    ),
    "no config file": (
        ["experiments.train", "--config=none.py", "--workdir={new}"],
        "--config must be the path of a config file, got 'none.py'",
    ),
    "two config files": (
        [*OF_POINTS, "--workdir={new}", "--config=tests/tiny.py"],
        "--config must be given once, got experiments/configs/toy_vp.py and tests/tiny.py",
    ),
    "a folder for a config file": (
        ["experiments.train", "--config={folder}", "--workdir={new}"],
        "--config must be the path of a config file, got",
    ),
    "no workdir": (["experiments.train", DIGITS[0]], "--workdir=DIR"),
    "another config": (
        [*OF_POINTS, "--workdir={run}", "--config.seed=5"],
        "config.seed: 0 -> 5",
    ),
    "nothing to sample": (["experiments.sample", "--workdir={new}"], "holds no run"),
    "nothing to evaluate": (["experiments.evaluate", "--workdir={new}"], "holds no run"),
    "nothing trained": (["experiments.sample", "--workdir={untrained}"], "holds no checkpoint"),
    "checkpoints of whom": (
        [*OF_POINTS, "--workdir={orphaned}"],
        "holds checkpoints but no config.json",
    ),
    "label": ([*SAMPLE, "--label=3"], "run without classes"),
    "unknown solver": (
        [*SAMPLE, "--solver=rk9"],
        "solver.name must be one of",
    ),
    "option of a solver": (
        [*SAMPLE, "--option=eta"],
        "--option must be NAME=VALUE, an option of the solver, got 'eta'",
    ),
    "option that is none of a solver": (
        [*SAMPLE, "--option=save_fn=3"],
        "--option must be NAME=VALUE, an option of the solver, got 'save_fn=3'",
    ),
    "option of no grid": (
        [*SAMPLE, "--times_option=rho=3"],
        "--times_option requires --times",
    ),
    "counts": (
        ["experiments.studies.solvers", "--workdir={new}", "--counts=10,5"],
        "--counts must be two or more increasing numbers of evaluations, from 4, got 10,5",
    ),
    "unknown SDE": (
        ["experiments.studies.solvers", "--workdir={new}", "--sdes=VP,EV"],
        "--sdes must be names from VP, sub-VP, VE, VE to 80, got 'VP,EV'",
    ),
    "seed of samples": (
        [*SAMPLE, "--seed=18446744073709551616"],
        "seed=18446744073709551616",
    ),
    "unknown objective": (
        ["experiments.studies.objectives", "--workdir={new}", "--only=SSM,SMS"],
        "--only must be names from ESM (knows the score), ISM exact,",
    ),
    "no samples": ([*SAMPLE, "--n=0"], "n=0"),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("points") / "run"
    done = run(*OF_POINTS, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.mark.parametrize("name", MISTAKES)
def test_usage_errors_print_one_line_and_exit_with_status_2(trained, tmp_path, name):
    workdir = trained
    new, folder = tmp_path / "new", tmp_path / "folder"
    folder.mkdir()
    (folder / "notes.txt").write_text("not an image")
    untrained, orphaned = tmp_path / "untrained", tmp_path / "orphaned"
    untrained.mkdir()
    (untrained / "config.json").write_bytes((workdir / "config.json").read_bytes())
    (orphaned / "checkpoints").mkdir(parents=True)
    places = {"new": new, "folder": folder, "run": workdir}
    places |= {"untrained": untrained, "orphaned": orphaned}
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    arguments, sentence = MISTAKES[name]
    done = run(*(a.format(**places) for a in arguments))
    assert done.returncode == 2, done.stderr
    said = done.stderr.strip().splitlines()
    assert len([line for line in said if line.startswith("error: ")]) == 1
    assert said[-1].startswith("error: ")
    assert sentence in said[-1]
    assert "Traceback" not in done.stderr
    assert not new.exists()
    assert not [*orphaned.rglob("*.json"), *untrained.rglob("*.png")]
    assert before == {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}


CHAIN = ["experiments.train", "--config=experiments/configs/digits_ddpm.py", "--workdir={new}"]
OUTGROWN = {
    # name of what is too much, and how many GiB it takes on a machine of one
    "--config.training.batch_size=1073741824": (OF_DIGITS, "64.0"),  # 8 x 8 bytes each
    "--config.sampling.num_images=67108864": (OF_DIGITS, "16.0"),  # 8 x 8 numbers each
    "--config.sampling.num_steps=1073741824": (OF_DIGITS, "20.0"),
    "--config.process.num_steps=1073741824": (CHAIN, "20.0"),
    "--config.network.depth=1048576": ([*OF_POINTS, "--workdir={new}"], "16.0"),
    "--workers=1024": (OF_DIGITS, "32.0"),
    "--steps=100000000000": (SAMPLE, "1,862.6"),
    "--n=1073741824": (SAMPLE, "8.0"),  # points of two numbers
    "--batch=268435456": (["experiments.studies.objectives", "--workdir={new}"], "2.0"),
    "--sde_n=268435456": (["experiments.studies.solvers", "--workdir={new}"], "4.0"),
}


@pytest.mark.parametrize("flag", OUTGROWN)
def test_whatever_exceeds_memory_is_refused_before_anything_is_written(
    trained, tmp_path, monkeypatch, flag
):
    monkeypatch.setattr(memory, "host_memory", lambda: 2**30)
    arguments, size = OUTGROWN[flag]
    places = {"new": tmp_path / "new", "run": trained}
    done = run(*(a.format(**places) for a in arguments), flag)
    assert done.returncode == 2, done.stderr
    name, value = flag.removeprefix("--").split("=")
    said = done.stderr.removeprefix("error: ")
    assert name.split(".")[-1] in said or name == "steps"
    assert said.endswith(f"must fit into 1.0 GiB of memory, got {value} ({size} GiB)\n")
    assert not (tmp_path / "new").exists()


def test_a_network_that_exceeds_memory_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    """Matrices of 8192 columns: 1½ embed the time, two scale and shift, two form the block."""
    monkeypatch.setattr(memory, "host_memory", lambda: 2**30)
    new = tmp_path / "new"
    done = run(*OF_POINTS, "--config.network.width=8192", f"--workdir={new}")
    # 5.5 x 8192² = 369,098,752 numbers of 4 bytes, and few more, each as parameter, as average and
    # as two moments
    sentence = r"the training state must fit into 1\.0 GiB of memory, got 369,\d+,\d+ parameters"
    assert done.returncode == 2
    assert re.fullmatch(rf"error: {sentence} \(5\.5 GiB\)\n", done.stderr)
    assert not new.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [*OF_POINTS, "--workdir={new}"],
        SAMPLE,
        ["experiments.studies.objectives", "--workdir={new}"],
        ["experiments.studies.solvers", "--workdir={new}"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_wrong_backend_is_refused_before_anything_is_drawn(
    trained, tmp_path, monkeypatch, arguments
):
    monkeypatch.setenv("MPLBACKEND", "nonsense")
    done = run(*(a.format(new=tmp_path / "new", run=trained) for a in arguments))
    sentence = "MPLBACKEND must be a backend of matplotlib, such as Agg, got 'nonsense'"
    assert (done.returncode, done.stderr) == (2, f"error: {sentence}\n")
    assert not (tmp_path / "new").exists()


FULL = {
    "samples": (SAMPLE, "{new}/samples.npz"),
    "weights": (["experiments.weights", "--workdir={run}", "--write={new}"], "{new}/model.safeten"),
    "a new run": ([*OF_POINTS, "--workdir={new}"], "{new}/config.json"),
    "the last picture": ([*OF_POINTS, "--workdir={run}"], "{run}/samples.png"),
}


@pytest.mark.parametrize("name", FULL)
def test_a_full_disk_is_reported_in_one_line_naming_the_file(trained, tmp_path, monkeypatch, name):
    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    places = {"new": tmp_path / "new", "run": trained}
    arguments, path = FULL[name]
    done = run(*(a.format(**places) for a in arguments))
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"error: {path.format(**places)}")
    assert last.endswith(": No space left on device")
