"""Evaluation that goes on after a kill, the page made of it, and the comparison of samplers."""

import html.parser
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from players import quiet
from running import run
from tiny import digits_config, tiny_config

from experiments.common import counting, drawing, page
from jaxdiff import plots, recipes
from jaxdiff.recipes import Run

FLAGS = ("--n=16", "--draws=2", "--rtol=0.1", "--max_real=64")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("report") / "run"
    recipes.train(digits_config(num_steps=3), workdir, say=quiet)
    return workdir


def went_well(module, *flags):
    done = run(f"experiments.{module}", *flags)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def evaluated(digits):
    went_well("evaluate", f"--workdir={digits}", *FLAGS)
    return digits, (digits / "evaluation.json").read_bytes()


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_to_the_same_result(evaluated, monkeypatch):
    workdir, expected = evaluated
    monkeypatch.setattr(drawing, "BATCH", 8)
    went_well("evaluate", f"--workdir={workdir}", *FLAGS)  # two batches now, both drawn
    in_two = (workdir / "evaluation.json").read_bytes()
    folder = workdir / "evaluation"
    (folder / "samples" / "00001.npz").unlink()  # as if it had died in the second
    (folder / "ode.json").write_bytes((folder / "ode.json").read_bytes()[:-20])
    drawn = []
    sample = Run.sample
    monkeypatch.setattr(
        Run, "sample", lambda *args, **options: drawn.append(args) or sample(*args, **options)
    )
    went_well("evaluate", f"--workdir={workdir}", *FLAGS)
    assert len(drawn) == 2  # one batch, and the count of evaluations
    assert (workdir / "evaluation.json").read_bytes() == in_two
    monkeypatch.undo()
    went_well("evaluate", f"--workdir={workdir}", *FLAGS)  # batches of another size are not taken
    assert (workdir / "evaluation.json").read_bytes() == expected


class Page(html.parser.HTMLParser):
    """Which elements are opened and closed, and where a page would fetch something."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.fetched = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.fetched += [v for k, v in attributes if k in ("src", "href") and v[:5] != "data:"]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.slow
def test_the_report_is_one_page_that_fetches_nothing(evaluated):
    workdir, _ = evaluated
    done = went_well("report", f"--workdir={workdir}")
    assert done.stdout == f"wrote {workdir / 'report.html'}\n"
    text = (workdir / "report.html").read_text(encoding="utf-8")
    parsed = Page(text)
    assert not parsed.open
    assert not parsed.fetched
    assert not re.findall(r"url\((?!#)", text)
    assert parsed.seen.count("img") == 2  # samples, and samples with their neighbours
    assert parsed.seen.count("svg") == 2  # loss and gradient
    record = json.loads((workdir / "evaluation.json").read_text())
    for figure in (f for f in record["figures"] if f["value"] is not None):
        assert f"{figure['value']:.4f}" in text
    for value in (record["bits_per_dim"]["kind"], record["environment"]["jax"]):
        assert value in text


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no headless Chromium")
@pytest.mark.parametrize("width", [500, 1400])
def test_the_report_fits_the_screen(evaluated, tmp_path, width):
    """No element but a scrolling table is wider than the page."""
    workdir, _ = evaluated
    went_well("report", f"--workdir={workdir}", f"--out={tmp_path / 'page.html'}")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    script = "document.title = document.documentElement.scrollWidth + ' ' + innerWidth"
    (tmp_path / "page.html").write_text(
        text.replace("</body>", f"<script>{script}</script></body>")
    )
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--window-size={width},800", f"file://{tmp_path / 'page.html'}"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    wanted, there = map(int, re.search(r"<title>(\d+) (\d+)</title>", shown).groups())
    assert wanted <= there


def test_text_on_the_page_is_escaped():
    text = page.page("a < b", [page.table([("<i>", "&")]), page.key_figures({"<b>": "1"})])
    assert "<i>" not in text
    assert "&lt;i&gt;" in text
    assert "a &lt; b" in text
    assert not Page(text).open


def test_a_report_needs_an_evaluation(tmp_path):
    done = run("experiments.report", f"--workdir={tmp_path}")
    assert done.returncode == 2
    assert "--workdir must hold evaluation.json, got none" in done.stderr


def test_figures_for_a_page_take_its_colours_and_repeat_exactly():
    rows = [{"step": step, "loss": 1.0 / step} for step in range(1, 9)]
    first, second = (plots.as_svg(plots.curve_figure(rows)) for _ in range(2))
    assert first == second
    assert "currentColor" in first
    assert not [c for c in (plots.INK, "#bbbbbb", "#e6e6e6") if c in first]
    assert not re.findall(r'id="\w+_\d+"', first)
    assert not re.match(r"<svg[^>]*(width|height)=", first)


def test_lines_have_their_points_and_a_level():
    series = {"a": ([10, 20], [0.5, 0.25]), "b": ([10, 40], [1.0, 0.1])}
    (axes,) = plots.lines_figure(series, x="n", y="error", level=("data", 0.2)).axes
    assert [line.get_xydata().tolist() for line in axes.lines[:2]] == [
        [[10, 0.5], [20, 0.25]],
        [[10, 1.0], [40, 0.1]],
    ]
    assert axes.lines[2].get_ydata()[0] == 0.2
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b", "data"]
    with pytest.raises(recipes.run.InputError, match="x and y of a must be positive, got 0"):
        plots.lines_figure({"a": ([0, 1], [1, 1])}, x="n", y="error")


@pytest.mark.slow
def test_evaluations_are_counted_as_they_run(digits):
    """Of stages and of steps that the times decide, too: the last step to σ = 0 has one fewer."""
    loaded = recipes.load(digits)
    counts = {
        ("heun", 4): 2 * 4 + 1,
        ("rk4", 3): 4 * 3 + 1,
        ("annealed_langevin", 3): 5 * 3 + 1,  # no σ is 0 here, so no denoising but the last
        ("predictor_corrector", 3): 2 * 3 + 1,
        ("adaptive", 3): None,
    }
    for (solver, steps), expected in counts.items():
        assert counting.evaluations(loaded, solver=solver, num_steps=steps) == expected


@pytest.mark.slow
def test_samplers_are_compared_at_equal_evaluations(digits):
    flags = [f"--workdir={digits}", "--n=16", "--evaluations=5,9"]
    done = went_well("sampler_table", *flags, "--solvers=ddim,heun")
    record = json.loads((digits / "sampler_table.json").read_text())
    cells = {(row["sampler"], row["num_steps"]): row["evaluations"] for row in record["rows"]}
    assert cells == {("ddim", 4): 5, ("ddim", 8): 9, ("heun", 2): 5, ("heun", 4): 9}
    assert all(f"{row['frechet']:.4f}" in done.stdout for row in record["rows"])
    assert (digits / "sampler_table.png").exists()
    again = went_well("sampler_table", *flags, "--solvers=ddim,heun")
    assert "ddim, 5 evaluations" in done.stdout
    assert "ddim, 5 evaluations" not in again.stdout  # kept
    went_well("evaluate", f"--workdir={digits}", *FLAGS)
    went_well("report", f"--workdir={digits}")
    assert "evaluations of the network" in (digits / "report.html").read_text(encoding="utf-8")


def test_the_samplers_of_song_are_refused_nothing_but_bad_flags(digits):
    for flag, sentence in (
        ("--evaluations=1", "--evaluations must be integers of at least 2, got 1"),
        ("--solvers=hune", "hune"),
        ("--solvers=adaptive", "must have a fixed number of evaluations, got adaptive"),
        ("--features=inception", "--features must be pixels, inception:FILE"),
        ("--features=inception:none.pth", "none.pth"),
    ):
        done = run("experiments.sampler_table", f"--workdir={digits}", "--n=16", flag)
        assert done.returncode == 2, flag
        assert sentence in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_points_of_the_plane_are_reported_with_their_picture(tmp_path):
    recipes.train(tiny_config(num_steps=3), tmp_path / "run", say=quiet)
    went_well("evaluate", f"--workdir={tmp_path / 'run'}", *FLAGS)
    went_well("report", f"--workdir={tmp_path / 'run'}")
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert Page(text).seen.count("img") == 1
    assert np.load(tmp_path / "run" / "evaluation" / "neighbours.npz")["samples"].shape == (16, 2)
