"""L7: mean and covariance of features, accumulated batch by batch in float64.

For n examples of mean μ, with S = Σ (x_i − μ)(x_i − μ)ᵀ, two disjoint sets a and b together have
(Chan et al. 1979, for vectors)

    n = n_a + n_b,    δ = μ_b − μ_a
    μ = μ_a + δ n_b/n                                                                      (1)
    S = S_a + S_b + δδᵀ n_a n_b/n                                                          (2)

exactly, so that features of any number of examples never need be held at once. Σ xxᵀ − n μμᵀ would
lose the digits in which a variance is small beside the squared mean.
"""

import os
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from jaxdiff.checks import finite_array, is_count
from jaxdiff.files import atomic_write_array
from jaxdiff.metrics.features import as_features, check_same_width
from jaxdiff.typing import ArrayLike, InputError, one_line


class Moments(NamedTuple):
    """Number of examples, mean ``[d]``, and S = Σ (x − μ)(x − μ)ᵀ ``[d, d]``."""

    n: int
    mean: np.ndarray
    scatter: np.ndarray

    def covariance(self, *, ddof: int = 1) -> np.ndarray:
        """The covariance S/(n − ddof) ``[d, d]``; ddof = 1 is unbiased, and what FID uses."""
        if self.n <= ddof:
            raise InputError(f"n must be greater than ddof = {ddof}, got {self.n}")
        return self.scatter / (self.n - ddof)


def moments(x: ArrayLike) -> Moments:
    """Moments of a set or of one batch.

    Args:
        x: ``[n, ...]``; the events are flattened to features.

    Returns:
        ``Moments(n, mean, scatter)``, float64.

    Raises:
        InputError: if ``x`` is empty or not finite.

    Example:
        >>> moments([[0.0], [2.0], [4.0]])
        Moments(n=3, mean=array([2.]), scatter=array([[8.]]))
    """
    return _of(as_features("x", x))


def merge(a: Moments, b: Moments) -> Moments:
    """Moments of the union of two disjoint sets (eq. 1 and 2).

    Args:
        a: moments of one set.
        b: moments of another, of the same number of features.

    Returns:
        ``Moments(n, mean, scatter)``.

    Raises:
        InputError: if the numbers of features differ.

    Example:
        >>> import functools
        >>> batches = ([[0.0], [2.0]], [[4.0]])
        >>> functools.reduce(merge, map(moments, batches))
        Moments(n=3, mean=array([2.]), scatter=array([[8.]]))

    Reference:
        Chan, Golub & LeVeque 1979, Updating formulae and a pairwise algorithm for sample variances.
    """
    check_same_width(("a", "b"), a.scatter, b.scatter)
    n, delta = a.n + b.n, b.mean - a.mean
    mean = a.mean + delta * (b.n / n)
    scatter = a.scatter + b.scatter + np.outer(delta, delta) * (a.n * b.n / n)
    return Moments(n, mean, scatter)


def as_moments(name: str, x: ArrayLike | Moments, *, at_least: int = 2) -> Moments:
    """Moments of features, or moments as they are.

    Args:
        name: the name of the argument, for the error.
        x: ``[n, ...]``, or moments.
        at_least: minimum n.

    Raises:
        InputError: if ``x`` is not finite or holds too few examples.
    """
    if not isinstance(x, Moments):
        return _of(as_features(name, x, at_least=at_least))
    if x.n < at_least:
        raise InputError(f"{name} must hold at least {at_least} examples, got {x.n}")
    return x


def save_moments(path: str | os.PathLike[str], values: Moments) -> None:
    """Write moments in the field's layout: an npz of ``mu`` and ``sigma`` (ddof 1), and of ``n``.

    Args:
        path: the target; an existing file is replaced.
        values: of at least 2 examples.

    Raises:
        InputError: if there are fewer than 2 examples.
        OSError: naming the target, if it cannot be written.
    """
    atomic_write_array(path, mu=values.mean, sigma=values.covariance(), n=values.n)


def load_moments(
    path: str | os.PathLike[str], *, n: int | None = None, mu: str = "mu", sigma: str = "sigma"
) -> Moments:
    """Read moments that :func:`save_moments` wrote, or statistics that were published for FID.

    Args:
        path: an npz file with a mean ``[d]`` and a covariance ``[d, d]`` of ddof 1.
        n: the number of examples, which published files do not hold and must be given for them.
        mu: the name of the mean in the file; "mu_s" for sFID in the statistics of ADM.
        sigma: the name of the covariance in the file; "sigma_s" for sFID.

    Returns:
        ``Moments(n, mean, scatter)``.

    Raises:
        InputError: if there is no such file, it lacks an array, n is missing or contradicts the
            file, or the shapes are not those of a mean and a covariance.

    Example:
        >>> import tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "reference.npz")
        >>> save_moments(path, moments([[0.0], [2.0], [4.0]]))
        >>> load_moments(path)
        Moments(n=3, mean=array([2.]), scatter=array([[8.]]))
    """
    arrays, names = _read(path, (mu, sigma, "n"))
    if not {mu, sigma} <= arrays.keys():
        raise InputError(
            f"{path} must hold arrays {mu!r} and {sigma!r}, got {', '.join(names) or 'none'}"
        )
    stored = int(arrays["n"]) if "n" in arrays else None
    count = n if stored is None else stored
    if count is None or not is_count(count) or count < 2:
        raise InputError(
            f"n must be the number of examples of {path}, an integer of at least 2, got {count}"
        )
    if n not in (None, count):
        raise InputError(f"n must be {count}, which {path} holds, got {n}")
    mean, cov = finite_array(mu, arrays[mu]), finite_array(sigma, arrays[sigma])
    if mean.ndim != 1 or cov.shape != 2 * mean.shape:
        raise InputError(
            f"{path}: {mu} and {sigma} must be a vector and a square matrix of the same length, "
            f"got shapes {mean.shape} and {cov.shape}"
        )
    return Moments(count, mean, cov * (count - 1))


def _of(x: np.ndarray) -> Moments:
    mean = x.mean(axis=0)
    centred = x - mean
    return Moments(len(x), mean, centred.T @ centred)


def _read(
    path: str | os.PathLike[str], wanted: Iterable[str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The wanted arrays that a file holds, and the names of all: some also hold images."""
    if not os.path.isfile(path):
        raise InputError(f"there is no file {path}")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in wanted if name in file.files}, file.files
    except Exception as error:  # whatever a broken file makes zipfile, zlib and numpy raise
        raise InputError(f"{path} is not an npz file of plain arrays: {one_line(error)}") from error
