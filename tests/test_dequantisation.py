"""Probabilities of levels from a density: uniform dequantisation against its closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special
from solver_samples import assert_within

from jaxdiff.likelihood import dequantized_log_likelihood
from jaxdiff.typing import InputError


def _normal(key, x):
    """Log density of N(0.2, 0.5²) for each number."""
    return jnp.sum(-0.5 * ((x - 0.2) / 0.5) ** 2 - jnp.log(0.5 * jnp.sqrt(2 * jnp.pi)), axis=1)


def to_data(levels):
    return levels / 4 - 1  # eight levels over [−1, 1]


@functools.partial(jax.jit, static_argnums=2)
def on_levels(key, levels, num_samples):
    return dequantized_log_likelihood(
        key, _normal, levels, to_data=to_data, num_samples=num_samples
    )


def test_one_sample_is_jensen_s_bound():
    """E log p(f(l + u)) + log f' by numerical integration, for each of eight levels."""
    levels = np.repeat(np.arange(8), 1000)[:, None]
    got = on_levels(jax.random.key(0), levels, 1)
    by_level = np.asarray(got, np.float64).reshape(8, 1000)

    def log_density(u):
        return -0.5 * ((u / 4 - 1 - 0.2) / 0.5) ** 2 - np.log(0.5 * np.sqrt(2 * np.pi) * 4)

    expected = [integrate.quad(log_density, level, level + 1)[0] for level in range(8)]
    error = by_level.std(1, ddof=1) / np.sqrt(1000)
    assert_within(by_level.mean(1), expected, error, atol=1e-6)


def test_importance_samples_tighten_the_bound():
    """Increasing in k = 1, 4, 64 in the mean, and for large k the mass of a level: Φ(b) − Φ(a)."""
    levels = np.repeat(np.arange(8), 100)[:, None]
    means = [np.asarray(on_levels(jax.random.key(k), levels, k)).mean() for k in (1, 4, 64)]
    edges = special.ndtr((to_data(np.arange(9)) - 0.2) / 0.5)
    mass = np.log(np.diff(edges))
    assert means[0] < means[1] < means[2] < mass.mean() + 1e-3
    large = on_levels(jax.random.key(0), np.arange(8)[:, None], 4000)
    np.testing.assert_allclose(large, mass, atol=5 * 0.6 / np.sqrt(4000))


def test_every_sample_has_its_own_keys():
    seen = []

    def log_prob(key, x):
        jax.debug.callback(lambda *draws: seen.append(draws), jax.random.uniform(key, x.shape), x)
        return jnp.zeros(len(x))

    dequantized_log_likelihood(
        jax.random.key(0), log_prob, jnp.zeros((2, 3), int), to_data=lambda u: u, num_samples=5
    ).block_until_ready()
    jax.effects_barrier()
    draws = np.asarray(seen).reshape(10, 6)  # one for the density and one for the cube, five times
    assert len(np.unique(draws, axis=0)) == 10


def test_zero_samples_are_refused():
    with pytest.raises(InputError, match="num_samples must be a positive integer, got 0"):
        dequantized_log_likelihood(
            jax.random.key(0), _normal, jnp.zeros((1, 1)), to_data=to_data, num_samples=0
        )
