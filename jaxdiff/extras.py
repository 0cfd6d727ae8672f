"""L0: the packages of each extra, and a one-line error for those that are not installed.

``import jaxdiff`` requires only the core dependencies. All other packages are imported where they
are used, after :func:`require`.
"""

import importlib.util
from collections.abc import Mapping

from jaxdiff.typing import InputError

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "data": ("tensorflow_datasets", "importlib_resources", "array_record", "sklearn", "PIL"),
    "train": ("orbax", "grain", "tensorboardX", "tqdm", "matplotlib", "PIL", "safetensors"),
    "experiments": ("ml_collections",),
    "torch": ("torch",),
    "bench": ("torch", "diffusers"),
}
"""Import names of packages, by the extra of ``pyproject.toml`` that installs them."""


def require(*packages: str, purpose: str) -> None:
    """Check that packages are installed, without importing them.

    Args:
        *packages: import names.
        purpose: what requires them, the subject of the error.

    Raises:
        InputError: naming the missing packages, and the extra that installs them.

    Example:
        >>> require("tqdm", purpose="training")
    """
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        extra = next((name for name, of in EXTRAS.items() if set(missing) <= set(of)), "all")
        listed = ", ".join(missing[:-1]) + " and " * (len(missing) > 1) + missing[-1]
        verb = "are" if len(missing) > 1 else "is"
        raise InputError(
            f"{purpose} requires {listed}, which {verb} not installed: "
            f"pip install 'jaxdiff[{extra}]'"
        )
