"""Parts of a long computation, each kept in a file as soon as it is there.

A command that was killed goes on from them. Every file holds the identity of what made it, and is
made again where that differs: nothing stale is ever read.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff.files import atomic_write, atomic_write_array

Json = dict[str, Any]


def kept_array(path: Path, identity: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array of a file, or make it and write the file.

    Args:
        path: an .npz.
        identity: everything that the array depends on, as text.
        make: makes it.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "part.npz"
        >>> kept_array(path, "a", lambda: np.ones(2)), kept_array(path, "a", lambda: np.zeros(2))
        (array([1., 1.]), array([1., 1.]))
        >>> kept_array(path, "b", lambda: np.zeros(2))
        array([0., 0.])
    """
    try:
        with np.load(path) as stored:
            if str(stored["identity"]) == identity:
                found: np.ndarray = stored["x"]
                return found
    except (OSError, ValueError, KeyError):
        pass  # there is none yet, or it is not one of ours
    made = make()
    atomic_write_array(path, x=made, identity=np.array(identity))
    return made


def kept_json(path: Path, identity: str, make: Callable[[], Json]) -> Json:
    """The same for an object of JSON.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "part.json"
        >>> kept_json(path, "a", lambda: {"n": 1}), kept_json(path, "a", lambda: {"n": 2})
        ({'n': 1}, {'n': 1})
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["identity"] == identity:
            found: Json = stored["value"]
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    made = make()
    atomic_write(path, json.dumps({"identity": identity, "value": made}, indent=2) + "\n")
    return made
