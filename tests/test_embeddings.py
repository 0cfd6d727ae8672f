"""Embeddings of noise level and class: sinusoids by hand, fixed frequencies by distribution."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from net_tools import any_params, dense, rounding, shapes_of, silu

from jaxdiff.nets.embeddings import Conditioning, GaussianFourier, sinusoidal

LEVEL = np.array([0.0, 1e-3, 0.25, 1.0], np.float32)


@pytest.mark.parametrize("scale", [1.0, 999.0])
@pytest.mark.parametrize("features", [2, 4, 64])
@pytest.mark.parametrize("endpoint", [True, False])
def test_sinusoidal_embedding_matches_the_published_one(features, scale, endpoint):
    """Ho et al. 2020 (their code): sin then cos of t·10000^{−k/(K−1)}, K = features/2.

    Dhariwal & Nichol 2021 (theirs): K in place of K − 1.
    """
    got = np.asarray(sinusoidal(jnp.asarray(LEVEL), features, scale=scale, endpoint=endpoint))
    half = features // 2
    span = max(half - 1, 1) if endpoint else half
    assert got.shape == (len(LEVEL), features)
    for i, t in enumerate(LEVEL.tolist()):
        for k in range(half):
            angle = scale * t * 10_000.0 ** (-k / span)
            atol = 1e-6 + scale * t * 2e-7  # float32's rounding of the angle
            assert got[i, k] == pytest.approx(math.sin(angle), abs=atol)
            assert got[i, half + k] == pytest.approx(math.cos(angle), abs=atol)


def test_fourier_features_are_sines_then_cosines_of_their_own_frequencies():
    """Tancik et al. 2020, eq. 5, with the frequencies given."""
    frequencies, level = np.array([0.25, -3.0, 7.5], np.float32), np.array([-2.0, 0.1], np.float32)
    got = GaussianFourier(3, 16.0).apply({"constants": {"frequencies": frequencies}}, level)
    assert got.shape == (2, 6)
    for i, t in enumerate(level.tolist()):
        for k, frequency in enumerate(frequencies.tolist()):
            angle = 2 * math.pi * frequency * t
            atol = 1e-6 + rounding(3, abs(angle))
            assert float(got[i, k]) == pytest.approx(math.sin(angle), abs=atol)
            assert float(got[i, 3 + k]) == pytest.approx(math.cos(angle), abs=atol)


@pytest.mark.parametrize("scale", [1.0, 16.0])
def test_fourier_frequencies_are_normal_with_their_scale_and_differ_from_seed_to_seed(scale):
    module = GaussianFourier(4096, scale)
    one, other = (
        module.init(jax.random.key(seed), jnp.zeros(1))["constants"]["frequencies"]
        for seed in range(2)
    )
    # 4096 draws detect a standard deviation that is off by 5% at this level
    assert scipy.stats.kstest(np.asarray(one) / scale, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(one, other)[0, 1]) < 4 / math.sqrt(4096)


def test_fourier_frequencies_are_not_parameters_and_get_no_gradient():
    module = Conditioning(16, 16.0, embedding="fourier")
    level = jnp.array([0.3, -1.0])
    variables = any_params(shapes_of(module, level))
    assert jax.tree.map(np.shape, variables["constants"]) == {"fourier": {"frequencies": (4,)}}
    assert set(variables["params"]) == {"dense_0", "dense_1"}
    gradient = jax.jit(jax.grad(lambda v: jnp.sum(module.apply(v, level) ** 2)))(variables)
    np.testing.assert_array_equal(gradient["constants"]["fourier"]["frequencies"], np.zeros(4))
    assert all(np.all(leaf != 0) for leaf in jax.tree.leaves(gradient["params"]))


@pytest.mark.parametrize("embedding", ["sinusoidal", "fourier"])
@pytest.mark.parametrize("waves", [None, 6])
def test_conditioning_is_a_two_layer_perceptron_of_sinusoids_plus_the_label(embedding, waves):
    module = Conditioning(16, 50.0, num_classes=3, embedding=embedding, waves=waves)
    level, label = jnp.array([0.1, 0.7]), jnp.array([2, 0])
    variables = any_params(shapes_of(module, level, label))
    p, number = variables["params"], waves or 16 // 4
    if embedding == "fourier":
        angles = 2 * np.pi * np.outer(level, variables["constants"]["fourier"]["frequencies"])
        assert angles.shape == (2, number)
    else:
        half = number // 2
        angles = np.outer(50.0 * np.asarray(level), 10_000.0 ** (-np.arange(half) / (half - 1)))
    features = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    total = dense(silu(dense(features, p["dense_0"])), p["dense_1"])
    total += p["label"]["embedding"][np.asarray(label)]
    # rounding of an angle near 50, of its sinusoid and of two layers of ≤ 16 terms of size ≤ 4
    atol = 4 * (rounding(3, 50) + rounding(2 * 16, 1))
    got = jax.jit(module.apply)(variables, level, label)
    np.testing.assert_allclose(got, silu(total), atol=atol)
