"""A data set of one's own in one ``.npz`` file."""

import zipfile
from pathlib import Path

import numpy as np

from jaxdiff.data.sources import Arrays, Dataset, hold_out
from jaxdiff.typing import InputError


def load_npz(path: Path) -> Dataset:
    """Load arrays from a file that ``np.savez`` wrote.

    ============  =======================================================================
    ``x``         uint8 images ``[n, H, W, C]`` or ``[n, H, W]``, or float vectors ``[n, D]``
    ``label``     optional: integers ``[n]`` from 0 up
    ``x_test``    optional: as ``x``; without it, a fixed tenth of ``x`` is held out
    ``label_test``  with both ``label`` and ``x_test``: integers ``[n_test]``
    ============  =======================================================================

    Args:
        path: the file.

    Returns:
        A data set; its number of classes is one more than the largest label.

    Raises:
        InputError: there is no such file, it is not an npz file, or an array is missing, not of a
            shape and type above, or at odds with another.
    """
    arrays = _read(path)
    x = _events(arrays, "x", path)
    label = _labels(arrays, "label", len(x), path)
    if "x_test" in arrays:
        x_test = _events(arrays, "x_test", path)
        if (x_test.shape[1:], x_test.dtype) != (x.shape[1:], x.dtype):
            raise InputError(
                f"{path}: x_test is {x_test.dtype} {x_test.shape}, it must match x, which is "
                f"{x.dtype} {x.shape}, but for the number of examples"
            )
        if ("label" in arrays) != ("label_test" in arrays):
            raise InputError(f"{path}: label and label_test take each other, only one is there")
        train = Arrays(x, label)
        test = Arrays(x_test, _labels(arrays, "label_test", len(x_test), path))
    else:
        train, test = (Arrays(x[i], label[i]) for i in hold_out(len(x), len(x) // 10))
    largest = max(train.label.max(), test.label.max())
    num_classes = int(largest) + 1 if "label" in arrays else None
    return Dataset(f"npz:{path}", train, test, x.shape[1:], num_classes)


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not an npz file of plain arrays: {error}") from error


def _events(arrays: dict[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    """Return the images with a channel axis, or the vectors in float32."""
    if name not in arrays:
        raise InputError(f"{path} has no array {name!r}, it has {', '.join(arrays) or 'none'}")
    x = arrays[name]
    if x.dtype == np.uint8 and x.ndim in (3, 4) and x.size:
        return x if x.ndim == 4 else x[..., None]
    if x.dtype.kind == "f" and x.ndim == 2 and x.size:
        if not np.isfinite(x).all():
            raise InputError(f"{path}: {name} holds NaN or infinity, vectors must be finite")
        return x.astype(np.float32)
    raise InputError(
        f"{path}: {name} is {x.dtype} {x.shape}, it takes uint8 images [n, H, W, C] or [n, H, W], "
        "or float vectors [n, D]"
    )


def _labels(arrays: dict[str, np.ndarray], name: str, size: int, path: Path) -> np.ndarray:
    """Return the labels in int32, all 0 where there are none."""
    if name not in arrays:
        return np.zeros(size, np.int32)
    label = arrays[name]
    if label.dtype.kind not in "iu" or label.shape != (size,) or label.min() < 0:
        raise InputError(
            f"{path}: {name} is {label.dtype} {label.shape}, it takes {size} integers from 0 up"
        )
    return label.astype(np.int32)
