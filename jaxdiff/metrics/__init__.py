"""L7: distances between two sets of examples, in any feature space.

Every metric takes plain arrays ``[n, ...]``, flattens the events to features, and computes in
float64 NumPy. The caller extracts the features: with those of ``inception_features`` the Fréchet
distance is FID, with pixels it is a pixel distance. Figures are only comparable if they state the
number of examples, the features, and how the images were resized.
"""

from jaxdiff.metrics.frechet import frechet_distance, frechet_from_moments
from jaxdiff.metrics.inception import InceptionFeatures, inception_features
from jaxdiff.metrics.neighbours import PrecisionRecall, nearest_distances, precision_recall

__all__ = [
    "InceptionFeatures",
    "PrecisionRecall",
    "frechet_distance",
    "frechet_from_moments",
    "inception_features",
    "nearest_distances",
    "precision_recall",
]
