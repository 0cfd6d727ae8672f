"""The README's commands as a user runs them, on the smallest possible runs."""

import json
import re
import shlex
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from players import quiet
from running import ROOT, command, run
from tiny import (
    DIGITS,
    FEW_SAMPLES,
    FEW_STEPS,
    POINTS,
    SMALLEST_MLP,
    SMALLEST_UNET,
    digits_config,
)

from experiments.common import figures
from jaxdiff import guidance, recipes

SMALL = {
    "experiments.studies.objectives": ["--steps=2", "--batch=4", "--only=DSM VP"],
    "experiments.studies.solvers": [
        "--counts=4,8", "--n=2", "--sde_n=16", "--only=Heun,Heun with churn 0.1", "--sdes=VE"
    ],
    "experiments.benchmarks.objective_costs": [
        "--channels=4", "--multiplier=1", "--blocks=1", "--size=4", "--batch=2", "--rounds=1",
        "--only=FD-SSM",
    ],
}  # fmt: skip


def readme(name):
    """Code blocks of one language in the README and in docs/."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    return re.findall(rf"```{name}\n(.*?)```", text, re.DOTALL)


def readme_commands(module):
    """The commands that run a module, as lists of their arguments without a workdir."""
    text = "\n".join(readme("bash")).replace("\\\n", " ")
    found = [shlex.split(m) for m in re.findall(r"python -m (experiments\.[^&\n#]*)", text)]
    return [[a for a in line if "--workdir" not in a] for line in found if line[0] == module]


def assert_went_well(done):
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        if line.startswith("wrote "):
            assert Path(line.removeprefix("wrote ")).exists()


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    """The result of the README's first command, with three steps of a small network."""
    workdir = tmp_path_factory.mktemp("digits") / "digits_vp"
    line, *_ = readme_commands("experiments.train")
    assert DIGITS[0] in line
    done = run(*line, *SMALLEST_UNET, *FEW_SAMPLES, *FEW_STEPS, f"--workdir={workdir}")
    assert_went_well(done)
    return workdir


@pytest.fixture(scope="module")
def mlp_run(tmp_path_factory):
    """A run of digits for commands that do not depend on the network."""
    workdir = tmp_path_factory.mktemp("digits") / "mlp"
    recipes.train(digits_config(num_steps=3), workdir, say=quiet)
    return workdir


@pytest.mark.slow
def test_training_prints_what_it_wrote_and_where(tmp_path):
    """In a separate process."""
    line = next(c for c in readme_commands("experiments.train") if POINTS[0] in c)
    done = command(*line, *SMALLEST_MLP, *FEW_SAMPLES, *FEW_STEPS, f"--workdir={tmp_path}")
    assert_went_well(done)
    last = done.stdout.strip().splitlines()[-6:]
    names = ["config.json", "metrics.jsonl", "loss.png", "tensorboard", "checkpoints"]
    names += ["samples.png"]
    assert last == [f"wrote {tmp_path / name}" for name in names]
    assert all((tmp_path / name).exists() for name in names)
    assert "3/3" in done.stderr  # the bar reached its end
    assert "examples/s" in done.stderr


@pytest.mark.slow
def test_a_flag_selects_another_loss(tmp_path):
    (line,) = (c for c in readme_commands("experiments.train") if any("loss.name" in a for a in c))
    done = run(*line, *SMALLEST_MLP, *FEW_SAMPLES, *FEW_STEPS, f"--workdir={tmp_path}")
    assert_went_well(done)
    loss = json.loads((tmp_path / "config.json").read_text())["config"]["loss"]
    assert f"--config.loss.name={loss['name']}" in line
    assert loss["name"] != "denoising"


@pytest.mark.slow
def test_training_a_finished_run_changes_nothing(digits_run):
    before = (digits_run / "metrics.jsonl").read_bytes()
    done = run("experiments.train", *DIGITS, *FEW_STEPS, f"--workdir={digits_run}")
    assert done.returncode == 0
    assert "resuming from step 3 of 3" in done.stdout
    assert (digits_run / "metrics.jsonl").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("module", SMALL)
def test_a_measurement_of_the_readme_runs(tmp_path, module):
    line, *_ = readme_commands(module)
    more = [] if module == "experiments.benchmarks.objective_costs" else [f"--workdir={tmp_path}"]
    done = run(*line, *SMALL[module], *more)
    assert_went_well(done)
    assert ("wrote" in done.stdout) == bool(more)


def test_every_command_of_the_readme_is_tested_here():
    known = {"experiments.train": 3, "experiments.sample": 1, "experiments.evaluate": 2}
    known |= {"experiments.report": 2, "experiments.sampler_table": 1, "experiments.reproduce": 1}
    known |= dict.fromkeys(SMALL, 1)
    modules = set(re.findall(r"python -m (experiments[.\w]*)", "\n".join(readme("bash"))))
    assert {module: len(readme_commands(module)) for module in modules} == known


def test_links_of_the_pages_lead_to_existing_files():
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert target.startswith("http") or (page.parent / target).exists(), (page, target)


def test_the_library_example_of_the_readme_draws_its_mixture():
    example, *_ = readme("python")
    names = {}
    exec(example, names)  # what a reader would paste
    x, modes = np.asarray(names["x"]), np.asarray(names["modes"])
    nearest = np.argmin(np.linalg.norm(x[:, None] - modes, axis=2), axis=1)
    shares = np.bincount(nearest, minlength=3) / len(x)
    assert np.all(np.abs(shares - 1 / 3) < 5 * np.sqrt(2 / 9 / len(x)))
    assert np.mean(np.linalg.norm(x - modes[nearest], axis=1)) < 0.5  # 0.25 for std 0.2


@pytest.mark.slow
def test_samples_are_bytes_and_follow_the_seed(mlp_run, tmp_path):
    line, *_ = readme_commands("experiments.sample")
    assert "--trajectory" in line
    files = []
    for index, seed in enumerate((0, 0, 1)):
        out = tmp_path / str(index)
        flags = [f"--workdir={mlp_run}", f"--out={out}", "--n=3", f"--seed={seed}"]
        assert_went_well(run(*line, *flags, *(["--notrajectory"] if index else [])))
        assert (out / "samples.png").exists()
        files.append(np.load(out / "samples.npz")["x"])
    assert (tmp_path / "0" / "trajectory.png").exists()
    assert files[0].dtype == np.uint8
    assert files[0].shape == (3, 8, 8, 1)
    np.testing.assert_array_equal(files[0], files[1])
    assert not np.array_equal(files[0], files[2])


@pytest.mark.slow
def test_evaluation_prints_and_writes_each_figure_with_its_n(mlp_run):
    line, *_ = readme_commands("experiments.evaluate")
    flags = ["--n=16", "--seed=4", "--draws=3", "--rtol=0.01"]
    done = run(*line, f"--workdir={mlp_run}", *flags, encoding="ascii")
    assert_went_well(done)
    record = json.loads((mlp_run / "evaluation.json").read_text())
    bound = record["bits_per_dim"]
    assert (bound["n"], bound["draws"], bound["seed"]) == (297, 3, 4)
    assert f"{bound['bits']:.4f} +/- {bound['std_error']:.4f} bits/dim of 297 test" in done.stdout
    assert bound["kind"] in done.stdout
    found = {(f["name"], f["of"], f["against"]): f for f in record["figures"]}
    against_test = [metric.names for metric in figures.DISTANCES]
    assert set(found) == {
        *((name, of, "test") for names in against_test for name in names
          for of in ("samples", "train, n equal", "train")),
        *((name, of, "train") for name in ("nearest_distance", "authentic")
          for of in ("samples", "test")),
        *(("vendi", of, of) for of in ("samples", "train, n equal", "train")),
    }  # fmt: skip
    drawn = found["frechet", "samples", "test"]
    assert (drawn["n_of"], drawn["n_against"], drawn["seed"]) == (16, 297, 4)
    assert found["frechet", "train", "test"]["seed"] is None
    for figure in (f for f in record["figures"] if f["value"] is not None):
        assert f"{figure['value']:.4f}" in done.stdout
    assert record["protocol"]["evaluations"] == 3  # two steps, and the denoising
    assert record["protocol"]["features"][0]["name"] == "pixels"


@pytest.fixture(scope="module")
def weights(digits_run, tmp_path_factory):
    """Weights exported from a run, and a run made from them."""
    root = tmp_path_factory.mktemp("weights")
    files, copy = root / "files", root / "copy"
    for flags in (
        [f"--workdir={digits_run}", f"--write={files}"],
        [f"--workdir={copy}", f"--read={files}", *DIGITS, *FEW_STEPS],
    ):
        done = run("experiments.weights", *flags)
        assert_went_well(done)
        assert "wrote" in done.stdout
    return files, copy


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flag", "name", "level"),
    [("--clip", "clip_denoised", 255), ("--dynamic_threshold=0.75", "dynamic_threshold", 223)],
)
def test_flags_wrap_the_model_for_its_range(mlp_run, tmp_path, monkeypatch, flag, name, level):
    """With wrappers whose estimate is a constant: the end of the range, or the given fraction."""

    def constant(denoise_fn, process, *, low=None, high=None, quantile=None, bound=None):
        assert (low, high) == (-1.0, 1.0) or bound == 1.0

        def wrapped(x, t):
            return denoise_fn(x, t)._replace(x0=jnp.full_like(x, quantile or high))

        return wrapped

    monkeypatch.setattr(guidance, name, constant)
    done = run("experiments.sample", f"--workdir={mlp_run}", f"--out={tmp_path}", "--n=4", flag)
    assert_went_well(done)
    np.testing.assert_array_equal(np.load(tmp_path / "samples.npz")["x"], level)


@pytest.mark.slow
def test_a_run_made_from_weights_reproduces_the_samples_of_their_run(digits_run, weights, tmp_path):
    samples = []
    for workdir in (digits_run, weights[1]):
        out = tmp_path / workdir.name
        done = run("experiments.sample", f"--workdir={workdir}", f"--out={out}", "--n=4")
        assert_went_well(done)
        samples.append(np.load(out / "samples.npz")["x"])
    np.testing.assert_array_equal(*samples)
    assert samples[0].std() > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (
            ["--read={files}", "--write={files}"],
            "--read=PATH, --write=DIR and --write_diff",
        ),
        (["--read={files}"], "--read requires --config=FILE"),
        (["--read=checkpoint_24.pth", *DIGITS], "and only for one, got --read=checkpoint_24"),
        (
            ["--read={files}", "--score_sde_config=vp/ddpm/cifar10"],
            "must be given for a .pth of score_s",
        ),
        (["--read=c.pth", "--score_sde_config=vp/ddpm"], "vp/ddpm/cifar10_continuous, vp/ddpm/"),
        (["--read=c.pth", "--score_sde_config=ve/ncsn/cifar10"], "got 'ncsn', a RefineNet"),
        (["--write_diffusers={files}", "--workdir={run}"], "the same number of groups"),
        (["--read={files}", DIGITS[0]], "its channels 4, not 32"),
        (["--read={files}", *DIGITS, *FEW_STEPS, "--workdir={run}"], "already holds a run"),
        (["--read={run}", *DIGITS, *FEW_STEPS], "holds no network of jaxdiff"),
    ],
    ids=[
        *("both", "no config", "pth", "no pth", "no such config", "RefineNet", "no UNet2DModel"),
        *("another network", "not over a run", "no weights"),
    ],
)
def test_errors_about_weights_are_one_line(digits_run, weights, tmp_path, flags, sentence):
    filled = [flag.format(run=digits_run, files=weights[0]) for flag in flags]
    done = run("experiments.weights", f"--workdir={tmp_path / 'new'}", *filled)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "new").exists()
