"""L7: distances between two sets of examples, in whatever feature space the caller chose.

Every metric takes plain arrays ``[n, ...]``, flattens the events to features, and computes in
float64 NumPy. None of them knows of an extractor: give Inception features and the Fréchet distance
is FID, give pixels and it is a pixel distance. A figure is only comparable when it says how many
examples it took, which features, and how the images were resized.
"""

from jaxdiff.metrics.frechet import frechet_distance, frechet_from_moments
from jaxdiff.metrics.neighbours import PrecisionRecall, nearest_distances, precision_recall

__all__ = [
    "PrecisionRecall",
    "frechet_distance",
    "frechet_from_moments",
    "nearest_distances",
    "precision_recall",
]
