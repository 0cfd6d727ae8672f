"""The images, decoded: cells in their places, pixels equal to the inputs' bytes."""

import ast
import inspect
import io
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxdiff import files, plots
from jaxdiff.plots import charts
from jaxdiff.typing import InputError


def decode(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def cell(picture, row, column, height, width, gap=1):
    top, left = row * (height + gap) + gap, column * (width + gap) + gap
    return picture[top : top + height, left : left + width]


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_cells_are_the_bytes_of_the_images(tmp_path, channels):
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 256, size=(5, 4, 6, channels), dtype=np.uint8)
    path = tmp_path / "grid.png"
    plots.image_grid(path, raw / 127.5 - 1, value_range=(-1, 1), columns=3, scale=2)
    picture = decode(path)
    assert picture.shape[:2] == (2 * 8 + 3, 3 * 12 + 4)
    picture = picture.reshape(*picture.shape[:2], channels)
    for i, image in enumerate(raw):
        magnified = np.kron(image, np.ones((2, 2, 1), np.uint8))  # each pixel a 2 x 2 square
        np.testing.assert_array_equal(cell(picture, i // 3, i % 3, 8, 12), magnified)
    assert np.all(cell(picture, 1, 2, 8, 12) == plots.BORDER)  # no sixth image
    assert np.all(picture[[0, 9, 18]] == plots.BORDER)
    assert np.all(picture[:, [0, 13, 26, 39]] == plots.BORDER)


def test_values_map_linearly_round_and_clip(tmp_path):
    """By hand: 0 -> 0, 0.5 of 2 -> 63.75 -> 64, 1 -> 127.5 -> 128 (to even), 2 -> 255."""
    x = np.array([-7.0, 0.0, 0.5, 1.0, 2.0, 9.0]).reshape(1, 1, 6, 1)
    plots.image_grid(tmp_path / "x.png", x, value_range=(0, 2), scale=1)
    assert decode(tmp_path / "x.png")[1, 1:-1].tolist() == [0, 0, 64, 128, 255, 255]


@pytest.mark.parametrize("n", [1, 16, 60])
@pytest.mark.parametrize("size", [8, 28, 64])
def test_small_images_fill_about_640_px(tmp_path, n, size):
    plots.image_grid(tmp_path / "x.png", np.zeros((n, size, size, 1)), value_range=(0, 1))
    width = decode(tmp_path / "x.png").shape[1]
    columns = int(np.ceil(np.sqrt(n)))
    # The scale is an integer, hence off by up to half a step; there is one more border.
    assert abs(width - 640) <= columns * (size + 0.5) / 2 + columns / 2 + 640 / (2 * columns * size)


def test_large_images_keep_their_size(tmp_path):
    plots.image_grid(tmp_path / "x.png", np.zeros((9, 5, 700, 3)), value_range=(0, 1))
    assert decode(tmp_path / "x.png").shape == (3 * 6 + 1, 3 * 701 + 1, 3)


def test_strip_has_a_row_per_sample_and_a_column_per_step(tmp_path):
    saved = np.arange(6.0).reshape(3, 2, 1, 1, 1) * np.ones((3, 2, 4, 4, 1))  # 2·step + sample
    plots.trajectory_strip(tmp_path / "strip.png", saved, value_range=(0, 255))
    picture = decode(tmp_path / "strip.png")
    scale = round(640 / (3 * 4.5))  # 4 pixels and half a pixel of border, three times
    side, gap = 4 * scale, scale // 2
    assert picture.shape == (2 * (side + gap) + gap, 3 * (side + gap) + gap)
    for step in range(3):
        for sample in range(2):
            assert np.all(cell(picture, sample, step, side, side, gap) == 2 * step + sample)


def capture_figure(monkeypatch):
    figures = []
    save = charts.save_figure
    monkeypatch.setattr(
        charts, "save_figure", lambda figure, path: (figures.append(figure), save(figure, path))
    )
    return figures


def test_scatter_shares_axes_and_counts_strays(tmp_path, monkeypatch):
    figures = capture_figure(monkeypatch)
    reference = np.array([[0.0, 0.0], [2.0, 1.0]])
    samples = np.array([[1.0, 0.5], [1e9, 0.0], [2.0, 0.0]])
    plots.scatter(tmp_path / "xy.png", samples, reference=reference)
    data, drawn = figures[0].axes
    assert data.get_xlim() == drawn.get_xlim() == pytest.approx((1 - 1.4, 1 + 1.4))
    assert data.get_ylim() == drawn.get_ylim() == pytest.approx((0.5 - 1.4, 0.5 + 1.4))
    assert [a.get_title() for a in figures[0].axes] == ["data (2)", "samples (3, 1 outside)"]
    np.testing.assert_array_equal(drawn.collections[0].get_offsets(), samples)
    np.testing.assert_array_equal(data.collections[0].get_offsets(), reference)


def test_scatter_without_data_shows_every_point(tmp_path, monkeypatch):
    figures = capture_figure(monkeypatch)
    points = np.random.default_rng(0).normal(size=(200, 2)) * 5
    plots.scatter(tmp_path / "xy.png", points)
    (axes,) = figures[0].axes
    assert axes.get_title() == "samples (200)"
    low, high = np.transpose([axes.get_xlim(), axes.get_ylim()])
    assert np.all((low < points) & (points < high))
    picture = decode(tmp_path / "xy.png")
    pixels = np.rint(axes.transData.transform(points)).astype(int)
    red = picture[picture.shape[0] - 1 - pixels[:, 1], pixels[:, 0], 0]
    assert np.all(red < 150)  # each point is drawn where the axes place it; grid lines have red 230
    assert np.all(picture[[0, -1]] == 255)  # a white margin
    assert np.all(picture[:, [0, -1]] == 255)


def test_curve_draws_finite_points_in_order_and_their_median(tmp_path, monkeypatch):
    figures = capture_figure(monkeypatch)
    rows = [{"step": s, "loss": 2.0} for s in range(100)]
    rows[50]["loss"] = 1e6
    rows[10]["loss"], rows[11]["loss"], rows[12]["step"] = float("nan"), float("inf"), None
    rows = [*rows[::-1], {"step": 3, "eval": 1.0}]
    plots.curve(tmp_path / "loss.png", rows)
    (axes,) = figures[0].axes
    raw, median = axes.lines
    assert raw.get_xdata().tolist() == [s for s in range(100) if s not in (10, 11, 12)]
    assert set(median.get_ydata()) == {2.0}  # one outlier does not change it
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == ("step", "loss", "log")
    assert axes.get_title() == "left out: 3 not finite"
    row = decode(tmp_path / "loss.png").shape[0] - 1 - axes.transData.transform((50, 2.0))[1]
    drawn = decode(tmp_path / "loss.png")[round(row), :, 0] < 60  # the bold line, at 2, has red 31
    assert np.count_nonzero(drawn) > 0.8 * axes.get_window_extent().width


def test_running_median_matches_brute_force():
    rng = np.random.default_rng(0)
    points = np.stack([np.arange(200.0), rng.normal(size=200)], axis=1)
    expected = [sorted(points[max(0, i - 5) : i + 6, 1]) for i in range(200)]
    expected = [(w[(len(w) - 1) // 2] + w[len(w) // 2]) / 2 for w in expected]
    np.testing.assert_allclose(charts._running_median(points)[:, 1], expected)
    assert len(charts._running_median(np.zeros((100_000, 2)))) == 300


@pytest.mark.parametrize(("log", "low"), [(True, -1.0), (True, 0.0), (False, 1.0)])
def test_curve_is_linear_on_request_or_if_no_logarithm_exists(tmp_path, monkeypatch, log, low):
    figures = capture_figure(monkeypatch)
    rows = [{"epoch": 1, "nll": low}, {"epoch": 2, "nll": 3.0}]
    plots.curve(tmp_path / "nll.png", rows, x="epoch", y="nll", log=log)
    assert figures[0].axes[0].get_yscale() == "linear"


IMAGES, RANGE = np.zeros((2, 4, 4, 1)), (0, 1)
INVALID = [
    (lambda p: plots.image_grid(p, IMAGES[0], value_range=RANGE), r"x must be \[n.*\(4, 4, 1\)"),
    (lambda p: plots.image_grid(p, IMAGES[:0], value_range=RANGE), "not empty"),
    (lambda p: plots.image_grid(p, np.zeros((2, 4, 4, 2)), value_range=RANGE), "1 or 3"),
    (lambda p: plots.image_grid(p, IMAGES, value_range=(1, 1)), "low < high, got"),
    (lambda p: plots.image_grid(p, IMAGES / 0 * 0, value_range=RANGE), "32 NaN"),
    (lambda p: plots.image_grid(p, IMAGES, value_range=RANGE, columns=0), "columns.*got 0"),
    (lambda p: plots.image_grid(p, IMAGES, value_range=RANGE, scale=1.5), "scale.*got 1.5"),
    (lambda p: plots.trajectory_strip(p, IMAGES, value_range=RANGE), r"saved must be \[steps"),
    (lambda p: plots.trajectory_strip(p, IMAGES[None, :0], value_range=RANGE), "not empty"),
    (lambda p: plots.scatter(p, np.zeros((3, 3))), r"samples must be points.*\(3, 3\)"),
    (lambda p: plots.scatter(p, np.zeros((3, 2)), reference=np.zeros((0, 2))), "reference"),
    (lambda p: plots.scatter(p, np.full((3, 2), np.inf)), "samples must be finite, got 6"),
    (lambda p: plots.curve(p, []), "'step' and 'loss', got none in 0 rows"),
    (lambda p: plots.curve(p, [{"step": 1, "loss": None}]), "got none in 1 rows"),
]


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize(("call", "message"), INVALID)
def test_invalid_arguments_are_reported_in_one_line_and_write_nothing(tmp_path, call, message):
    with pytest.raises(InputError, match=message):
        call(tmp_path / "x.png")
    assert os.listdir(tmp_path) == []


DRAW = [
    lambda p: plots.image_grid(p, IMAGES, value_range=RANGE),
    lambda p: plots.trajectory_strip(p, IMAGES[None], value_range=RANGE),
    lambda p: plots.scatter(p, np.eye(2)),
    lambda p: plots.curve(p, [{"step": 1, "loss": 2.0}]),
]


@pytest.mark.parametrize("draw", DRAW)
def test_images_are_complete_or_absent(tmp_path, monkeypatch, draw):
    path = tmp_path / "x.png"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch:

        def fail(*_):
            raise OSError("disk full")

        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            draw(path)
    assert (os.listdir(tmp_path), path.read_bytes()) == (["x.png"], b"old")
    draw(path)
    Image.open(io.BytesIO(path.read_bytes())).verify()
    assert os.listdir(tmp_path) == ["x.png"]


@pytest.mark.parametrize("module", [charts, plots.figures, plots.images, files])
def test_importing_needs_only_numpy(module):
    tree = ast.parse(inspect.getsource(module))
    names = [node.module for node in tree.body if isinstance(node, ast.ImportFrom)]
    names += [a.name for node in tree.body if isinstance(node, ast.Import) for a in node.names]
    others = {name.split(".")[0] for name in names} - sys.stdlib_module_names
    assert others <= {"numpy", "jaxdiff"}


@pytest.mark.slow
def test_drawing_does_not_import_pyplot(tmp_path):
    code = (
        "import sys; from jaxdiff import plots;"
        f"plots.curve({str(tmp_path / 'x.png')!r}, [dict(step=1, loss=2.0)]);"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
