"""Matplotlib figures through its object interface on an Agg canvas, without pyplot.

Hence there is no global state, no display is needed, and nothing has to be closed. Matplotlib is
imported by the functions that draw.
"""

import io
import os
from typing import TYPE_CHECKING

from jaxdiff.extras import require
from jaxdiff.files import atomic_write
from jaxdiff.typing import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PathLike = str | os.PathLike[str]
INK, DATA, SAMPLES = "#333333", "#7a8793", "#1f6fb4"


def check_backend() -> None:
    """Refuse an unknown MPLBACKEND, with which matplotlib cannot even be imported.

    Raises:
        InputError: naming it.
    """
    backend = os.environ.get("MPLBACKEND")
    try:
        if backend:
            from matplotlib.rcsetup import validate_backend

            validate_backend(backend)
    except ValueError:
        raise InputError(
            f"MPLBACKEND must be a backend of matplotlib, such as Agg, got {backend!r}"
        ) from None


def new_figure(*, width: float, height: float) -> "Figure":
    """An empty figure, its size in inches, on its own canvas."""
    require("matplotlib", purpose="drawing a figure")
    check_backend()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, facecolor="white", layout="tight")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: "Figure", path: PathLike) -> None:
    """Write a figure as a PNG, atomically."""
    png = io.BytesIO()
    figure.savefig(png, format="png")
    atomic_write(path, png.getvalue())
