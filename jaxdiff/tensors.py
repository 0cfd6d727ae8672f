"""L0: files of named tensors."""

import os

import numpy as np

from jaxdiff.extras import require
from jaxdiff.typing import InputError


def read_tensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read a safetensors file.

    Raises:
        InputError: if it is missing, not a safetensors file, or of a dtype that numpy lacks.
    """
    require("safetensors", purpose="reading a safetensors file")
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors: dict[str, np.ndarray] = load_file(path)
    except (OSError, SafetensorError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a readable safetensors file: {error}") from error
    return tensors
