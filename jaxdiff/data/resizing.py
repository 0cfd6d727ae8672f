"""Resizing of images to one square, with a Lanczos filter.

The filter is as wide as an output pixel where an image shrinks, so that finer detail averages out
instead of aliasing. Cropping and padding are the same on both sides.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np

from jaxdiff.checks import check_one_of, is_count
from jaxdiff.data.decoding import BACKGROUND
from jaxdiff.data.sources import Dataset, Decoded, Source, take
from jaxdiff.extras import require
from jaxdiff.typing import InputError

Sides = tuple[int, int]
Box = tuple[float, float, float, float]


def _crop(sides: Sides, size: int) -> tuple[Box, Sides]:
    """The largest centred square of the image fills the output."""
    (width, height), side = sides, min(sides)
    left, top = (width - side) / 2, (height - side) / 2
    return (left, top, left + side, top + side), (size, size)


def _stretch(sides: Sides, size: int) -> tuple[Box, Sides]:
    """The whole image fills the output; its proportions change."""
    return (0, 0, *sides), (size, size)


def _pad(sides: Sides, size: int) -> tuple[Box, Sides]:
    """The whole image, its longer side as long as the output, in the middle of the background."""
    width, height = (max(1, round(side * size / max(sides))) for side in sides)
    return (0, 0, *sides), (width, height)


HowToResize = Literal["crop", "stretch", "pad"]
RESIZES: dict[HowToResize, Callable[[Sides, int], tuple[Box, Sides]]] = {
    "crop": _crop,
    "stretch": _stretch,
    "pad": _pad,
}
"""(width, height) and the output's side -> (box of the image, size it is resized to)."""


class Resize(NamedTuple):
    """Resizing to a square of ``size`` pixels a side, by one of ``RESIZES``.

    Example:
        >>> Resize(2, "pad")(np.zeros((4, 8, 1), np.uint8))[..., 0].tolist()
        [[0, 0], [255, 255]]
    """

    size: int
    how: HowToResize

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Resize uint8 ``[H, W, C]`` to ``[size, size, C]``."""
        require("PIL", purpose="resizing images")
        from PIL import Image

        height, width, channels = image.shape
        box, (inner_width, inner_height) = RESIZES[self.how]((width, height), self.size)
        out = np.full((self.size, self.size, channels), BACKGROUND, np.uint8)
        left, top = (self.size - inner_width) // 2, (self.size - inner_height) // 2
        inner = out[top : top + inner_height, left : left + inner_width]
        for channel in range(channels):
            plane = Image.fromarray(np.ascontiguousarray(image[..., channel]))
            resized = plane.resize((inner_width, inner_height), Image.Resampling.LANCZOS, box=box)
            inner[..., channel] = np.asarray(resized)
        return out


def check_resize(size: int | None, how: HowToResize) -> Resize | None:
    """Return the resizing, or None if no size is given; raise InputError if they are invalid."""
    check_one_of(resize=(how, HowToResize))
    if size is None:
        return None
    if not is_count(size):
        raise InputError(f"size must be a positive integer, or None, got {size!r}")
    return Resize(int(size), how)


def resized(dataset: Dataset, resize: Resize | None) -> Dataset:
    """Resize the images of a dataset whose images are all of one size.

    Raises:
        InputError: if its examples are not images.
    """
    if resize is None:
        return dataset
    if not dataset.is_image:
        raise InputError(
            f"size must be None for data that are not images, got {resize.size} for "
            f"{dataset.name}, whose examples have shape {dataset.shape}"
        )
    shape = (resize.size, resize.size, dataset.shape[-1])

    def source(stored: Source) -> Decoded:
        def decode(indices: list[int]) -> tuple[np.ndarray, np.ndarray]:
            batch = take(stored, np.array(indices, int))
            return np.stack([resize(image) for image in batch["x"]]), batch["label"]

        return Decoded(decode, len(stored), shape)

    return replace(dataset, train=source(dataset.train), test=source(dataset.test), shape=shape)
