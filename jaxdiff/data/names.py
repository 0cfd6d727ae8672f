"""Datasets by name: the one table from names to loaders."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from jaxdiff.data.digits import load_digits
from jaxdiff.data.folder import load_folder
from jaxdiff.data.npz import load_npz
from jaxdiff.data.resizing import HowToResize, Resize, check_resize, resized
from jaxdiff.data.sources import Dataset
from jaxdiff.data.tfds import load_tfds
from jaxdiff.data.toy import TOYS, load_toy
from jaxdiff.typing import InputError, nearest

# Prefix before the colon -> (what may follow it, loader(rest, data_dir, resize)).
LOADERS: dict[str, tuple[str, Callable[[str, Path | None, Resize | None], Dataset]]] = {
    "digits": ("", lambda _, data_dir, resize: resized(load_digits(), resize)),
    "toy": (":" + "|".join(TOYS), lambda name, data_dir, resize: resized(load_toy(name), resize)),
    "tfds": (":<name>", load_tfds),
    "npz": (
        ":<file>",
        lambda file, data_dir, resize: resized(load_npz(_locate(file, data_dir)), resize),
    ),
    "folder": (
        ":<folder>",
        lambda folder, data_dir, resize: load_folder(_locate(folder, data_dir), resize),
    ),
}


def load(
    name: str,
    *,
    data_dir: str | Path | None = None,
    size: int | None = None,
    resize: HowToResize = "crop",
) -> Dataset:
    """Load a dataset by its name.

    Args:
        name: ``"digits"``, ``"toy:moons"``, ``"toy:rings"``, ``"toy:checkerboard"``,
            ``"toy:mixture"``, ``"tfds:<name>"``, ``"npz:<file>"`` or ``"folder:<folder>"``.
        data_dir: where TFDS datasets were prepared, and the base of relative files and folders. By
            default ``$TFDS_DATA_DIR`` (or ``~/tensorflow_datasets``), and the current directory.
        size: side of the square that images are resized to, with a Lanczos filter; None keeps
            their size, which must then be the same for all. Vectors have none.
        resize: how an image becomes a square: ``"crop"`` takes its largest centred one,
            ``"stretch"`` changes its proportions, ``"pad"`` surrounds it with white.

    Returns:
        The dataset, under this name.

    Raises:
        InputError: no dataset has this name, or it cannot be read.

    Example:
        >>> load("toy:mixture").shape
        (2,)
        >>> load("digits", size=16).shape
        (16, 16, 1)
    """
    kind, colon, rest = name.partition(":")
    takes_rest = kind in LOADERS and bool(LOADERS[kind][0])
    if kind not in LOADERS or bool(colon) != takes_rest or bool(rest) != takes_rest:
        known = ", ".join(kind + rest for kind, (rest, _) in LOADERS.items())
        near = nearest(name, [*LOADERS, *(f"toy:{toy}" for toy in TOYS)])
        raise InputError(f"unknown dataset {name!r}: must be one of {known}{near}")
    folder = None if data_dir is None else Path(data_dir)
    dataset = LOADERS[kind][1](rest, folder, check_resize(size, resize))
    return replace(dataset, name=name)


def _locate(path: str, data_dir: Path | None) -> Path:
    return (data_dir or Path()).expanduser() / Path(path).expanduser()
