"""The ELBO of the exact model of Gaussian data, by the library and by hand.

For data N(m, C) the posterior covariance of x_0 given x_t is V(SNR) = (C⁻¹ + SNR I)⁻¹, so with the
exact model E‖x_0 − x̂_0‖² = tr V, and every part of the bound has a closed form.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from known_times import at_times
from process_table import exact_scales

from jaxdiff import losses, oracles
from jaxdiff.predictions import Denoised

MEAN = np.array([0.3, -0.5, 0.1])
COV = np.array([[0.9, 0.3, 0.1], [0.3, 0.7, -0.2], [0.1, -0.2, 0.5]])
N = 10_000

# Latents near the data and near the noise, close together and far apart; all far from the data.
WHOLE = np.array([1.0, 0.98, 0.8, 0.6, 0.45, 0.3, 0.2, 0.1, 0.04, 0.02])
GRIDS = {
    "whole": np.float32(WHOLE),
    "from_0.8": np.float32(0.8 * WHOLE),
    "far": np.linspace(0.9, 0.6, len(WHOLE), dtype=np.float32),
}


@functools.cache
def data(n=N):
    rng = np.random.default_rng(0)
    return np.float32(rng.multivariate_normal(MEAN, COV, n))


def shrunk(process, shrink=1.0):
    """The exact model, or a wrong one whose estimate is ``shrink`` times the exact one."""
    exact = oracles.gaussian(process, jnp.array(MEAN.tolist()), jnp.array(COV.tolist()))

    def model(x, t):
        x0, eps = exact(x, t)
        return Denoised(shrink * x0, eps)

    return model


def key_of(seed):
    """A key of the generator that is fastest for many numbers."""
    return jax.random.key(seed, impl="rbg")


def exact_bound(key, process, x0, times, fraction, shrink):
    model = shrunk(process, shrink)
    return losses.elbo_terms(key, model, process, x0, times=times, variance_fraction=fraction)


@jax.jit
def bound(key, process, x0, times, fraction, shrink):
    return exact_bound(key, at_times(process, times, 1.0), x0, times, fraction, shrink)


def trace_posterior(snr):
    spectrum = np.linalg.eigvalsh(COV)
    return np.sum(1 / (1 / spectrum + np.asarray(snr)[..., None]), axis=-1)


def error(snr, shrink=1.0):
    """E‖x_0 − c E[x_0|x_t]‖²: the irreducible error, plus what c ≠ 1 adds."""
    known = np.trace(COV) + MEAN @ MEAN - trace_posterior(snr)
    return trace_posterior(snr) + (1 - shrink) ** 2 * known


def divergence(widened, gap, fraction):
    """½[3(e^{−δ} − 1 + δ) + e^{−δ} gap], δ = v log ``widened``: a step wider than the posterior."""
    delta = fraction * np.log(widened)
    return 0.5 * (3 * (np.exp(-delta) - 1 + delta) + np.exp(-delta) * gap)


def by_hand(name, times, fraction=0.0, shrink=1.0):
    """Expected (prior, reconstruction, denoising) in float64, from the formulas of the process."""
    alpha, sigma = exact_scales(name, np.asarray(times, np.float64))
    snr = (alpha / sigma) ** 2
    last = exact_scales(name, np.array([1.0]))[1][0] ** 2
    ratio = sigma[0] ** 2 / last
    second = np.trace(COV) + MEAN @ MEAN
    prior = 0.5 * (3 * (ratio - 1 - np.log(ratio)) + alpha[0] ** 2 * second / last)
    decoder = 1 / snr[-1]
    decode = 1.5 * np.log(2 * np.pi * decoder) + error(snr[-1], shrink) / (2 * decoder)
    gap = (snr[1:] - snr[:-1]) * error(snr[:-1], shrink)
    denoising = np.sum(divergence((sigma[:-1] / sigma[1:]) ** 2, gap, fraction))
    return prior, decode, denoising


def negative_entropy():
    """E[−log p(x_0)], the exact mean of the bounded quantity."""
    return 0.5 * np.linalg.slogdet(2 * np.pi * np.e * COV)[1]


def assert_mean(values, expected, rtol=2e-4):
    values = np.asarray(values, np.float64)
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean() - expected) <= 5 * error + rtol * abs(expected)
