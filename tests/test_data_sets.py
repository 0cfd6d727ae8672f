"""The datasets without files: digits against scikit-learn, toys against their distributions."""

import numpy as np
import pytest

from jaxdiff import data
from jaxdiff.data import toy
from jaxdiff.typing import InputError


def test_digits_match_sklearn():
    from sklearn.datasets import load_digits

    digits, raw = data.load("digits"), load_digits()
    assert (len(digits.train), len(digits.test)) == (1500, 297)
    assert (digits.name, digits.shape, digits.num_classes) == ("digits", (8, 8, 1), 10)
    assert digits.is_image
    rows = [digits.train[i] for i in range(1500)] + [digits.test[i] for i in range(297)]
    assert all(row["x"].dtype == np.uint8 and row["label"].dtype == np.int32 for row in rows)
    # A byte v stands for the grey value v·16/255, on sklearn's scale of 0..16, to the nearest byte.
    found = [(int(r["label"]), tuple(np.rint(r["x"].ravel() / 255 * 16).astype(int))) for r in rows]
    given = [
        (int(y), tuple(x.ravel().astype(int))) for y, x in zip(raw.target, raw.images, strict=True)
    ]
    assert sorted(found) == sorted(given)
    assert {v for r in rows for v in r["x"].ravel()} == {round(g * 255 / 16) for g in range(17)}


def test_digits_test_split_is_spread_evenly():
    from sklearn.datasets import load_digits

    held_out = {row["x"].tobytes() for row in map(data.load("digits").test.__getitem__, range(297))}
    images = np.rint(load_digits().images * 255 / 16).astype(np.uint8)
    places = [i for i, image in enumerate(images) if image.tobytes() in held_out]
    assert len(places) == 297
    assert set(np.diff(places)) <= {6, 7}  # 1797/297 is a little over 6


def test_digits_splits_are_disjoint():
    digits = data.load("digits")
    train = {data_row["x"].tobytes() for data_row in map(digits.train.__getitem__, range(1500))}
    assert all(digits.test[i]["x"].tobytes() not in train for i in range(297))


def points(name, split="train"):
    return data.stack(getattr(data.load(f"toy:{name}"), split))


def assert_uniform(label, k):
    n = len(label)
    counts = np.bincount(label, minlength=k)
    assert len(counts) == k
    assert (np.abs(counts - n / k) <= 5 * np.sqrt(n / k * (1 - 1 / k))).all()


@pytest.mark.parametrize("name", toy.TOYS)
def test_toys_are_centred_with_unit_scale(name):
    dataset = data.load(f"toy:{name}")
    assert (len(dataset.train), len(dataset.test)) == (20_000, 5_000)
    assert (dataset.shape, dataset.is_image, dataset.name) == ((2,), False, f"toy:{name}")
    example = dataset.train[3]
    assert (example["x"].dtype, example["x"].shape) == (np.float32, (2,))
    assert example["label"].dtype == np.int32
    x, label = points(name)
    assert (np.abs(x.mean(axis=0)) < 5 * x.std(axis=0) / np.sqrt(len(x))).all()
    assert np.abs(x).max() < 2.1
    assert_uniform(label, dataset.num_classes or 1)
    again, _ = points(name)
    np.testing.assert_array_equal(x, again)
    test_x, _ = points(name, "test")
    assert not {r.tobytes() for r in test_x} & {r.tobytes() for r in x}


def test_mixture_has_its_means_and_std():
    x, label = points("mixture")
    residual = x - toy.MIXTURE_MEANS[label]
    for k in range(8):
        own = residual[label == k]
        assert (np.abs(own.mean(axis=0)) < 5 * toy.MIXTURE_STD / np.sqrt(len(own))).all()
    variance = toy.MIXTURE_STD**2
    assert abs((residual**2).mean() - variance) < 5 * variance * np.sqrt(2 / residual.size)
    np.testing.assert_allclose(np.linalg.norm(toy.MIXTURE_MEANS, axis=1), 1.5)


def test_checkerboard_fills_the_black_squares_evenly():
    x, _ = points("checkerboard")
    cell = np.floor(x).astype(int)
    assert (cell.sum(axis=1) % 2 == 0).all()
    assert cell.min() == -2
    assert cell.max() == 1
    assert_uniform(((cell[:, 0] + 2) * 4 + cell[:, 1] + 2) // 2, 8)
    inside = x - cell
    assert (np.abs(inside.mean(axis=0) - 1 / 2) < 5 * np.sqrt(1 / 12 / len(x))).all()


def assert_radius(radius, expected):
    """Noise of std s in both directions gives r² the mean R² + 2s² and variance 4R²s² + 4s⁴."""
    s = toy.NOISE_STD
    variance = 4 * expected**2 * s**2 + 4 * s**4
    error = (radius**2).mean() - (expected**2 + 2 * s**2)
    assert abs(error) < 5 * np.sqrt(variance / len(radius))


def test_rings_have_their_radii():
    x, label = points("rings")
    for k, radius in enumerate(toy.RING_RADII):
        assert_radius(np.linalg.norm(x[label == k], axis=1), radius)


def test_moons_are_half_circles_facing_each_other():
    x, label = points("moons")
    for moon, sign in ((0, 1), (1, -1)):
        arc = sign * x[label == moon] + [0.5, 0.25]  # centred, and the first moon the upper half
        assert_radius(np.linalg.norm(arc, axis=1), 1.0)
        assert arc[:, 1].min() > -5 * toy.NOISE_STD
        # Along a half circle the height sin θ has mean 2/π and mean square 1/2.
        mean, variance = 2 / np.pi, 1 / 2 - 4 / np.pi**2 + toy.NOISE_STD**2
        assert abs(arc[:, 1].mean() - mean) < 5 * np.sqrt(variance / len(arc))


@pytest.mark.parametrize(
    "name", ["", "digit", "digits:", "digits:8", "toy", "toy:", "tfds", "npz:", "folder", "Digits"]
)
def test_unknown_names_list_what_exists(name):
    words = r"unknown dataset .*digits, toy:moons\|rings\|checkerboard\|mixture, tfds:<name>"
    with pytest.raises(InputError, match=words):
        data.load(name)


def test_unknown_toy_lists_the_toys():
    with pytest.raises(InputError, match="must be one of moons, rings, checkerboard, mixture"):
        data.load("toy:spiral")
