"""L7: matrices over all pairs of two sets, a block of rows at a time.

A matrix ``[n, m]`` of 50,000 against 50,000 examples takes 19 GiB in float64. Blocks of at most
``BLOCK_ENTRIES`` entries, or of one row, bound the memory for any sizes. Squared distances are

    ‖a − b‖² = ‖a‖² + ‖b‖² − 2⟨a, b⟩,                                                       (1)

one matrix product per block, about the mean of the second set: the rounding error is that of
‖a‖² + ‖b‖², which is smallest there.
"""

from collections.abc import Iterator

import numpy as np

BLOCK_ENTRIES = 2**23
"""Entries held at once: 64 MiB in float64."""


def row_blocks(num_rows: int, num_columns: int) -> Iterator[np.ndarray]:
    """Yield the indices of consecutive rows, as many as fit in a block.

    Args:
        num_rows: of the whole matrix.
        num_columns: of the whole matrix.

    Example:
        >>> [len(rows) for rows in row_blocks(5, BLOCK_ENTRIES // 2)]
        [2, 2, 1]
    """
    size = max(1, BLOCK_ENTRIES // num_columns)
    for start in range(0, num_rows, size):
        yield np.arange(start, min(start + size, num_rows))


def squared_distances(
    x: np.ndarray, y: np.ndarray, *, itself: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows of ``x`` and their squared distances to all of ``y`` (eq. 1).

    Args:
        x: ``[n, d]``.
        y: ``[m, d]``.
        itself: the index in ``y`` of each row of ``x``, ``[n]``, if its points are among those of
            ``y``: their distance to themselves is set to infinity.

    Yields:
        Indices ``[b]`` of the rows, and distances ``[b, m]``, which may be negative by rounding.

    Example:
        >>> [block for _, block in squared_distances(np.array([[0.0], [3.0]]), np.array([[1.0]]))]
        [array([[1.],
               [4.]])]
    """
    centre = y.mean(axis=0)
    y = y - centre
    norm_y = np.sum(y**2, axis=1)
    for rows in row_blocks(len(x), len(y)):
        block = x[rows] - centre
        norm = np.sum(block**2, axis=1, keepdims=True)
        squared = norm + norm_y - 2 * block @ y.T
        if itself is not None:
            squared[np.arange(len(rows)), itself[rows]] = np.inf
        yield rows, squared
