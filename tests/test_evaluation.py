"""Evaluation of runs with few data, and refusals that come before any sampling."""

import dataclasses
import json

import numpy as np
import pytest
from running import run
from tiny import tiny_config

from experiments.common import figures
from experiments.common.features import Extracted, FeatureSet
from jaxdiff import metrics, recipes
from jaxdiff.recipes import Run
from jaxdiff.typing import InputError

RNG = np.random.default_rng(0)
FIGURES = tuple(figures.LEAST)


@pytest.mark.parametrize(
    ("num_test", "missing"),
    [
        (0, set(figures.LEAST)),
        (1, {name for name, least in figures.LEAST.items() if least > 1}),
        (3, {"frechet_infinity", "kid", "precision", "recall", "density", "coverage"}),
        (4, {"frechet_infinity", "density", "coverage"}),
        (40, set()),
    ],
)
def test_figures_that_require_more_test_examples_are_omitted(num_test, missing):
    samples, real = RNG.normal(size=(50, 2)), RNG.normal(size=(60 + num_test, 2))
    found = figures.measure(samples, real[:60], real[60:], seed=0)
    found = [f for f in found if f.of != f.against]  # of a set by itself
    assert {f.name for f in found} == set(FIGURES)
    assert {f.name for f in found if f.value is None} == missing
    assert all(f.value is not None for f in found if (f.of, f.against) == ("samples", "train"))
    notes = figures.left_out(found)
    assert [
        name for name in FIGURES if any(note.startswith(f"-: {name} is") for note in notes)
    ] == [name for name in FIGURES if name in missing]
    table = figures.as_table(found)
    assert table.splitlines()[-len(notes) or None :] == notes or not notes
    assert ("-: precision is omitted where a set has fewer than 4 examples" in table) == (
        "precision" in missing
    )


def test_probabilities_give_an_inception_score_and_errors_are_kept():
    """Of balanced one-hot probabilities it is the number of classes."""

    def extract(x):
        return Extracted(x, np.eye(4)[np.arange(len(x)) % 4])

    space = FeatureSet("doubled", extract, weights="w", sha256="0f", resize="clean")
    x = RNG.normal(size=(400, 3))
    found = figures.measure(x, x, x, seed=3, features=space)
    (score,) = (f for f in found if (f.name, f.of) == ("inception_score", "samples"))
    assert score.value == pytest.approx(4, abs=0.5)
    assert score.std_error is not None
    assert (score.features, score.seed, score.n_of) == ("doubled", 3, 400)
    assert figures.Figure.from_dict(score._asdict()) == score
    assert space.protocol()["sha256"] == "0f"


def test_figures_are_measured_against_the_training_split_if_asked():
    samples, train, test = (RNG.normal(size=(n, 2)) for n in (40, 50, 45))
    found = figures.measure(samples, train, test, seed=0, reference="train")
    values = {(f.name, f.of, f.against): f.value for f in found}
    expected = metrics.frechet_distance(samples, train)
    assert values["frechet", "samples", "train"] == pytest.approx(expected)
    assert ("frechet", "test", "train") in values
    assert not [key for key in values if key[1] in ("train", "train, n equal")]


def test_figures_of_three_training_examples_are_the_expected_ones():
    """Three training examples have no precision; samples equal to the test split have it all."""
    real_train = np.array([[0.0], [1.0], [2.0]])
    real_test = np.array([[0.0], [1.0], [2.0], [9.0]])[[0, 1, 2, 2]]
    found = figures.measure(real_test, real_train, real_test, seed=0)
    values = {(f.name, f.of): f.value for f in found}
    assert values["precision", "train"] is None
    assert values["precision", "samples"] == 1.0
    assert values["nearest_distance", "samples"] == 0.0


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    """A run on points of the plane, and a function that replaces its data file."""
    root = tmp_path_factory.mktemp("few")

    def write(x):
        np.savez(root / "few.npz", x=x)

    write(np.ones((1, 2)))
    source = recipes.DataConfig(name="npz:few.npz", data_dir=str(root))
    recipes.train(tiny_config(num_steps=3, data=source), root / "run", say=lambda line: None)
    return root / "run", write


@pytest.mark.slow
@pytest.mark.parametrize(("n", "num_test"), [(1, 0), (39, 3)])
def test_a_run_of_few_examples_is_evaluated(points, n, num_test):
    workdir, write = points
    write(RNG.normal(size=(n, 2)))
    done = run("experiments.evaluate", f"--workdir={workdir}", "--n=8", "--draws=2", "--rtol=0.1")
    assert done.returncode == 0, done.stderr
    record = json.loads((workdir / "evaluation.json").read_text())
    sizes = {(f["of"], f["against"]): (f["n_of"], f["n_against"]) for f in record["figures"]}
    assert sizes["train", "test"] == (n - num_test, num_test)
    assert "precision is omitted where a set has fewer than 4" in done.stdout
    assert record["left_out"]
    changed = (
        [f"{n - num_test} examples in train instead of 1"] if n > 1 else ["different examples"]
    )
    assert f"the data differ from those of training: {changed[0]}" in done.stdout
    assert record["data_changed"][0].startswith(changed[0])
    values = {(f["name"], f["of"]): f["value"] for f in record["figures"]}
    assert values["nearest_distance", "samples"] > 0
    assert (values["frechet", "samples"] is None) == (num_test == 0)
    assert ("bits_per_dim" in record) == ("ode_bits_per_dim" in record) == (num_test > 0)
    assert ("omitted: there are no test examples" in done.stdout) == (num_test == 0)
    if num_test:
        assert record["bits_per_dim"]["n"] == num_test


@pytest.mark.slow
def test_whatever_is_refused_is_refused_before_sampling(points, tmp_path, monkeypatch):
    workdir, write = points
    monkeypatch.setattr(Run, "sample", lambda *args, **options: pytest.fail("samples were drawn"))
    (tmp_path / "file").touch()
    (tmp_path / "out" / "samples.png").mkdir(parents=True)

    def refused(command, *flags):
        done = run(f"experiments.{command}", f"--workdir={workdir}", *flags)
        assert done.returncode == 2, done.stderr
        return done.stderr

    assert "must be a folder, got the file" in refused("sample", f"--out={tmp_path / 'file'}")
    assert "samples.png must be a file, got a folder" in refused(
        "sample", f"--out={tmp_path / 'out'}"
    )
    assert "requires images of 1 or 3 channels" in refused("sample", "--trajectory")
    (workdir / "evaluation.json").unlink(missing_ok=True)
    (workdir / "evaluation.json").mkdir()
    assert "evaluation.json must be a file, got a folder" in refused("evaluate")
    (workdir / "evaluation.json").rmdir()
    write(np.ones((8, 3)))
    assert "must have examples of shape (2,), as in training, got (3,)" in refused("evaluate")


def test_held_out_losses_require_a_test_split(tmp_path):
    np.savez(tmp_path / "one.npz", x=np.ones((1, 2)))
    config = tiny_config(data=recipes.DataConfig(name=f"npz:{tmp_path / 'one.npz'}"))
    settings = dataclasses.replace(config.training, eval_every=1)
    with pytest.raises(
        InputError, match="eval_every must be 0 for data without a test split, got 1"
    ):
        recipes.train(dataclasses.replace(config, training=settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()
