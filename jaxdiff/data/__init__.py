"""L7: datasets by name, and endless batches that are a pure function of (seed, step).

``load`` gives the two splits of a dataset as random-access sources; ``batches`` turns a source
into training batches, whose images ``flip``, ``dequantize`` and ``scale`` prepare inside a jitted
step; ``stack`` and ``take_all`` put a whole split in memory for evaluation.
Importing this package imports no reader of data: each is imported by the function that needs it.
"""

from jaxdiff.data.augment import dequantize, flip, scale
from jaxdiff.data.names import load
from jaxdiff.data.pipeline import batches, stack, take_all
from jaxdiff.data.pixels import check_range, to_floats, to_uint8
from jaxdiff.data.sources import Dataset, Example, Source

__all__ = [
    "Dataset",
    "Example",
    "Source",
    "batches",
    "check_range",
    "dequantize",
    "flip",
    "load",
    "scale",
    "stack",
    "take_all",
    "to_floats",
    "to_uint8",
]
