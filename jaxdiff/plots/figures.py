"""Figures of matplotlib, by its objects on an Agg canvas, never by pyplot.

Hence nothing is global, no display is needed, and nothing is to be closed. Matplotlib is imported
by the functions that draw.
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
    """Refuse a MPLBACKEND that matplotlib lacks: with it, it cannot even be imported.

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
    """An empty figure of so many inches, on a canvas of its own."""
    require("matplotlib", purpose="drawing a figure")
    check_backend()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, facecolor="white", layout="tight")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: "Figure", path: PathLike) -> None:
    """Write a figure as a PNG, whole or not at all."""
    png = io.BytesIO()
    figure.savefig(png, format="png")
    atomic_write(path, png.getvalue())
