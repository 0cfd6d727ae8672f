"""Log-likelihoods by random probes: unbiased, with known variance, drawn once, finite."""

import chex
import jax
import numpy as np
import pytest
from exact_likelihoods import T_MIN, data_of, run
from process_table import PROCESSES
from quickly import first_is_quick
from solver_samples import assert_within

from jaxdiff.likelihood import log_likelihood

pytestmark = pytest.mark.usefixtures("nan_where_short")

NUM_PROBES = 4096


@pytest.mark.parametrize("probe", first_is_quick(["rademacher", "gaussian"]))
def test_probes_are_unbiased_with_the_theoretical_variance(probe):
    """On Gaussians every estimate is log p + vᵀMv − tr M, with M known.

    Along an eigenvector of the covariance y/√v is constant, so that the slope of the field
    integrates to ½ log of the growth of v/h²; M has these eigenvalues. The variance of a Rademacher
    probe is 2 Σ_{i≠j} M_ij², that of a Gaussian one 2‖M‖².
    """
    row, data = PROCESSES["vp"], data_of("gaussian", 2)
    x = data.draw(2)
    samples = np.float64(by_probe(row.process, x, probe=probe))
    exact, _ = data.log_prob(x, row)
    (a_0, sd_0, _, _), (a_1, sd_1, _, _) = row.scales(T_MIN), row.scales(1.0)
    growth = (a_1**2 * data.variances + sd_1**2) / (a_0**2 * data.variances + sd_0**2)
    growth *= (a_0**2 + sd_0**2) / (a_1**2 + sd_1**2)
    matrix = data.axes * (0.5 * np.log(growth)) @ data.axes.T
    kept = matrix - np.diag(np.diag(matrix)) if probe == "rademacher" else matrix
    variance = 2 * np.sum(kept**2)
    assert samples.shape == (NUM_PROBES, 2)
    assert_within(samples.mean(0), exact, np.sqrt(variance / NUM_PROBES), z=5, atol=1e-4)
    fourth = np.mean((samples - exact) ** 4, axis=0)
    spread = np.sqrt(np.maximum(fourth - variance**2, 1e-9) / NUM_PROBES)
    assert_within(samples.var(0), variance, spread, z=5, atol=1e-4)
    assert variance > 1e-2


@pytest.mark.slow
def test_probes_are_unbiased_on_images_of_a_mixture():
    row, data = PROCESSES["vp"], data_of("mixture", 64)
    x = data.draw(8).astype(np.float32)
    exact, _ = data.log_prob(x.astype(float), row)
    each = np.asarray(run("mixture", 64, row.process, x, num_probes=128).log_prob, np.float64)
    error = each.std(0, ddof=1) / np.sqrt(128)
    assert_within(each.mean(0), exact, error, z=5)


def by_probe(process, x, seed=0, **options):
    """Estimates of two rows, with as many probes as the tests of their distribution use."""
    options = {"num_probes": NUM_PROBES, "probe": "rademacher", **options}
    return np.asarray(run("gaussian", 2, process, x, seed=seed, **options).log_prob)


def test_probes_are_drawn_once_from_the_key():
    process, x = PROCESSES["vp"].process, data_of("gaussian", 2).draw(2)
    one, same, other = (by_probe(process, x, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert np.max(np.abs(one - other)) > 0.01
    assert len(np.unique(one[:, 0])) > 1


def test_the_log_likelihood_is_the_mean_over_probes_and_numbers_never_retrace():
    vp, x, traces = PROCESSES["vp"].process, data_of("gaussian", 2).draw(2), []

    @jax.jit
    def mean(process, key, x, rtol, t_min):
        traces.append(1)
        model = data_of("gaussian", 2).model(process)
        options = {"rtol": rtol, "atol": rtol, "t_min": t_min}
        return log_likelihood(key, model, process, x, num_probes=NUM_PROBES, **options)

    found = mean(vp, jax.random.key(0), np.float32(x), 1e-5, T_MIN).log_prob
    np.testing.assert_allclose(found, by_probe(vp, x).mean(axis=0), rtol=1e-4)
    moved = jax.tree.map(lambda v: 1.1 * v, vp)
    mean(moved, jax.random.key(1), np.zeros((2, 2), np.float32), 1e-2, 1e-4)
    assert len(traces) == 1


@pytest.mark.parametrize("process", ["vp", "ve", "ve_348"])
def test_nothing_is_nan_at_either_end_of_time(process):
    for x in ([[0.0, 0.0], [4.0, -4.0]], [[0.0, 0.0], [1e-4, 1.0]]):
        for t_min in (0.0, 1e-5):
            chex.assert_tree_all_finite(
                by_probe(PROCESSES[process].process, np.float32(x), t_min=t_min)
            )
