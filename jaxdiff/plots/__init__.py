"""L7: pictures, each one PNG that is written atomically."""

from jaxdiff.plots.charts import curve, scatter
from jaxdiff.plots.figures import DATA, INK, SAMPLES, check_backend, new_figure, save_figure
from jaxdiff.plots.images import BORDER, image_grid, trajectory_strip

__all__ = [
    "BORDER",
    "DATA",
    "INK",
    "SAMPLES",
    "check_backend",
    "curve",
    "image_grid",
    "new_figure",
    "save_figure",
    "scatter",
    "trajectory_strip",
]
