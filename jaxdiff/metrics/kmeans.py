"""L7: k-means, which divides the space of features into cells.

The centres c_1, …, c_k minimise Σ_i min_j ‖x_i − c_j‖², to a local minimum: the first are drawn
with probabilities ∝ min_j ‖x_i − c_j‖² over those drawn before (Arthur & Vassilvitskii 2007), then
each moves to the mean of the points that are nearest to it until none changes (Lloyd 1982).
"""

import numpy as np

from jaxdiff.metrics.blocks import squared_distances
from jaxdiff.typing import InputError

MAX_STEPS = 300
"""Lloyd's steps, in case that rounding makes assignments alternate."""


def kmeans(
    rng: np.random.Generator, name: str, x: np.ndarray, num_cells: int, *, restarts: int = 10
) -> np.ndarray:
    """Centres of the best of several runs.

    Args:
        rng: draws the first centres.
        name: the name of the points, for the error.
        x: points ``[n, d]``, at least ``num_cells`` different ones.
        num_cells: k.
        restarts: number of runs.

    Returns:
        Centres ``[k, d]``.

    Raises:
        InputError: if there are fewer different points than cells.

    Example:
        >>> kmeans(np.random.default_rng(0), "x", np.array([[0.0], [2.0], [9.0], [9.0]]), 2).sum()
        np.float64(10.0)
    """
    runs = [_lloyd(x, _first(rng, name, x, num_cells)) for _ in range(restarts)]
    return min(runs, key=lambda run: run[1])[0]


def assign(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Index of the nearest centre ``[n]`` of points ``[n, d]``."""
    return np.concatenate([block.argmin(axis=1) for _, block in squared_distances(x, centres)])


def _first(rng: np.random.Generator, name: str, x: np.ndarray, num_cells: int) -> np.ndarray:
    centres = x[[rng.integers(len(x))]]
    squared = np.sum((x - centres) ** 2, axis=1)
    while len(centres) < num_cells:
        if not squared.any():
            raise InputError(
                f"{name} must hold at least {num_cells} different examples, got {len(centres)}"
            )
        chosen = x[rng.choice(len(x), p=squared / squared.sum())]
        centres = np.concatenate([centres, chosen[None]])
        squared = np.minimum(squared, np.sum((x - chosen) ** 2, axis=1))
    return centres


def _lloyd(x: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, float]:
    cells = assign(x, centres)
    for _ in range(MAX_STEPS):
        centres = np.stack(
            [x[cells == j].mean(axis=0) if (cells == j).any() else c for j, c in enumerate(centres)]
        )
        old, cells = cells, assign(x, centres)
        if np.array_equal(old, cells):
            break
    return centres, float(np.sum((x - centres[cells]) ** 2))
