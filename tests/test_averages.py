"""Averages of the parameters: profiles against integrals, and post-hoc reconstruction."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.train import averages
from jaxdiff.typing import InputError


@pytest.mark.parametrize("std", [0.01, 0.05, 0.1, 0.2, 0.28])
def test_the_exponent_gives_the_profile_its_standard_deviation(std):
    gamma = averages.exponent(std)
    tau = (np.arange(400_000) + 0.5) / 400_000
    p = (gamma + 1) * tau**gamma
    mean = np.mean(p * tau)
    assert np.sqrt(np.mean(p * (tau - mean) ** 2)) == pytest.approx(std, rel=1e-4)


def tracked(rule, values):
    average = {"w": jnp.asarray(0.0)}
    for k, value in enumerate(values):
        average = averages.update(average, {"w": jnp.asarray(value)}, rule(jnp.asarray(k)))
    return float(average["w"])


def test_a_power_average_is_the_sum_with_the_weights_of_its_profile():
    """Unrolled, parameter t of n has the weight (t^(γ+1) − (t − 1)^(γ+1))/n^(γ+1)."""
    values = np.sin(np.arange(1, 61) / 7)
    gamma = averages.exponent(0.1)
    t = np.arange(61.0) ** (gamma + 1)
    expected = np.sum(np.diff(t) * values) / t[-1]
    assert tracked(averages.power(0.1), values) == pytest.approx(expected, rel=1e-4)


def test_an_average_of_any_length_can_be_reconstructed():
    """Stored at 8 of 4,000 steps with two profiles; the target is tracked alongside."""
    n, stored = 4000, np.arange(500, 4001, 500)
    values = 1 / (1 + np.arange(1, n + 1) / 300) + 0.1 * np.sin(np.arange(n) / 400)

    def exact(std, end):
        t = np.arange(end + 1.0) ** (averages.exponent(std) + 1)
        return np.sum(np.diff(t) * values[:end]) / t[-1]

    steps, stds = np.tile(stored, 2), np.repeat([0.05, 0.1], len(stored))
    held = np.array([exact(std, end) for end, std in zip(steps, stds, strict=True)])
    for std in (0.06, 0.08, 0.12, 0.15):
        weights = averages.combination(steps, stds, step=n, std=std)
        assert np.sum(weights) == pytest.approx(1, abs=1e-9)
        nearest = min(abs(exact(s, n) - exact(std, n)) for s in (0.05, 0.1))
        assert abs(weights @ held - exact(std, n)) < 0.02 * nearest


def test_a_stored_average_is_reconstructed_exactly():
    weights = averages.combination([10, 10, 20, 20], [0.05, 0.1, 0.05, 0.1], step=20, std=0.05)
    np.testing.assert_allclose(weights, [0, 0, 1, 0], atol=1e-6)


@pytest.mark.parametrize("std", [0.0, -0.1, 0.2887, 1.0])
def test_an_impossible_profile_is_refused(std):
    with pytest.raises(InputError, match=r"must be in \(0, 0\.2886\) of the run"):
        averages.exponent(std)


def test_reconstruction_from_nothing_is_refused():
    with pytest.raises(InputError, match="must be at least one, got none"):
        averages.combination([], [], step=10, std=0.1)
