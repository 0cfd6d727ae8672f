"""Images as one PNG: a grid of images, or trajectories of samples.

Pixels map linearly, low to black and high to white, clipped:

    byte = round(255 · (x − low) / (high − low)).

PIL is imported by the function that draws.
"""

import io
import math

import numpy as np

from jaxdiff.checks import finite_array, is_count
from jaxdiff.extras import require
from jaxdiff.files import atomic_write
from jaxdiff.plots.figures import PathLike
from jaxdiff.typing import ArrayLike, InputError

BORDER = 128
"""Grey of the lines between images, distinct from both black and white."""
WIDTH = 640
"""Approximate width in pixels to which a grid of small images is magnified."""


def image_grid(
    path: PathLike,
    x: ArrayLike,
    *,
    value_range: tuple[float, float],
    columns: int | None = None,
    scale: int | None = None,
) -> None:
    """Draw images row by row, magnified by nearest neighbour, half a pixel of border around each.

    Args:
        path: the PNG to write.
        x: ``[n, H, W, C]``, C being 1 or 3.
        value_range: ``(low, high)``, the values drawn black and white.
        columns: images in a row; by default ⌈√n⌉.
        scale: integer magnification; by default such that the picture is about 640 px wide.

    Raises:
        InputError: if shapes, range, columns or scale are invalid, or ``x`` is not finite.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> path = tempfile.mkdtemp() + "/grid.png"
        >>> image_grid(path, np.zeros((4, 8, 8, 1)), value_range=(-1, 1), scale=2)
        >>> np.asarray(Image.open(path)).shape  # 2 images of 16 px, 3 borders
        (35, 35)
    """
    atomic_write(path, image_grid_png(x, value_range=value_range, columns=columns, scale=scale))


def image_grid_png(
    x: ArrayLike,
    *,
    value_range: tuple[float, float],
    columns: int | None = None,
    scale: int | None = None,
) -> bytes:
    r"""The picture that :func:`image_grid` writes, from the same arguments.

    Raises:
        InputError: as ``image_grid`` does.

    Example:
        >>> image_grid_png(np.zeros((4, 8, 8, 1)), value_range=(-1, 1))[:4]
        b'\x89PNG'
    """
    require("PIL", purpose="writing an image")
    from PIL import Image

    images = _bytes(x, value_range)
    n, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(n)) if columns is None else _positive("columns", columns)
    fitting = max(1, round(WIDTH / (columns * (width + 0.5))))
    scale = fitting if scale is None else _positive("scale", scale)
    rows, (height, width) = math.ceil(n / columns), (height * scale, width * scale)
    gap = max(1, scale // 2)
    down, right = height + gap, width + gap
    canvas = np.full((rows * down + gap, columns * right + gap, channels), BORDER, np.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * down + gap, (i % columns) * right + gap
        canvas[top : top + height, left : left + width] = image.repeat(scale, 0).repeat(scale, 1)
    png = io.BytesIO()
    Image.fromarray(canvas[..., 0] if channels == 1 else canvas).save(png, format="PNG")
    return png.getvalue()


def trajectory_strip(path: PathLike, saved: ArrayLike, *, value_range: tuple[float, float]) -> None:
    """Draw trajectories of samples: a row for each sample, a column for each saved step.

    Args:
        path: the PNG to write.
        saved: ``[steps, n, H, W, C]``, as ``jaxdiff.trajectory`` saves it.
        value_range: ``(low, high)``; noise beyond it is clipped.

    Raises:
        InputError: as ``image_grid`` does.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> path = tempfile.mkdtemp() + "/strip.png"
        >>> trajectory_strip(path, np.zeros((10, 2, 8, 8, 3)), value_range=(0, 1))
        >>> np.asarray(Image.open(path)).shape  # 2 rows, 10 columns of 64 px, and their borders
        (140, 684, 3)
    """
    saved = np.asarray(saved)
    if saved.ndim != 5 or saved.size == 0:
        raise InputError(
            f"saved must be [steps, n, H, W, C] and not empty, got shape {saved.shape}"
        )
    rows = saved.swapaxes(0, 1).reshape(-1, *saved.shape[2:])
    image_grid(path, rows, value_range=value_range, columns=len(saved))


def _bytes(x: ArrayLike, value_range: tuple[float, float]) -> np.ndarray:
    """Images ``[n, H, W, C]`` as uint8."""
    images = finite_array("x", x)
    low, high = value_range
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or images.size == 0:
        raise InputError(f"x must be [n, H, W, 1 or 3] and not empty, got shape {images.shape}")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"value_range must be (low, high) with low < high, got {value_range}")
    return np.rint(255 * np.clip((images - low) / (high - low), 0, 1)).astype(np.uint8)


def _positive(name: str, value: int) -> int:
    if not is_count(value):
        raise InputError(f"{name} must be an integer of at least 1, got {value!r}")
    return int(value)
