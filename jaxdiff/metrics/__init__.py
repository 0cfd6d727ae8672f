"""L7: distances between two sets of examples, in any feature space.

Every metric takes plain arrays ``[n, ...]``, flattens the events to features, and computes in
float64 NumPy. The caller extracts the features: with those of ``inception_features`` the Fréchet
distance is FID (and sFID with its spatial features), with pixels it is a pixel distance. Figures
are only comparable if they state the number of examples, the features, and how the images were
resized.
"""

from jaxdiff.metrics.coverage import (
    DensityCoverage,
    authentic_fraction,
    density_coverage,
)
from jaxdiff.metrics.diversity import inception_score, vendi_score
from jaxdiff.metrics.estimates import Estimate
from jaxdiff.metrics.frechet import (
    frechet_distance,
    frechet_from_moments,
    frechet_infinity,
)
from jaxdiff.metrics.inception import InceptionFeatures, inception_features
from jaxdiff.metrics.kernels import kid, kid_over_blocks, mmd
from jaxdiff.metrics.moments import Moments, merge, moments
from jaxdiff.metrics.neighbours import (
    Neighbours,
    PrecisionRecall,
    nearest_distances,
    nearest_neighbours,
    precision_recall,
)
from jaxdiff.metrics.sliced import mind, sliced_wasserstein

__all__ = [
    "DensityCoverage",
    "Estimate",
    "InceptionFeatures",
    "Moments",
    "Neighbours",
    "PrecisionRecall",
    "authentic_fraction",
    "density_coverage",
    "frechet_distance",
    "frechet_from_moments",
    "frechet_infinity",
    "inception_features",
    "inception_score",
    "kid",
    "kid_over_blocks",
    "merge",
    "mind",
    "mmd",
    "moments",
    "nearest_distances",
    "nearest_neighbours",
    "precision_recall",
    "sliced_wasserstein",
    "vendi_score",
]
