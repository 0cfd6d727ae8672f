"""Assertions that many tests share, and double precision for part of a test."""

import jax
import numpy as np


def float64():
    """Context in which JAX computes in float64."""
    return jax.enable_x64(True)


def assert_mean_close(samples, mean, *, z=5.0):
    """Every mean over axis 0 lies within z of its own standard errors of ``mean``."""
    samples = np.asarray(samples, np.float64)
    error = np.abs(samples.mean(0) - np.asarray(mean, np.float64))
    standard_error = samples.std(0, ddof=1) / np.sqrt(len(samples))
    assert np.all(standard_error > 0), "samples without variance test nothing"
    worst = np.max(error / standard_error)
    assert worst <= z, f"mean is {worst:.1f} standard errors away, must be at most {z}"


def assert_variance_close(samples, variance, *, mean, z=5.0):
    """The variance about the known ``mean`` lies within z standard errors of ``variance``."""
    assert_mean_close((np.asarray(samples, np.float64) - mean) ** 2, variance, z=z)
