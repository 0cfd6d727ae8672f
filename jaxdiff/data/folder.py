"""A data set of one's own as a folder of image files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxdiff.data.sources import Dataset, Decoded, hold_out
from jaxdiff.typing import InputError

GREY_MODES = {"1", "L", "LA"}
WIDE_MODES = {"F", "I"}  # and "I;16" and its kin: more than 8 bits per channel


def load_folder(folder: Path) -> Dataset:
    """Load every file of a directory tree as an image; the sorted order of the paths is theirs.

    Either all images lie in sub-folders, whose sorted names are the classes, or none does. Hidden
    files are passed over. If every image is grey, so are the examples (one channel); otherwise all
    are converted to RGB, transparency dropped. A fixed tenth is held out for the test split. Only
    the files' headers are read here; pixels are decoded when first asked for.

    Args:
        folder: the top of the tree.

    Returns:
        A data set of shape ``(H, W, 1)`` or ``(H, W, 3)``.

    Raises:
        InputError: the folder is missing or empty, a file in it is not an 8-bit image, the images
            differ in size, or some lie in sub-folders and some beside them.
    """
    paths = _files(folder)
    sizes, modes = zip(*map(_header, paths), strict=True)
    for path, size in zip(paths, sizes, strict=True):
        if size != sizes[0]:
            raise InputError(
                f"images must all be of one size: {paths[0]} is {sizes[0][0]}x{sizes[0][1]} "
                f"(width x height), {path} is {size[0]}x{size[1]}"
            )
    label, num_classes = _labels(folder, paths)
    mode = "L" if GREY_MODES.issuperset(modes) else "RGB"
    width, height = sizes[0]
    shape = (height, width, len(mode) if mode == "RGB" else 1)

    def source(members: np.ndarray) -> Decoded:
        def decode(indices: list[int]) -> tuple[np.ndarray, np.ndarray]:
            chosen = members[indices]
            images = np.stack([_pixels(paths[i], mode) for i in chosen])
            return images.reshape(-1, *shape), label[chosen]

        return Decoded(decode, len(members), shape)

    train, test = hold_out(len(paths), len(paths) // 10)
    return Dataset(f"folder:{folder}", source(train), source(test), shape, num_classes)


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    )
    if not paths:
        raise InputError(f"the folder {folder} is empty, it takes image files")
    return paths


def _labels(folder: Path, paths: Sequence[Path]) -> tuple[np.ndarray, int | None]:
    """Return each image's class, and how many there are: the sub-folders, if images lie in them."""
    parts = [path.relative_to(folder).parts for path in paths]
    nested = [len(p) > 1 for p in parts]
    if not any(nested):
        return np.zeros(len(paths), np.int32), None
    if not all(nested):
        raise InputError(
            f"{paths[nested.index(False)]} lies beside sub-folders of images: either every image "
            "lies in a sub-folder, which names its class, or none does"
        )
    names, label = np.unique([p[0] for p in parts], return_inverse=True)
    return label.astype(np.int32), len(names)


def _header(path: Path) -> tuple[tuple[int, int], str]:
    """Return (width, height) and PIL's mode, without decoding a pixel."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            size, mode = image.size, image.mode
    except OSError as error:
        raise InputError(f"{path} is not an image that Pillow can read: {error}") from error
    if mode in WIDE_MODES or ";" in mode:
        raise InputError(f"{path} is of PIL mode {mode}, images take 8 bits per channel")
    return size, mode


def _pixels(path: Path, mode: str) -> np.ndarray:
    """Return uint8 ``[H, W]`` or ``[H, W, 3]``."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert(mode))
    except OSError as error:
        raise InputError(f"the image {path} is damaged: {error}") from error
