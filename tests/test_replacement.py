"""Conditional generation by replacement: the published projections, and exact conditionals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from assertions import assert_mean_close
from corrector_tools import linear_model, numbers
from process_table import PROCESSES, exact_scales

import jaxdiff
from jaxdiff import guidance, oracles, processes, schedules, solvers
from jaxdiff.processes import VP
from jaxdiff.solvers import ancestral, langevin, predictor_corrector, projected, reverse_diffusion
from jaxdiff.typing import InputError

KEY = jax.random.key(0)
MASK = np.array([[True, False], [False, True], [True, True]])
# Song et al. 2021, appendix I.3: orthonormal, the first column is grey
BASIS = np.linalg.qr(np.array([[1.0, 1, 1], [-1, 1, 0], [-1, -1, 2]]).T)[0]
GREY = np.sum(BASIS[:, 0])  # ±√3


@functools.partial(jax.jit, static_argnums=0)
def replaced(kind, process, key, x, y, t):
    if kind == "inpainting":
        return guidance.inpainting(process, y, MASK)(key, x, t)
    return guidance.colourisation(process, y)(key, x, t)


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", PROCESSES)
def test_inpainting_replaces_known_values_by_noised_data(name, t):
    x, y, t = numbers(4, 3, 2), numbers(4, 3, 2, seed=1), np.float32(t)
    alpha, sigma = exact_scales(name, t)
    noised = alpha * y + sigma * np.asarray(jax.random.normal(KEY, x.shape))
    for data, expected in ((y, noised), (y[0], noised + alpha * (y[:1] - y))):
        got = replaced("inpainting", PROCESSES[name].process, KEY, x, data, t)
        np.testing.assert_allclose(got, np.where(MASK, expected, x), rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(got[:, ~MASK], x[:, ~MASK])


@pytest.mark.parametrize("name", ["vp", "ve"])
def test_colourisation_replaces_the_grey_axis_of_an_orthonormal_basis(name):
    """As published: decouple the channels by an orthonormal matrix, replace the first, couple."""
    x, grey, t = numbers(2, 4, 4, 3), numbers(2, 4, 4, 1, seed=1), np.float32(0.4)
    alpha, sigma = exact_scales(name, t)
    z = np.asarray(jax.random.normal(KEY, x.shape))
    decoupled = x @ BASIS
    data = alpha * np.repeat(grey, 3, axis=-1) @ BASIS
    decoupled[..., 0] = (data + sigma * z @ BASIS)[..., 0]
    got = replaced("colourisation", PROCESSES[name].process, KEY, x, grey, t)
    np.testing.assert_allclose(got, decoupled @ BASIS.T, rtol=1e-5, atol=1e-5 * (1 + sigma))
    at_data = replaced("colourisation", PROCESSES["vp"].process, KEY, x, grey, np.float32(0))
    np.testing.assert_allclose(at_data.mean(-1, keepdims=True), grey, atol=1e-6)


def test_projections_follow_predictor_and_corrector_by_hand():
    """Project after each of them, at the time at which it ends; also after the last correction."""
    process, x = VP(), numbers(3, 2)
    model = linear_model(process, 0.9)
    project = guidance.inpainting(process, np.float32([1.0, 0.0]), np.array([True, False]))
    solver = predictor_corrector(
        model,
        process,
        predictor=projected(reverse_diffusion, project),
        corrector=projected(langevin, project),
        order="corrector_first",
        correct_last=True,
    )
    predict, correct = reverse_diffusion(model, process), langevin(model, process)

    @jax.jit
    def both(key, last_key, x):
        t, s = jnp.float32(0.6), jnp.float32(0.5)
        predict_key, correct_key = jax.random.split(key)
        state = solver.step(key, solver.init(x, t), t, s)
        got = state.x, solver.finish(last_key, state, s).x

        def corrected(key, x, time):
            own_key, project_key = jax.random.split(key)
            x = correct.step(own_key, correct.init(x, time), time, time).x
            return project(project_key, x, time)

        x = corrected(correct_key, x, t)
        own_key, project_key = jax.random.split(predict_key)
        x = project(project_key, predict.step(own_key, predict.init(x, t), t, s).x, s)
        return got, (x, corrected(last_key, x, s))

    got, expected = both(jax.random.key(1), jax.random.key(2), x)
    for one, by_hand in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, by_hand, rtol=1e-6)
    assert solver.draws_noise


def test_a_finish_and_a_memory_are_kept():
    process = VP()
    project = guidance.inpainting(process, np.float32([1.0, 0.0]), np.array([True, False]))
    inner = functools.partial(
        predictor_corrector, order="corrector_first", correct_last=True, predictor=solvers.dpmpp_2m
    )
    solver = projected(inner, project)(linear_model(process, 0.9), process)
    x, times = jnp.ones((2, 2)), schedules.uniform_times(4)
    x = jax.jit(lambda key: jaxdiff.sample(key, solver, x, times))(KEY)
    np.testing.assert_array_equal(x[:, 0], [1.0, 1.0])
    assert np.isfinite(x).all()
    plain = projected(solvers.ddim, project)(linear_model(process, 0.9), process)
    assert plain.finish is None
    assert plain.draws_noise


CORRELATED = np.array([[1.0, 0.8], [0.8, 1.0]])


@functools.partial(jax.jit, static_argnums=0)
def given_first(num_corrections, key):
    """Samples of correlated data whose first value is known to be 1.5."""
    process = VP()
    exact = oracles.gaussian(process, jnp.zeros(2), jnp.array(CORRELATED.tolist()))
    project = guidance.inpainting(process, jnp.array([1.5, 0.0]), jnp.array([True, False]))
    correct = functools.partial(
        solvers.annealed_langevin, step_size=0.15, num_steps=1, denoise=False
    )
    solver = projected(ancestral, project)
    for _ in range(num_corrections):
        solver = functools.partial(
            predictor_corrector, predictor=solver, corrector=projected(correct, project)
        )
    x = processes.sample_prior(key, process, (4000, 2))
    return jaxdiff.sample(key, solver(exact, process), x, schedules.uniform_times(100, t_min=1e-3))


@pytest.mark.slow
def test_corrections_bring_the_samples_to_the_exact_conditional():
    """N(ρ y, 1 − ρ²): replacement alone is 0.45 off the mean of 1.2, eight corrections 0.1."""
    unknown = [np.asarray(given_first(n, KEY))[:, 1] for n in (0, 2, 8)]
    errors = np.array([abs(x.mean() - 0.8 * 1.5) for x in unknown])
    std_error = np.sqrt(0.36 / 4000)
    assert np.all(np.diff(errors) < -5 * std_error), errors
    assert errors[2] < errors[0] / 3, errors
    assert unknown[2].var() == pytest.approx(1 - 0.8**2, rel=0.1)


def test_what_is_independent_of_the_known_part_keeps_its_distribution():
    process = VP()
    exact = oracles.gaussian(process, jnp.zeros(2), jnp.diag(jnp.array([1.0, 0.25])))
    project = guidance.inpainting(process, jnp.array([1.5, 0.0]), jnp.array([True, False]))
    solver = projected(ancestral, project)(exact, process)

    @jax.jit
    def run(key):
        x = processes.sample_prior(key, process, (4000, 2))
        return jaxdiff.sample(key, solver, x, schedules.log_snr_times(process, 100, t_min=1e-4))

    x = np.asarray(run(KEY))
    assert_mean_close(x[:, 1], 0.0)
    assert x[:, 1].var() == pytest.approx(0.25, rel=5 * np.sqrt(2 / 4000) + 0.03)


PROJECT = guidance.inpainting(VP(), np.zeros(2), np.array([True, False]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: guidance.inpainting(VP(), np.zeros(2), np.ones(2)), "mask must be Boolean, true"),
        (
            lambda: guidance.colourisation(VP(), np.zeros((4, 4, 3))),
            "grey must have one channel, got shape (4, 4, 3)",
        ),
        (
            lambda: PROJECT(KEY, jnp.zeros((4, 3)), 0.5),
            "y must have the shape of an example, (3,), or of the batch, (4, 3), got (2,)",
        ),
        (
            lambda: guidance.inpainting(VP(), np.zeros(3), np.array([True, False]))(
                KEY, jnp.zeros((4, 3)), 0.5
            ),
            "mask must have the shape of an example, (3,), or of the batch, (4, 3), got (2,)",
        ),
    ],
)
def test_invalid_projections_are_refused_in_one_line(make, message):
    with pytest.raises(InputError) as error:
        make()
    assert message in str(error.value)
    assert "\n" not in str(error.value)
