"""The wheel is complete, the core suffices to sample, and missing extras are named."""

import importlib
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions

import jax
import pytest
from running import ENVIRONMENT, ROOT
from tiny import tiny_config

import jaxdiff
from jaxdiff import data, recipes
from jaxdiff.data.tfds import load_tfds
from jaxdiff.extras import EXTRAS, require
from jaxdiff.typing import InputError

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOT_ON_WINDOWS = ("fcntl", "resource", "termios")
WITH_FLAX = "orbax"
"""Comes with flax, so that a run can be loaded wherever jaxdiff is installed."""


def names(requirements):
    """Normalised distribution names of a list of requirements."""
    return {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for line in requirements}


@pytest.mark.slow
def test_the_core_samples_from_an_oracle_and_from_a_run_without_extras(tmp_path):
    recipes.train(tiny_config(num_steps=4), tmp_path / "run", say=lambda line: None)
    hidden = {package for packages in EXTRAS.values() for package in packages} - {WITH_FLAX}
    options = [f"--workdir={tmp_path / 'run'}", "--without", *sorted(hidden), *NOT_ON_WINDOWS]
    done = subprocess.run(
        [sys.executable, "tests/core_only.py", *options],
        env=ENVIRONMENT,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    version, path, total = done.stdout.split()
    assert (version, path) == (jaxdiff.__version__, jaxdiff.__file__)
    x = jaxdiff.load(tmp_path / "run").sample(jax.random.key(0), 4)
    assert float(total) == float(x.sum())


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package_and_no_other(tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(
        ROOT / "jaxdiff", tmp_path / "jaxdiff", ignore=shutil.ignore_patterns("__pycache__")
    )
    files = {
        path.relative_to(tmp_path).as_posix()
        for path in (tmp_path / "jaxdiff").rglob("*")
        if path.is_file()
    }
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('.'))"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    with zipfile.ZipFile(tmp_path / done.stdout.splitlines()[-1]) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
        [metadata] = [name for name in wheel.namelist() if name.endswith("/METADATA")]
        lines = wheel.read(metadata).decode().splitlines()
    assert held == files
    assert {"jaxdiff/py.typed", "jaxdiff/recipes/score_sde.json"} <= held
    assert f"Version: {jaxdiff.__version__}" in lines
    assert {f"Provides-Extra: {name}" for name in EXTRAS} <= set(lines)


def test_each_extra_installs_the_documented_packages():
    provider = {
        package: {name.lower().replace("_", "-") for name in distributions}
        for package, distributions in packages_distributions().items()
    }
    extras, core = PROJECT["optional-dependencies"], names(PROJECT["dependencies"])
    for extra, packages in EXTRAS.items():
        declared = names(extras[extra]) - {"jaxdiff"}
        for package in packages:
            assert provider.get(package, {package}) & declared, f"{extra} installs no {package}"
        needed = set().union(*(provider.get(package, {package}) for package in packages))
        assert declared <= needed, f"EXTRAS lacks {declared - needed}"
        assert not declared & core
    assert extras["all"] == ["jaxdiff[train,data,experiments]"]


def test_the_oldest_versions_that_are_tested_are_the_oldest_allowed():
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    oldest = dict(re.findall(r"(\w+)==([\d.]+)", re.search(r"OLDEST: (.*)", workflow)[1]))
    bounds = dict(re.findall(r"([\w-]+)>=([\d.]+)", "\n".join(PROJECT["dependencies"])))
    assert {"jax", "jaxlib", "flax"} <= oldest.keys()
    for name, version in oldest.items():
        assert version in (bounds[name], f"{bounds[name]}.0")
    pythons = re.search(r"python-version: \[(.*)\]", workflow)[1]
    assert PROJECT["requires-python"] == f">={pythons.split(',')[0].strip(chr(34))}"


def test_the_version_is_the_same_everywhere():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE)[1] == jaxdiff.__version__
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.fixture
def hide(monkeypatch):
    """Let imports of packages fail as if they were not installed."""
    return lambda *packages: [monkeypatch.setitem(sys.modules, name, None) for name in packages]


def test_training_without_a_package_names_its_extra_and_makes_no_workdir(tmp_path, hide):
    hide("tensorboardX", "safetensors")
    with pytest.raises(InputError) as caught:
        recipes.train(tiny_config(), tmp_path / "run")
    assert str(caught.value) == (
        "training requires tensorboardX and safetensors, which are not installed: "
        "pip install 'jaxdiff[train]'"
    )
    assert not (tmp_path / "run").exists()


def test_data_that_lack_a_package_name_its_extra(tmp_path, hide):
    hide("sklearn", "tensorflow_datasets")
    with pytest.raises(InputError, match=r"digits requires sklearn, which is .*'jaxdiff\[data\]'$"):
        data.load("digits")
    for name in ("dataset_info.json", "features.json"):
        (tmp_path / "mnist" / "3.0.1").mkdir(parents=True, exist_ok=True)
        (tmp_path / "mnist" / "3.0.1" / name).write_text("{}")
    with pytest.raises(
        InputError, match=r"tfds:mnist requires tensorflow_datasets, .*jaxdiff\[data"
    ):
        load_tfds("mnist", tmp_path)


def test_packages_of_several_extras_are_in_all(hide):
    hide("tqdm", "ml_collections")
    with pytest.raises(InputError, match=r"tqdm and ml_collections, which are .*jaxdiff\[all\]'"):
        require("tqdm", "numpy", "ml_collections", purpose="it")


def test_a_command_without_a_package_prints_one_line_and_exits_with_2(hide, capsys):
    hide("ml_collections")
    with pytest.raises(SystemExit, match=r"^2$"):
        runpy.run_path(str(ROOT / "experiments" / "__init__.py"))
    assert capsys.readouterr().err == (
        "error: every command requires ml_collections, which is not installed: "
        "pip install 'jaxdiff[experiments]'\n"
    )


def test_importing_the_script_of_the_core_has_no_effect():
    """pytest imports it to look for examples."""
    finders = list(sys.meta_path)
    importlib.import_module("core_only")
    assert sys.meta_path == finders
