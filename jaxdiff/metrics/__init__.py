"""L7: distances between two sets of examples, in any feature space.

Every metric takes plain arrays ``[n, ...]``, flattens the events to features, and computes in
float64 NumPy. The caller extracts the features: with those of :func:`inception_features` the
Fréchet distance is FID, with pixels it is a pixel distance. Figures are only comparable if they
state the number of examples, the features, and how the images were resized: a :class:`Protocol`.

    equal distributions   frechet_distance, frechet_infinity, mmd, kid, cmmd, sliced_wasserstein
    fidelity, diversity   precision_recall, density_coverage, inception_score, vendi
    memorisation          nearest_distances, authenticity, data_copying
"""

from jaxdiff.metrics import kernels
from jaxdiff.metrics.authenticity import authenticity
from jaxdiff.metrics.data_copying import DataCopying, data_copying
from jaxdiff.metrics.density import DensityCoverage, density_coverage
from jaxdiff.metrics.features import spatial_features
from jaxdiff.metrics.frechet import frechet_distance, frechet_from_moments
from jaxdiff.metrics.frechet_infinity import Extrapolation, frechet_infinity
from jaxdiff.metrics.inception import InceptionFeatures, inception_features
from jaxdiff.metrics.inception_score import InceptionScore, inception_score
from jaxdiff.metrics.kid import OverBlocks, kid, kid_full
from jaxdiff.metrics.mmd import Estimate, cmmd, mmd
from jaxdiff.metrics.moments import Moments, load_moments, merge, moments, save_moments
from jaxdiff.metrics.neighbours import (
    Neighbours,
    PrecisionRecall,
    nearest_distances,
    nearest_neighbours,
    precision_recall,
)
from jaxdiff.metrics.protocol import OverSeeds, Protocol, Result, over_seeds
from jaxdiff.metrics.sliced import mind, sliced_wasserstein
from jaxdiff.metrics.vendi import vendi

__all__ = [
    "DataCopying",
    "DensityCoverage",
    "Estimate",
    "Extrapolation",
    "InceptionFeatures",
    "InceptionScore",
    "Moments",
    "Neighbours",
    "OverBlocks",
    "OverSeeds",
    "PrecisionRecall",
    "Protocol",
    "Result",
    "authenticity",
    "cmmd",
    "data_copying",
    "density_coverage",
    "frechet_distance",
    "frechet_from_moments",
    "frechet_infinity",
    "inception_features",
    "inception_score",
    "kernels",
    "kid",
    "kid_full",
    "load_moments",
    "merge",
    "mind",
    "mmd",
    "moments",
    "nearest_distances",
    "nearest_neighbours",
    "over_seeds",
    "precision_recall",
    "save_moments",
    "sliced_wasserstein",
    "spatial_features",
    "vendi",
]
