"""Image files as a viewer shows them: upright, opaque, eight bits a channel.

A phone stores the picture as its sensor was held and records in EXIF how to rotate it. A
transparent pixel still has a colour, often black or whatever was erased, that nobody is meant to
see: every picture is composited over the background.
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxdiff.extras import require
from jaxdiff.typing import InputError, one_line

if TYPE_CHECKING:
    from PIL.Image import Image

BACKGROUND = 255
"""White: what shows through transparent pixels, and surrounds an image that was padded."""

GREY_MODES = {"1", "L", "LA"}
WIDE_MODES = {"F", "I"}  # and "I;16" and its kin: more than 8 bits per channel
ORIENTATION = 0x0112
"""EXIF's orientation tag; its values 5 to 8 swap width and height."""


class Header(NamedTuple):
    """Size and kind of an image, read without decoding it; the sides are those of it upright."""

    width: int
    height: int
    is_grey: bool


def read_header(path: Path) -> Header:
    """Read the size and the kind of an image file.

    Raises:
        InputError: if it is not an image of 8 bits per channel.
    """
    require("PIL", purpose=f"reading the image {path}")
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.format == "TIFF":  # which some versions of Pillow rotate while decoding
                image.load()
            (width, height), mode = image.size, image.mode
            # the base class's method: that of a PNG decodes the whole file
            turned = Image.Image.getexif(image).get(ORIENTATION) in (5, 6, 7, 8)
    except Exception as error:  # whatever a broken file makes Pillow's readers raise
        raise InputError(
            f"{path} is not an image that Pillow can read: {one_line(error)}"
        ) from error
    if mode in WIDE_MODES or ";" in mode:
        raise InputError(f"{path} must have 8 bits per channel, got PIL mode {mode}")
    width, height = (height, width) if turned else (width, height)
    return Header(width, height, mode in GREY_MODES)


def read_pixels(path: Path, *, grey: bool) -> np.ndarray:
    """Decode an image file, rotated according to its EXIF and composited over the background.

    Args:
        path: the file.
        grey: whether to return one channel instead of three.

    Returns:
        uint8 ``[H, W, 1]`` or ``[H, W, 3]``.

    Raises:
        InputError: if the file is damaged.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            opaque = _opaque(ImageOps.exif_transpose(image))
            pixels = np.asarray(opaque.convert("L" if grey else "RGB"))
    except Exception as error:  # as above
        raise InputError(f"the image {path} is damaged: {one_line(error)}") from error
    return pixels.reshape(*pixels.shape[:2], -1)


def _opaque(image: "Image") -> "Image":
    if not image.has_transparency_data:
        return image
    from PIL import Image

    canvas = Image.new("RGBA", image.size, (BACKGROUND,) * 3 + (255,))
    canvas.alpha_composite(image.convert("RGBA"))
    return canvas.convert("RGB")
