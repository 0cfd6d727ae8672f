"""Posteriors of Gaussian mixtures in numpy, from the joint distribution of data and measurement."""

from typing import NamedTuple

import numpy as np
from scipy import special, stats


class Problem(NamedTuple):
    """A mixture, and a measurement y = A x_0 + noise_std · n of it."""

    weights: np.ndarray
    means: np.ndarray
    covs: np.ndarray
    A: np.ndarray
    y: np.ndarray
    noise_std: float


def problem(components, dim, measured, noise_std, seed=0, spread=1.0):
    """Random components of different shapes, and a measurement of one of their samples."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.5, 1.5, components)
    means = spread * rng.normal(size=(components, dim))
    roots = rng.normal(size=(components, dim, dim)) / np.sqrt(dim)
    covs = roots @ roots.transpose(0, 2, 1) + 0.05 * np.eye(dim)
    A = rng.normal(size=(measured, dim)) / np.sqrt(dim)
    x0 = means[0] + roots[0] @ rng.normal(size=dim)
    y = A @ x0 + noise_std * rng.normal(size=measured)
    return Problem(weights / weights.sum(), means, covs, A, y, noise_std)


def given_both(given, x_t, alpha, sigma):
    """E[x_0 | x_t, y] and E[ε | x_t, y] of one x_t: regressions on (x_t, y) in each component."""
    dim = given.A.shape[1]
    rows = np.vstack([alpha * np.eye(dim), given.A])
    noise = np.diag([sigma**2] * dim + [given.noise_std**2] * len(given.y))
    seen = np.append(x_t, given.y)
    log_densities, estimates = [], []
    for weight, mean, cov in zip(given.weights, given.means, given.covs, strict=True):
        spread = rows @ cov @ rows.T + noise
        log_density = stats.multivariate_normal.logpdf(seen, rows @ mean, spread)
        log_densities.append(np.log(weight) + log_density)
        away = np.linalg.solve(spread, seen - rows @ mean)
        estimates.append((mean + cov @ rows.T @ away, sigma * away[:dim]))
    return np.average(estimates, axis=0, weights=special.softmax(log_densities))


def posterior(given):
    """Weights, means and covariances given y, in information form."""
    parts = []
    for weight, mean, cov in zip(given.weights, given.means, given.covs, strict=True):
        precision = np.linalg.inv(cov)
        seen = given.A.T / given.noise_std**2
        new_cov = np.linalg.inv(precision + seen @ given.A)
        spread = given.A @ cov @ given.A.T + given.noise_std**2 * np.eye(len(given.y))
        density = weight * stats.multivariate_normal.pdf(given.y, given.A @ mean, spread)
        parts.append((density, new_cov @ (precision @ mean + seen @ given.y), new_cov))
    densities, means, covs = map(np.array, zip(*parts, strict=True))
    return densities / densities.sum(), means, covs
