"""L7: distances between two sets of examples, in any feature space.

Every metric takes plain arrays ``[n, ...]``, flattens the events to features, and computes in
float64 NumPy. The caller extracts the features: with those of Inception the Fréchet distance is
FID, with pixels it is a pixel distance. Figures are only comparable if they state the number of
examples, the features, and how the images were resized.
"""

from jaxdiff.metrics.frechet import frechet_distance, frechet_from_moments
from jaxdiff.metrics.neighbours import (
    Neighbours,
    PrecisionRecall,
    nearest_distances,
    nearest_neighbours,
    precision_recall,
)

__all__ = [
    "Neighbours",
    "PrecisionRecall",
    "frechet_distance",
    "frechet_from_moments",
    "nearest_distances",
    "nearest_neighbours",
    "precision_recall",
]
