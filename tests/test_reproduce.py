"""Every published row has its configuration and commands, and a tiny one runs to its report."""

import subprocess

import pytest
from running import ROOT, run
from tiny import FEW_SAMPLES, FEW_STEPS

from experiments.common import published
from jaxdiff import recipes
from jaxdiff.recipes.diffusion import assemble


def test_rows_are_those_of_the_page_with_its_figures():
    page = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith("| `")]
    cells = {line.split("`")[1]: line for line in lines}
    assert cells.keys() == published.ROWS.keys()
    for name, row in published.ROWS.items():
        assert f"`{row.config}`" in cells[name]
        assert f"{row.fid:.2f} ± {row.fid_tolerance}" in cells[name]
        assert row.bits is None or f"{row.bits:.2f} ± {row.bits_tolerance}" in cells[name]
        config = recipes.from_dict(_config(row).to_dict())
        steps = f"{config.training.num_steps:,} of {config.training.batch_size}"
        assert steps in cells[name]


def _config(row):
    module = __import__(f"experiments.configs.{row.config}", fromlist=["get_config"])
    return module.get_config()


@pytest.mark.parametrize("name", published.ROWS)
def test_tiny_settings_of_every_row_can_be_built(name, tmp_path):
    train, evaluate, report = published.commands(published.ROWS[name], tmp_path, tiny=True)
    assert (train[1], evaluate[1], report[1]) == (
        "experiments.train",
        "experiments.evaluate",
        "experiments.report",
    )
    config = _config(published.ROWS[name])
    for flag in train[4:]:
        path, value = flag.removeprefix("--config.").split("=")
        config.update_from_flattened_dict({path: _value(value)})
    model = assemble(recipes.from_dict(config.to_dict()), (8, 8, 1), 10)
    assert model.config.data.name == "digits"


def _value(text):
    if text.startswith("("):
        return tuple(int(part) for part in text.strip("()").split(",") if part)
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text)
    except ValueError:
        return float(text) if text[0].isdigit() else text


def test_figures_are_compared_with_the_published_ones():
    row = published.ROWS["vp_ddpmpp"]

    def verdicts(fid, bits):
        figure = {"name": "frechet", "of": "samples", "features": published.FID_FEATURES}
        record = {"figures": [{**figure, "value": fid}], "ode_bits_per_dim": {"bits": bits}}
        return [line.rsplit(": ", 1)[1] for line in published.verdicts(row, record)]

    assert verdicts(2.7, 3.18) == ["reproduced", "reproduced"]
    assert verdicts(2.8, 3.20) == ["not reproduced", "not reproduced"]
    assert verdicts(2.0, 3.00) == ["reproduced", "reproduced"]  # better counts


def test_bad_flags_are_refused_before_anything_starts(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *args, **more: pytest.fail("started"))
    for flags, sentence in (
        (["--row=ve_ncspp"], "--row must be one of"),
        (["--row=ve_ncsnpp"], "--inception must be the file"),
        ([], "--row must be one of"),
    ):
        done = run("experiments.reproduce", *flags)
        assert done.returncode == 2
        assert sentence in done.stderr
    listed = run("experiments.reproduce", "--list").stdout
    assert all(row.config in listed for row in published.ROWS.values())


@pytest.mark.slow
def test_a_tiny_row_runs_to_its_report(tmp_path):
    """In this process, with three steps."""
    ran = []

    more = {
        "experiments.train": [*FEW_SAMPLES, *FEW_STEPS, "--config.network.channels=4"],
        "experiments.evaluate": ["--n=8", "--ode_draws=0", "--max_real=32"],
    }

    def in_this_process(command, *, check):
        ran.append(command[2])
        return run(*command[2:], *more.get(command[2], []))

    for command in published.commands(published.ROWS["ve_ncsnpp"], tmp_path, tiny=True):
        done = in_this_process(["python", *command], check=False)
        assert done.returncode == 0, done.stderr
    assert ran == ["experiments.train", "experiments.evaluate", "experiments.report"]
    assert "reverse_diffusion" in (tmp_path / "report.html").read_text(encoding="utf-8")
