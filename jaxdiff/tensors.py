"""L0: files of named tensors, and their hash."""

import hashlib
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


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of the bytes of a file, as ``sha256sum`` prints it.

    Raises:
        InputError: if it cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     file_sha256(file.name)[:16]  # of no bytes
        'e3b0c44298fc1c14'
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
