"""Networks with random weights, and their outputs in the systems that published them."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "shared" / "golden"


@functools.cache
def read(name):
    """``(config, x [batch, h, w, c], label, y, state)``; skips where the folder is absent."""
    path = FOLDER / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"{path} does not exist: the golden networks are not part of the project")
    with np.load(path) as stored:
        arrays = dict(stored)
    config = json.loads(str(arrays.pop("__config__")))
    x, y = (np.moveaxis(arrays.pop(key), 1, -1) for key in ("__x__", "__y__"))
    return config, x, arrays.pop("__label__"), y, arrays
