"""The mistakes that are easily made at the commands: one sentence, exit code 2, nothing written."""

import pytest
from running import run
from tiny import DIGITS, FEW_STEPS, POINTS

OF_DIGITS = ["experiments.train", DIGITS[0], "--workdir={new}"]
OF_POINTS = ["experiments.train", *POINTS, *FEW_STEPS]
SAMPLE = ["experiments.sample", "--workdir={run}", "--out={new}"]
MISTAKES = {
    "unknown field": ([*OF_DIGITS, "--config.training.steps=3"], "training.steps does not exist"),
    "unknown section": ([*OF_DIGITS, "--config.trainer.steps=3"], "config.trainer does not exist"),
    "wrong type": (
        [*OF_DIGITS, "--config.training.num_steps=many"],
        "config.training.num_steps=many",
    ),
    "out of range": (
        [*OF_DIGITS, "--config.optimizer.learning_rate=-1"],
        "config.optimizer.learning_rate takes a number above 0, got -1.0",
    ),
    "unknown flag": ([*OF_DIGITS, "--speed=3"], "speed"),
    "argument": ([*OF_DIGITS, "fast"], "everything is a flag here, got the argument 'fast'"),
    "unknown data": ([*OF_DIGITS, "--config.data.name=digit"], "unknown data set 'digit'"),
    "missing file": ([*OF_DIGITS, "--config.data.name=npz:none.npz"], "none.npz"),
    "not an image": ([*OF_DIGITS, "--config.data.name=folder:{folder}"], "notes.txt"),
    "size": (
        [*OF_DIGITS, "--config.network.multipliers=(1,2,2,2,2)"],
        "images whose sides divide by 16, got 8 x 8",
    ),
    "no channels": (
        [*OF_DIGITS, "--config.network.channels=0"],
        "channels takes a whole number",
    ),
    "letters for numbers": (
        [*OF_DIGITS, "--config.network.multipliers=ab"],
        "multipliers takes a list",
    ),
    "no such level": (
        [*OF_DIGITS, "--config.network.attention_levels=(9,)"],
        "attention_levels takes levels from 0 to 1, got (9,)",
    ),
    "dropout": (
        [*OF_DIGITS, "--config.network.dropout=1.5"],
        "dropout takes a number in [0, 1)",
    ),
    "order": (
        [*OF_DIGITS, "--config.sampling.solver.order=7"],
        "solver: order of DEIS is 1, 2, 3 or",
    ),
    "seed": (
        [*OF_DIGITS, "--config.seed=18446744073709551616"],
        "config.seed takes a whole number in",
    ),
    "idle option": (
        [*OF_DIGITS, "--config.optimizer.weight_decay=0.1"],
        "weight_decay takes 0",
    ),
    "empty range": ([*OF_DIGITS, "--config.data.low=3.0"], "low < high"),
    "resized to no size": ([*OF_DIGITS, "--config.data.resize=pad"], "config.data.size is 0"),
    "resized vectors": (
        [*OF_POINTS, "--workdir={new}", "--config.data.size=4"],
        "images alone, got 4 for toy:checkerboard",
    ),
    "flipped vectors": (
        [*OF_POINTS, "--workdir={new}", "--config.data.flip=true"],
        "flip and dequantize are for images",
    ),
    "whole section": (
        [*OF_DIGITS, "--config.process=ve"],
        "config.process takes its fields",
    ),
    "no config file": (
        ["experiments.train", "--config=none.py", "--workdir={new}"],
        "--config takes the path of a config file, got 'none.py'",
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
    "label": ([*SAMPLE, "--label=3"], "no classes"),
    "unknown solver": (
        [*SAMPLE, "--solver=rk9"],
        "solver.name takes one of",
    ),
    "option of a solver": (
        [*SAMPLE, "--option=eta"],
        "--option takes NAME=VALUE, an option of the solver, got 'eta'",
    ),
    "option that is none of a solver": (
        [*SAMPLE, "--option=save_fn=3"],
        "--option takes NAME=VALUE, an option of the solver, got 'save_fn=3'",
    ),
    "option of no grid": (
        [*SAMPLE, "--times_option=rho=3"],
        "--times_option takes the --times that it is an option of",
    ),
    "counts": (
        ["experiments.solvers", "--workdir={new}", "--counts=10,5"],
        "--counts takes two or more increasing numbers of evaluations, from 4, got 10,5",
    ),
    "unknown SDE": (
        ["experiments.solvers", "--workdir={new}", "--sdes=VP,EV"],
        "--sdes takes names out of VP, sub-VP, VE, got 'VP,EV'",
    ),
    "seed of samples": (
        [*SAMPLE, "--seed=18446744073709551616"],
        "seed=18446744073709551616",
    ),
    "unknown objective": (
        ["experiments.objectives", "--workdir={new}", "--only=SSM,SMS"],
        "--only takes some of ESM (knows the score), ISM exact,",
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
def test_a_mistake_is_one_sentence_and_exit_code_2(trained, tmp_path, name):
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
