"""Custom datasets: a folder of image files."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from jaxdiff.data.decoding import read_header, read_pixels
from jaxdiff.data.resizing import Resize
from jaxdiff.data.sources import Dataset, Decoded, hold_out
from jaxdiff.typing import InputError

LISTED = 5
"""How many sizes a message lists at most."""


def load_folder(folder: Path, resize: Resize | None = None) -> Dataset:
    """Load every file of a directory tree as an image, in the sorted order of the paths.

    Either all images lie in sub-folders, whose sorted names are the classes, or none does. Hidden
    files are skipped. If every image is grey, so are the examples (one channel); otherwise all are
    converted to RGB. Images are rotated according to their EXIF, and transparent ones composited
    over white. A fixed tenth is held out for the test split. Only the files' headers are read
    here; pixels are decoded on first access.

    Args:
        folder: the top of the tree.
        resize: how images are resized; without it they must all be of one size.

    Returns:
        A dataset of shape ``(H, W, 1)`` or ``(H, W, 3)``.

    Raises:
        InputError: the folder is missing, empty or not fully readable, a file in it is not an
            8-bit image, the images differ in size, or some lie in sub-folders and some beside them.
    """
    paths = _files(folder)
    headers = [read_header(path) for path in paths]
    sizes = [(header.width, header.height) for header in headers]
    if resize is None:
        _check_one_size(folder, paths, sizes)
    label, num_classes = _labels(folder, paths)
    grey = all(header.is_grey for header in headers)
    width, height = sizes[0] if resize is None else (resize.size, resize.size)
    shape = (height, width, 1 if grey else 3)

    def read(index: int) -> np.ndarray:
        pixels = read_pixels(paths[index], grey=grey)
        if resize is not None:
            return resize(pixels)
        if pixels.shape != shape:  # the file was replaced, or its EXIF stands at its end
            raise InputError(f"{paths[index]} must be of shape {shape}, got {pixels.shape}")
        return pixels

    def source(members: np.ndarray) -> Decoded:
        def decode(indices: list[int]) -> tuple[np.ndarray, np.ndarray]:
            chosen = members[indices]
            return np.stack([read(i) for i in chosen]), label[chosen]

        return Decoded(decode, len(members), shape)

    train, test = hold_out(len(paths), len(paths) // 10)
    return Dataset(f"folder:{folder}", source(train), source(test), shape, num_classes)


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    try:
        paths = sorted(_visible(folder))
    except OSError as error:
        raise InputError(f"{error.filename} must be readable, got {error.strerror}") from error
    if not paths:
        raise InputError(f"the folder {folder} must contain image files, got none")
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path} must be an image file, got a broken link or a special file")
    return paths


def _visible(folder: Path) -> Iterator[Path]:
    """Yield every file of a tree that is not hidden; links to folders are followed.

    Raises:
        OSError: if a folder cannot be read, which ``rglob`` would skip.
    """
    lies_in = {str(folder): frozenset([os.path.realpath(folder)])}
    for top, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        outer = lies_in.pop(top)
        inner = {os.path.join(top, name): name for name in folders if not name.startswith(".")}
        # skip a link to an enclosing folder, whose contents are visited anyway
        new = {path: own for path in inner if (own := os.path.realpath(path)) not in outer}
        folders[:] = [inner[path] for path in new]
        lies_in |= {path: outer | {own} for path, own in new.items()}
        yield from (Path(top, name) for name in files if not name.startswith("."))


def _refuse(error: OSError) -> NoReturn:
    raise error


def _check_one_size(folder: Path, paths: Sequence[Path], sizes: Sequence[tuple[int, int]]) -> None:
    """Raise InputError unless all images are of one size, listing the sizes found."""
    found = Counter(sizes).most_common()
    if len(found) == 1:
        return
    named = [
        f"{width}x{height} ({count}, such as {paths[sizes.index((width, height))].name})"
        for (width, height), count in found[:LISTED]
    ]
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    raise InputError(
        f"images in {folder} must be of one size (width x height), got {', '.join(named)}{more}; "
        "config.data.size=N resizes them (config.data.resize: crop, stretch or pad)"
    )


def _labels(folder: Path, paths: Sequence[Path]) -> tuple[np.ndarray, int | None]:
    """Return each image's class and the number of classes: the sub-folders, if there are any."""
    parts = [path.relative_to(folder).parts for path in paths]
    nested = [len(p) > 1 for p in parts]
    if not any(nested):
        return np.zeros(len(paths), np.int32), None
    if not all(nested):
        raise InputError(
            f"images in {folder} must all lie in sub-folders, which name their classes, or all "
            f"directly in it, got {paths[nested.index(False)]} next to sub-folders"
        )
    names, label = np.unique([p[0] for p in parts], return_inverse=True)
    return label.astype(np.int32), len(names)
