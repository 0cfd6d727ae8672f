"""The commands as a person runs them: those of the README, and the mistakes easily made."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from running import ROOT, command, forked

DIGITS = "experiments/configs/digits_vp.py"
TINY = [
    "--config.network.channels=4",
    "--config.network.multipliers=(1,)",
    "--config.training.num_steps=3",
    "--config.training.batch_size=4",
    "--config.training.log_every=1",
    "--config.optimizer.warmup_steps=1",
    "--config.sampling.num_steps=2",
    "--config.sampling.num_images=4",
]
TOY = [flag for flag in TINY if "network" not in flag]

SMALL = {
    "experiments.objectives": [
        "--steps=2", "--batch=4", "--only=DSM VP", "--workdir={tmp_path}"
    ],
    "experiments.solvers": [
        "--counts=4,8", "--n=2", "--law_n=16", "--only=Heun,DDIM", "--workdir={tmp_path}"
    ],
    "experiments.objective_costs": [
        "--channels=4", "--blocks=1", "--size=4", "--batch=2", "--rounds=1", "--exact_batch=0",
        "--only=FD-SSM",
    ],
}  # fmt: skip


def readme_commands():
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    text = "\n".join(blocks).replace("\\\n", " ")
    return [shlex.split(m) for m in re.findall(r"python -m (experiments\.[^&\n#]*)", text)]


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("digits") / "digits_vp"
    done = command("experiments.train", f"--config={DIGITS}", f"--workdir={workdir}", *TINY)
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_training_says_what_it_wrote_and_where(digits_run):
    workdir, done = digits_run
    last = done.stdout.strip().splitlines()[-6:]
    names = ["config.json", "metrics.jsonl", "loss.png", "tensorboard", "checkpoints"]
    names += ["samples.png"]
    assert last == [f"wrote {workdir / name}" for name in names]
    assert all((workdir / name).exists() for name in names)
    assert "3/3" in done.stderr  # the bar reached its end
    assert "examples/s" in done.stderr


def test_training_again_goes_on_and_changes_nothing(digits_run):
    workdir, _ = digits_run
    before = (workdir / "metrics.jsonl").read_bytes()
    done = forked("experiments.train", f"--config={DIGITS}", f"--workdir={workdir}", *TINY)
    assert done.returncode == 0
    assert "going on from step 3 of 3" in done.stdout
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_every_command_of_the_readme_runs(digits_run, tmp_path):
    """Sampling and evaluating are run on the tiny run, with as few samples as they take."""
    workdir, _ = digits_run
    commands = readme_commands()
    assert {c[0] for c in commands} >= {"experiments.train", "experiments.sample"}
    assert "experiments.evaluate" in {c[0] for c in commands}
    for module, *flags in commands:
        if module == "experiments.train":
            flags = [f for f in flags if not f.startswith("--workdir")]
            name = next(f for f in flags if f.startswith("--config="))
            flags += [
                f"--workdir={tmp_path / Path(name).stem}",
                *(TINY if "toy" not in name else TOY),
            ]
        elif module in SMALL:
            flags = [flag.format(tmp_path=tmp_path) for flag in SMALL[module]]
        else:
            flags = [f for f in flags if not f.startswith(("--workdir", "--n=", "--steps"))]
            flags += [f"--workdir={workdir}", "--n=8"]
            flags += ["--draws=2", "--ode_draws=0"] if module == "experiments.evaluate" else []
        done = forked(module, *flags)
        assert done.returncode == 0, done.stderr
        for line in done.stdout.splitlines():
            if line.startswith("wrote "):
                assert Path(line.removeprefix("wrote ")).exists()


def test_the_library_example_of_the_readme_draws_its_mixture():
    (example, *_) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names = {}
    exec(example, names)  # what a reader would paste
    x, modes = np.asarray(names["x"]), np.asarray(names["modes"])
    nearest = np.argmin(np.linalg.norm(x[:, None] - modes, axis=2), axis=1)
    shares = np.bincount(nearest, minlength=3) / len(x)
    assert np.all(np.abs(shares - 1 / 3) < 5 * np.sqrt(2 / 9 / len(x)))
    assert np.mean(np.linalg.norm(x - modes[nearest], axis=1)) < 0.5  # 0.25 for std 0.2


def test_samples_are_bytes_and_follow_the_seed(digits_run, tmp_path):
    workdir, _ = digits_run
    files = []
    for index, seed in enumerate((0, 0, 1)):
        out = tmp_path / str(index)
        done = forked(
            "experiments.sample", f"--workdir={workdir}", "--n=3", f"--seed={seed}",
            f"--out={out}", "--solver=heun", "--times=karras", "--steps=2",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        files.append(np.load(out / "samples.npz")["x"])
    assert files[0].dtype == np.uint8
    assert files[0].shape == (3, 8, 8, 1)
    np.testing.assert_array_equal(files[0], files[1])
    assert not np.array_equal(files[0], files[2])


def test_evaluation_prints_and_writes_each_figure_with_its_n(digits_run):
    workdir, _ = digits_run
    done = forked("experiments.evaluate", f"--workdir={workdir}", "--n=16", "--seed=4", "--draws=3")
    assert done.returncode == 0, done.stderr
    record = json.loads((workdir / "evaluation.json").read_text())
    bound, figures = record["bits_per_dim"], record["figures"]
    assert (bound["n"], bound["draws"], bound["seed"]) == (297, 3, 4)
    assert f"{bound['bits']:.4f} ± {bound['std_error']:.4f} bits/dim of 297 test" in done.stdout
    assert bound["kind"] in done.stdout
    found = {(f["name"], f["of"], f["against"]): f for f in figures}
    assert set(found) == {
        *((name, of, "test") for name in ("frechet", "precision", "recall")
          for of in ("samples", "train, n equal", "train")),
        *(("nearest_distance", of, "train") for of in ("samples", "test")),
    }  # fmt: skip
    drawn = found["frechet", "samples", "test"]
    assert (drawn["n_of"], drawn["n_against"], drawn["seed"]) == (16, 297, 4)
    assert found["frechet", "train", "test"]["seed"] is None
    for figure in figures:
        assert f"{figure['value']:.4f}" in done.stdout


TRAIN = ["experiments.train", f"--config={DIGITS}", "--workdir={new}"]
MISTAKES = {
    "unknown field": ([*TRAIN, "--config.training.steps=3"], "training.steps does not exist"),
    "unknown section": ([*TRAIN, "--config.trainer.steps=3"], "config.trainer does not exist"),
    "wrong type": ([*TRAIN, "--config.training.num_steps=many"], "config.training.num_steps=many"),
    "out of range": (
        [*TRAIN, "--config.optimizer.learning_rate=-1"],
        "config.optimizer.learning_rate takes a number above 0, got -1.0",
    ),
    "unknown flag": ([*TRAIN, "--speed=3"], "speed"),
    "argument": ([*TRAIN, "fast"], "everything is a flag here, got the argument 'fast'"),
    "unknown data": ([*TRAIN, "--config.data.name=digit"], "unknown data set 'digit'"),
    "missing file": ([*TRAIN, "--config.data.name=npz:none.npz"], "none.npz"),
    "not an image": ([*TRAIN, "--config.data.name=folder:{folder}"], "notes.txt"),
    "size": (
        [*TRAIN, "--config.network.multipliers=(1,2,2,2,2)"],
        "images whose sides divide by 16, got 8 x 8",
    ),
    "no channels": (
        [*TRAIN, "--config.network.channels=0"],
        "channels takes a whole number",
    ),
    "letters for numbers": (
        [*TRAIN, "--config.network.multipliers=ab"],
        "multipliers takes a list",
    ),
    "no such level": (
        [*TRAIN, "--config.network.attention_levels=(9,)"],
        "attention_levels takes levels from 0 to 1, got (9,)",
    ),
    "dropout": (
        [*TRAIN, "--config.network.dropout=1.5"],
        "dropout takes a number in [0, 1)",
    ),
    "order": ([*TRAIN, "--config.sampling.solver.order=7"], "solver: order of DEIS is 1, 2, 3 or"),
    "seed": ([*TRAIN, "--config.seed=18446744073709551616"], "config.seed takes a whole number in"),
    "idle option": (
        [*TRAIN, "--config.optimizer.weight_decay=0.1"],
        "weight_decay takes 0",
    ),
    "empty range": ([*TRAIN, "--config.data.low=3.0"], "low < high"),
    "flipped vectors": (
        [
            "experiments.train",
            "--config=experiments/configs/toy_vp.py",
            "--workdir={new}",
            "--config.data.flip=true",
        ],
        "flip and dequantize are for images",
    ),
    "whole section": (
        [*TRAIN, "--config.process=ve"],
        "config.process takes its fields",
    ),
    "no config file": (
        ["experiments.train", "--config=none.py", "--workdir={new}"],
        "--config takes the path of a config file, got 'none.py'",
    ),
    "no workdir": (["experiments.train", f"--config={DIGITS}"], "--workdir=DIR"),
    "another config": (
        ["experiments.train", f"--config={DIGITS}", "--workdir={run}", *TINY, "--config.seed=5"],
        "config.seed: 0 -> 5",
    ),
    "nothing to sample": (["experiments.sample", "--workdir={new}"], "holds no run"),
    "nothing to evaluate": (["experiments.evaluate", "--workdir={new}"], "holds no run"),
    "nothing trained": (["experiments.sample", "--workdir={untrained}"], "holds no checkpoint"),
    "checkpoints of whom": (
        ["experiments.train", f"--config={DIGITS}", "--workdir={orphaned}", *TINY],
        "holds checkpoints but no config.json",
    ),
    "label": (["experiments.sample", "--workdir={run}", "--out={new}", "--label=3"], "no classes"),
    "unknown solver": (
        ["experiments.sample", "--workdir={run}", "--out={new}", "--solver=rk9"],
        "solver.name takes one of",
    ),
    "option of a solver": (
        ["experiments.sample", "--workdir={run}", "--out={new}", "--option=eta"],
        "--option takes NAME=VALUE, an option of the solver, got 'eta'",
    ),
    "option that is none of a solver": (
        ["experiments.sample", "--workdir={run}", "--out={new}", "--option=save_fn=3"],
        "--option takes NAME=VALUE, an option of the solver, got 'save_fn=3'",
    ),
    "option of no grid": (
        ["experiments.sample", "--workdir={run}", "--out={new}", "--times_option=rho=3"],
        "--times_option takes the --times that it is an option of",
    ),
    "counts": (
        ["experiments.solvers", "--workdir={new}", "--counts=10,5"],
        "--counts takes two or more increasing numbers of evaluations, from 4, got 10,5",
    ),
    "seed of samples": (
        ["experiments.sample", "--workdir={run}", "--out={new}", "--seed=18446744073709551616"],
        "seed=18446744073709551616",
    ),
    "unknown objective": (
        ["experiments.objectives", "--workdir={new}", "--only=SSM,SMS"],
        "--only takes some of ESM (knows the score), ISM exact,",
    ),
    "no samples": (["experiments.sample", "--workdir={run}", "--out={new}", "--n=0"], "n=0"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence_and_exit_code_2(digits_run, tmp_path, name):
    workdir, _ = digits_run
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
    done = forked(*(a.format(**places) for a in arguments))
    assert done.returncode == 2, done.stderr
    said = done.stderr.strip().splitlines()
    assert len([line for line in said if line.startswith("error: ")]) == 1
    assert said[-1].startswith("error: ")
    assert sentence in said[-1]
    assert "Traceback" not in done.stderr
    assert not new.exists()
    assert not [*orphaned.rglob("*.json"), *untrained.rglob("*.png")]
    assert before == {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
