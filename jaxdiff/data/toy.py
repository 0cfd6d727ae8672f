"""Four distributions in the plane, easy to see: moons, rings, checkerboard, mixture.

Each is centred, fits in about [−2, 2]², and is drawn once from a fixed seed. The constants are
public as the ground truth: ``MIXTURE_MEANS`` and ``MIXTURE_STD`` with equal weights give
``oracles.mixture`` the exact score of the mixture.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxdiff.data.sources import Arrays, Dataset
from jaxdiff.typing import InputError, nearest

NUM_TRAIN, NUM_TEST = 20_000, 5_000

NOISE_STD = 0.05
"""Of the moons and the rings, in both coordinates."""

RING_RADII = np.array([0.5, 1.0, 1.5])

MIXTURE_STD = 0.1
MIXTURE_MEANS = 1.5 * np.stack(
    [np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], axis=1
)
"""Eight centres on a circle of radius 1.5, ``[8, 2]``."""

Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]


def moons(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw two interleaved half circles of radius 1, centred at (∓½, ∓¼); the label is the moon."""
    label = rng.integers(2, size=n)
    sign = 1 - 2 * label  # the second moon is the first one rotated by 180°
    angle = rng.uniform(0, np.pi, n)
    arc = np.stack([np.cos(angle) - 0.5, np.sin(angle) - 0.25], axis=1)
    return sign[:, None] * arc + NOISE_STD * rng.normal(size=(n, 2)), label


def rings(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw three concentric circles, equally likely; the label is the ring."""
    label = rng.integers(len(RING_RADII), size=n)
    angle = rng.uniform(0, 2 * np.pi, n)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return RING_RADII[label, None] * circle + NOISE_STD * rng.normal(size=(n, 2)), label


def checkerboard(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw uniformly from the black unit squares of [−2, 2]²: those with ⌊x⌋ + ⌊y⌋ even."""
    column = rng.integers(-2, 2, n)
    row = 2 * rng.integers(-1, 1, n) + column % 2
    return np.stack([column, row], axis=1) + rng.uniform(size=(n, 2)), np.zeros(n)


def mixture(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw eight equally likely Gaussians on a circle; the label is the component."""
    label = rng.integers(len(MIXTURE_MEANS), size=n)
    return MIXTURE_MEANS[label] + MIXTURE_STD * rng.normal(size=(n, 2)), label


class Toy(NamedTuple):
    """A distribution: how to draw ``(x [n, 2], label [n])``, and its number of classes."""

    draw: Draw
    num_classes: int | None


TOYS = {
    "moons": Toy(moons, 2),
    "rings": Toy(rings, len(RING_RADII)),
    "checkerboard": Toy(checkerboard, None),
    "mixture": Toy(mixture, len(MIXTURE_MEANS)),
}


def load_toy(name: str) -> Dataset:
    """Draw a toy dataset: 20,000 points to train on and 5,000 to test on, always the same.

    Args:
        name: ``"moons"``, ``"rings"``, ``"checkerboard"`` or ``"mixture"``.

    Returns:
        A dataset of shape ``(2,)``; the checkerboard has no labels.

    Raises:
        InputError: if there is no toy dataset of that name.

    Example:
        >>> load_toy("moons").num_classes
        2
    """
    if name not in TOYS:
        known = ", ".join(TOYS) + nearest(name, TOYS)
        raise InputError(f"unknown toy dataset {name!r}: must be one of {known}")
    x, label = TOYS[name].draw(np.random.default_rng(0), NUM_TRAIN + NUM_TEST)
    x, label = x.astype(np.float32), label.astype(np.int32)
    train, test = Arrays(x[:NUM_TRAIN], label[:NUM_TRAIN]), Arrays(x[NUM_TRAIN:], label[NUM_TRAIN:])
    return Dataset(f"toy:{name}", train, test, (2,), TOYS[name].num_classes)
