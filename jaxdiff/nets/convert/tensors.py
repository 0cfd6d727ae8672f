"""Tensors from outside: read from a file, and checked to be finite floats."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdiff.extras import require
from jaxdiff.typing import InputError

INDEX = ".index.json"
"""Suffix of a file that lists the shards of a set of tensors."""


def read_pickle(path: str | os.PathLike[str], what: str) -> Any:
    """Read a torch pickle of only tensors and plain containers; this needs torch.

    Args:
        path: of the file.
        what: the expected content, for the error.

    Raises:
        InputError: if it is missing, holds anything that would run code, is not a torch pickle, or
            torch is not installed.
    """
    require("torch", purpose=f"reading the pickle {path}")
    import pickle

    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path} must be {what}: {error}") from error
    except pickle.UnpicklingError:  # torch's own message advises loading it anyway
        raise InputError(
            f"{path} must be {what}, got a file that is not a pickle of only tensors and numbers; "
            "anything else in a pickle can run code when it is read"
        ) from None
    except Exception as error:  # torch raises many errors for files that are not its own
        raise InputError(f"{path} must be {what}, got a file that torch cannot read") from error


def as_numpy(tensor: Any) -> np.ndarray:
    """Convert a torch tensor; floats become float32, since numpy lacks bfloat16."""
    array: np.ndarray = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return array


def finite_float32(name: str, tensor: Any) -> np.ndarray:
    """A tensor of any float type as float32.

    Raises:
        InputError: if it holds integers, complex numbers, NaN or infinity, or overflows float32.
    """
    array = np.asarray(tensor)
    # bfloat16 and the like are not subtypes of numpy's floats
    if not (np.issubdtype(array.dtype, np.floating) or "float" in array.dtype.name):
        raise InputError(f"weights must be floats, got {array.dtype} in {name}")
    with np.errstate(over="ignore"):
        cast = array.astype(np.float32)
    if not np.all(np.isfinite(cast)):
        raise InputError(f"weights must be finite in float32, got NaN or infinity in {name}")
    return cast


def check_names(path: Any, got: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse tensors that are missing, left over or of another shape than those expected.

    Raises:
        InputError: naming the first.
    """
    for name, leaf in expected.items():
        if name not in got:
            raise InputError(f"{path} holds no {name}, which its network needs")
        if np.shape(got[name]) != leaf.shape:
            raise InputError(
                f"{path}: {name} must have shape {leaf.shape}, got {np.shape(got[name])}"
            )
    for name in got:
        if name not in expected:
            raise InputError(f"{path} holds {name}, which its network lacks")
