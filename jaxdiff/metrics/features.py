"""L7: inputs of every metric: finite float64 features, the same number of them in both sets.

An event of any shape is one point of R^d, where d is its number of entries: ``[n, ...] -> [n, d]``.
"""

import numpy as np

from jaxdiff.checks import check_count, finite_array
from jaxdiff.typing import ArrayLike, InputError


def as_features(name: str, x: ArrayLike, *, at_least: int = 1) -> np.ndarray:
    """Flatten the events: ``[n, ...] -> [n, d]``.

    Args:
        name: the name of the argument, for the error.
        x: ``[n, ...]``.
        at_least: minimum n.

    Returns:
        Features ``[n, d]``, float64.

    Raises:
        InputError: if ``x`` is a scalar, empty, not finite, or holds too few examples.

    Example:
        >>> as_features("x", np.zeros((5, 8, 8, 1))).shape
        (5, 64)
    """
    array = finite_array(name, x)
    if array.ndim == 0:
        raise InputError(f"{name} must be a batch [n, ...], got a scalar")
    if len(array) < at_least:
        raise InputError(f"{name} must hold at least {at_least} examples, got {len(array)}")
    if array.size == 0:
        raise InputError(f"{name} must have at least one feature, got shape {array.shape}")
    return array.reshape(len(array), -1)


def check_same_width(names: tuple[str, str], x: np.ndarray, y: np.ndarray) -> None:
    """Raise InputError unless both sets ``[n, d]`` and ``[m, d]`` have the same d.

    Example:
        >>> check_same_width(("x", "y"), np.zeros((5, 2)), np.zeros((5, 3)))
        Traceback (most recent call last):
        jaxdiff.typing.InputError: x and y must have the same number of features, got 2 and 3
    """
    if x.shape[1] != y.shape[1]:
        raise InputError(
            f"{names[0]} and {names[1]} must have the same number of features, "
            f"got {x.shape[1]} and {y.shape[1]}"
        )


def unit_features(name: str, x: ArrayLike, *, at_least: int = 1) -> np.ndarray:
    """Flatten the events, and scale each to length 1: x_i / ‖x_i‖.

    Args:
        name: the name of the argument, for the error.
        x: ``[n, ...]``.
        at_least: minimum n.

    Returns:
        Features ``[n, d]`` with rows of length 1, float64.

    Raises:
        InputError: as for :func:`as_features`, and if an example is zero.

    Example:
        >>> unit_features("x", [[3.0, 4.0]])
        array([[0.6, 0.8]])
    """
    features = as_features(name, x, at_least=at_least)
    largest = np.abs(features).max(axis=1, keepdims=True)  # squares of the rest cannot overflow
    zeros = np.count_nonzero(largest == 0)
    if zeros:
        raise InputError(f"{name} must have a direction in every example, got {zeros} that are 0")
    scaled = features / largest
    return scaled / np.linalg.norm(scaled, axis=1, keepdims=True)


def spatial_features(x: ArrayLike, *, channels: int = 7) -> np.ndarray:
    """The first channels of a feature map at every position: the features of sFID.

    sFID is :func:`~jaxdiff.metrics.frechet_distance` of the layer "mixed_6/conv" of the TensorFlow
    Inception-v3, 17 × 17 positions with 768 channels, of which the first 7 make 2023 features: as
    many as FID's, but sensitive to where things are. The order is that of the published
    statistics (``mu_s`` and ``sigma_s``): rows, columns, channels.

    Args:
        x: feature maps, channels last: ``[n, h, w, c]``.
        channels: how many of them are used.

    Returns:
        Features ``[n, h * w * channels]``, float64.

    Raises:
        InputError: if ``x`` does not have that shape, is not finite, or has fewer channels.

    Example:
        >>> spatial_features(np.zeros((2, 17, 17, 768))).shape
        (2, 2023)

    Reference:
        Nash et al. 2021, Generating images with sparse representations.
    """
    check_count("channels must be a positive integer", channels)
    maps = finite_array("x", x)
    if maps.ndim != 4 or maps.shape[3] < channels:
        raise InputError(
            f"x must be feature maps [n, h, w, c] of at least {channels} channels, "
            f"got shape {maps.shape}"
        )
    return as_features("x", maps[..., :channels])
