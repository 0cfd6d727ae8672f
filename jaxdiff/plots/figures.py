"""Matplotlib figures through its object interface on an Agg canvas, without pyplot.

Hence there is no global state, no display is needed, and nothing has to be closed. Matplotlib is
imported by the functions that draw.
"""

import io
import os
import re
from typing import TYPE_CHECKING

from jaxdiff.extras import require
from jaxdiff.files import atomic_write
from jaxdiff.typing import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PathLike = str | os.PathLike[str]
INK, DATA, SAMPLES = "#333333", "#7a8793", "#1f6fb4"
SPINE, GRID = "#bbbbbb", "#e6e6e6"


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


def as_svg(figure: "Figure") -> str:
    """A figure as an SVG element for a web page, which scales with its column.

    Text and lines in the colours ``INK``, ``SPINE`` and ``GRID`` take those of the page,
    ``currentColor`` at three opacities, so that the figure suits a light page and a dark one. The
    same figure gives the same text.

    Example:
        >>> svg = as_svg(new_figure(width=1.0, height=1.0))
        >>> svg[:4], "#333333" in svg
        ('<svg', False)
    """
    import matplotlib

    drawn = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "jaxdiff"}):
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    text = drawn.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'<g id="[A-Za-z0-9.]+_\d+">', "<g>", text)  # a page holds several figures
    text = re.sub(r'font-family: [^;"]*', "font-family: inherit", text)
    for colour, opacity in ((INK, 1), (SPINE, 0.4), (GRID, 0.15)):
        text = re.sub(f"(fill|stroke): {colour}", rf"\1: currentColor; \1-opacity: {opacity}", text)
    return text
