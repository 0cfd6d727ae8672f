"""What every wrapper of a model guarantees, on the table of ``guidance_table.py``."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import published_multistep  # noqa: F401 (it registers all solvers in the table)
import pytest
from guidance_table import GUIDANCE, exact
from one_program import one_of
from process_table import PROCESSES, exact_scales
from solver_table import SOLVERS

import jaxdiff
from jaxdiff import processes, schedules
from jaxdiff.predictions import DenoisedWithVariance
from jaxdiff.processes import VP

every_row = pytest.mark.parametrize("row", GUIDANCE)
BATCH = 5
TIMES = np.float32([0.0, 1e-3, 0.3, 0.7, 1.0])


@functools.partial(jax.jit, static_argnums=0)
def views(row, process, x, t, number):
    """The guided estimate, and its derivative along a direction in x."""
    return jax.jvp(lambda x: guided(row, process, x, t, number), (x,), (jnp.ones_like(x),))


def guided(row, process, x, t, number):
    return GUIDANCE[row].make(exact(process).denoise_fn, process, number)(x, t)


def noised(name, seed=0, times=TIMES):
    """Data of about unit size with the noise of each time."""
    alpha, sigma = (scale[:, None] for scale in exact_scales(name, times))
    x0, noise = np.random.default_rng(seed).normal(size=(2, len(times), 3))
    return (alpha * x0 + sigma * noise).astype(np.float32)


@pytest.mark.parametrize("name", PROCESSES)
@every_row
def test_views_add_up_to_the_noisy_data_and_are_finite_at_both_ends_of_time(row, name):
    """α x̂_0 + σ ε̂ = x_t with the papers' α and σ, where there is any noise; slopes are finite."""
    x, number = noised(name), np.float32(GUIDANCE[row].number)
    estimate, slope = views(row, one_of(name), x, TIMES, number)
    chex.assert_tree_all_finite((estimate, slope))
    alpha, sigma = (scale[:, None] for scale in exact_scales(name, TIMES))
    total = alpha * np.asarray(estimate.x0, np.float64) + sigma * np.asarray(estimate.eps)
    noisy = exact_scales(name, TIMES)[1] > 0
    scale = np.max(np.hypot(alpha * estimate.x0, sigma * estimate.eps), axis=1, keepdims=True)
    np.testing.assert_allclose((total - x)[noisy] / (1 + scale[noisy]), 0 * x[noisy], atol=2e-4)


@every_row
def test_an_estimate_does_not_depend_on_batch_mates(row):
    """Bit for bit, as no number of an example enters the estimate of another."""
    mine, others, number = noised("vp"), noised("vp", seed=1), np.float32(GUIDANCE[row].number)
    place = np.arange(BATCH)[:, None] == 2
    one, other = (
        views(row, one_of("vp"), x, TIMES, number)[0]
        for x in (mine, np.where(place, mine, 10 * others))
    )
    for view, among_others in zip(one, other, strict=True):
        np.testing.assert_array_equal(view[2], among_others[2])
        assert np.max(np.abs(view[3] - among_others[3])) > 1e-3


@every_row
def test_numbers_are_arguments_and_can_be_mapped_over(row):
    """One trace serves two processes, two sets of times and two numbers, and a vmap over them."""
    x, later = noised("vp"), np.float32(0.9) * TIMES[::-1]
    _, number, other = GUIDANCE[row]
    cases = [
        (one_of("vp"), TIMES, np.float32(number)),
        (one_of("subvp"), later, np.float32(other)),
    ]
    first = views(row, cases[0][0], x, *cases[0][1:])[0]
    traced = views._cache_size()
    each = [first, views(row, cases[1][0], x, *cases[1][1:])[0]]
    assert views._cache_size() == traced
    stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *cases)
    mapped = jax.jit(jax.vmap(lambda *case: guided(row, case[0], x, *case[1:])))(*stacked)
    for k, one in enumerate(each):
        for view, of_all in zip(one, mapped, strict=True):
            scale = 1e-4 * np.max(np.abs(view), axis=1, keepdims=True)
            np.testing.assert_allclose((view - of_all[k]) / (1e-3 + scale), 0 * view, atol=1.0)
    assert np.max(np.abs(each[0].x0 - each[1].x0)) > 1e-3


@every_row
def test_other_fields_of_the_estimate_and_its_precision_are_kept(row):
    """Of a model of the whole mixture; a wrapper that uses its own models keeps theirs."""
    process = VP()

    def model(x, t):
        estimate = exact(process).denoise_fn(x, t)
        return DenoisedWithVariance(*estimate, variance_fraction=7 * x)

    def estimate_of(x, t):
        return GUIDANCE[row].make(model, process, GUIDANCE[row].number)(x, t)

    for dtype in (jnp.float32, jnp.bfloat16):
        x = jnp.ones((BATCH, 3), dtype)
        estimate = jax.eval_shape(estimate_of, x, 0.5)
        assert {view.shape for view in estimate} == {x.shape}
        assert {view.dtype for view in estimate[:2]} == {jnp.dtype("float32")}  # as the model's
    if row not in ("classifier_free", "classifier_free_batched", "interval", "rescaled"):
        assert type(estimate) is DenoisedWithVariance


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_samples_from_a_guided_model(solver):
    """Each with one of the wrappers, in turn; all wrappers are used."""
    row = list(GUIDANCE)[list(SOLVERS).index(solver) % len(GUIDANCE)]

    @jax.jit
    def run(key, number):
        process = VP()
        model = GUIDANCE[row].make(exact(process).denoise_fn, process, number)
        x = processes.sample_prior(key, process, (BATCH, 3))
        return jaxdiff.sample(
            key, SOLVERS[solver].make(model, process), x, schedules.uniform_times(4)
        )

    x = run(jax.random.key(0), GUIDANCE[row].number)
    assert x.shape == (BATCH, 3)
    assert np.isfinite(x).all()
    assert np.max(np.abs(x)) < 20


def test_solvers_are_at_least_as_many_as_wrappers():
    """So that the test above samples with each of them."""
    assert len(SOLVERS) >= len(GUIDANCE)
