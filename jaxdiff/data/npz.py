"""Custom datasets: one ``.npz`` file."""

import os
import zipfile
from pathlib import Path

import numpy as np

from jaxdiff.data.labels import whole_labels
from jaxdiff.data.sources import Arrays, Dataset, hold_out
from jaxdiff.typing import InputError, one_line

NAMES = ("x", "label", "x_test", "label_test")
"""Arrays that are read; the file may hold others."""

GIB = 2**30


def load_npz(path: Path) -> Dataset:
    """Load arrays from a file that ``np.savez`` wrote.

    ============  =======================================================================
    ``x``         uint8 images ``[n, H, W, C]`` or ``[n, H, W]``, or float vectors ``[n, D]``
    ``label``     optional: whole numbers ``[n]`` from 0 up, in any type of number
    ``x_test``    optional: as ``x``; without it, a fixed tenth of ``x`` is held out
    ``label_test``  with both ``label`` and ``x_test``: whole numbers ``[n_test]``
    ============  =======================================================================

    Args:
        path: the file.

    Returns:
        A dataset; its number of classes is one more than the largest label.

    Raises:
        InputError: there is no such file, it is not an npz file or does not fit in memory, or an
            array is missing, not of a shape and type above, or inconsistent with another.
    """
    arrays, names = _read(path)
    if "x" not in arrays:
        raise InputError(f"{path} must hold an array 'x', got {', '.join(names) or 'none'}")
    x = _events(arrays, "x", path)
    label = _labels(arrays, "label", len(x), path)
    if "x_test" in arrays:
        x_test = _events(arrays, "x_test", path)
        if (x_test.shape[1:], x_test.dtype) != (x.shape[1:], x.dtype):
            raise InputError(
                f"{path}: x_test must match x, which is {x.dtype} {x.shape}, except in the number "
                f"of examples, got {x_test.dtype} {x_test.shape}"
            )
        if ("label" in arrays) != ("label_test" in arrays):
            only = "label" if "label" in arrays else "label_test"
            raise InputError(f"{path} must hold label and label_test together, got only {only}")
        train = Arrays(x, label)
        test = Arrays(x_test, _labels(arrays, "label_test", len(x_test), path))
    else:
        train, test = (Arrays(x[i], label[i]) for i in hold_out(len(x), len(x) // 10))
    largest = max(int(split.label.max(initial=0)) for split in (train, test))
    num_classes = largest + 1 if "label" in arrays else None
    return Dataset(f"npz:{path}", train, test, x.shape[1:], num_classes)


def _read(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """Read the arrays of a dataset, and the names of all that the file holds."""
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    try:
        with zipfile.ZipFile(path) as file:
            names = [name.removesuffix(".npy") for name in file.namelist()]
            found = {name: file.getinfo(f"{name}.npy") for name in names if name in NAMES}
            size = sum(info.file_size for info in found.values())  # uncompressed
            arrays = {}
            if size <= host_memory():
                for name, info in found.items():
                    with file.open(info) as member:
                        arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
    except Exception as error:  # whatever a broken file makes zipfile, zlib and numpy raise
        raise InputError(f"{path} is not an npz file of plain arrays: {one_line(error)}") from error
    if size > host_memory():
        raise InputError(
            f"{path} must fit in the {host_memory() / GIB:.3g} GiB of memory, got arrays of "
            f"{size / GIB:.3g} GiB"
        )
    return arrays, names


def host_memory() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _events(arrays: dict[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    """Return the images with a channel axis, or the vectors in float32."""
    x = arrays[name]
    if x.dtype == np.uint8 and x.ndim in (3, 4) and x.size:
        return x if x.ndim == 4 else x[..., None]
    if x.dtype.kind == "f" and x.ndim == 2 and x.size:
        with np.errstate(over="ignore"):
            vectors = x.astype(np.float32)
        finite = np.isfinite(vectors)
        if not finite.all():
            raise InputError(f"{path}: {name} must be finite in float32, got {x[~finite][0]}")
        return vectors
    raise InputError(
        f"{path}: {name} must be uint8 images [n, H, W, C] or [n, H, W], or float vectors [n, D], "
        f"got {x.dtype} {x.shape}"
    )


def _labels(arrays: dict[str, np.ndarray], name: str, size: int, path: Path) -> np.ndarray:
    """Return the labels in int32, all 0 if the file has none."""
    if name not in arrays:
        return np.zeros(size, np.int32)
    label = arrays[name]
    if label.shape != (size,):
        raise InputError(f"{path}: {name} must be {size} whole numbers, got shape {label.shape}")
    return whole_labels(f"{path}: {name}", label)
