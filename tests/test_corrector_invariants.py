"""The guarantees of every solver, for correctors and for predictors with correctors."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from corrector_tools import CORRECTORS, KEY, eps_model, linear_model, numbers
from one_program import one_of
from process_table import PROCESSES

import jaxdiff
from jaxdiff import oracles, schedules
from jaxdiff.processes import VE, VP
from jaxdiff.solvers.langevin import annealed_langevin, langevin
from jaxdiff.solvers.predictor_corrector import predictor_corrector
from jaxdiff.solvers.reverse_diffusion import reverse_diffusion
from jaxdiff.typing import InputError


def named(name):
    if name == "reverse_diffusion":
        return reverse_diffusion
    if name in CORRECTORS:
        return CORRECTORS[name]
    return functools.partial(predictor_corrector, order=name)


KINDS = ["vp", "subvp", "ve_348", "ddpm_linear_1000", "ncsn_232"]


ALL = ["reverse_diffusion", *CORRECTORS, "predictor_first", "corrector_first"]


@jax.jit
def step_of_all(process, key, states, t, s):
    """One program, so that code shared by the solvers is compiled once."""
    exact = oracles.gaussian(process, jnp.array([0.7, -0.5]), jnp.diag(jnp.array([0.5, 0.0])))
    return {
        name: named(name)(exact, process).step(key, state, t, s) for name, state in states.items()
    }


def endpoints(process, x, times, key=KEY):
    """The samples of every solver, by the driver's loop in Python: one program for any length."""
    states = {name: named(name)(None, process).init(x, times[0]) for name in ALL}
    for index, (t, s) in enumerate(itertools.pairwise(np.float32(times))):
        states = step_of_all(process, jax.random.fold_in(key, index), states, t, s)
    return {name: np.asarray(state.x) for name, state in states.items()}


@pytest.mark.parametrize("process", KINDS)
def test_samples_are_finite_from_noise_to_data_in_any_number_of_steps(process):
    """With extremes of the prior, and data that are constant along one axis."""
    sigma, process = PROCESSES[process].scales(1.0).sigma, one_of(process, KINDS)
    x = sigma.astype(np.float32) * np.float32([[0.0, 0.0], [4.0, -4.0], [-1e-3, 1.0]])
    for n in (1, 2, 3, 10):
        ends = endpoints(process, x, np.linspace(1, 0, n + 1))
        assert {(end.shape, end.dtype) for end in ends.values()} == {(x.shape, x.dtype)}
        chex.assert_tree_all_finite(ends)
    chex.assert_tree_all_finite(endpoints(process, x, [1.0, 0.999999, 1e-5, 0.0]))


@pytest.mark.parametrize("norms", ["example", "batch"])
@pytest.mark.parametrize("process", ["vp", "ncsn_232"])
def test_langevin_moves_nothing_where_there_is_no_noise(process, norms):
    """At σ = 0, for any estimate of ε, and with a finite slope."""
    process, x = PROCESSES[process].process, numbers(3, 4)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def move(x, gain):
        model = linear_model(process, gain)
        solver = langevin(model, process, num_steps=3, norms=norms)
        moved = solver.step(KEY, solver.init(x, 0.0), 0.0, 0.0).x
        return jnp.sum(moved), moved

    for gain in (0.0, 1e-15, 1.0, 1e15):
        (_, moved), slope = move(x, gain)
        np.testing.assert_allclose(moved, x, atol=1e-6)
        chex.assert_tree_all_finite(slope)


@pytest.mark.parametrize("norms", ["example", "batch"])
@pytest.mark.parametrize("process", ["vp", "ve_348"])
def test_langevin_is_finite_where_the_score_vanishes(process, norms):
    process = PROCESSES[process].process
    solver = langevin(linear_model(process, 0.0), process, num_steps=2, norms=norms)

    @jax.jit
    @jax.value_and_grad
    def move(x, t):
        return jnp.sum(solver.step(KEY, solver.init(x, t), t, t).x)

    for t in (1e-5, 0.5, 1.0):
        chex.assert_tree_all_finite(move(np.zeros((2, 3), np.float32), t))


def test_samples_depend_on_batch_mates_only_with_batch_norms():
    """The same noise for the first example, with a different batch mate."""
    x, times = numbers(3, 2), [0.9, 0.6, 0.3]
    other = x * np.float32([[1], [3], [1]])
    ends, others = (endpoints(one_of("vp", KINDS), start, times) for start in (x, other))
    for name in ALL:
        if name == "langevin_batch":
            assert np.max(np.abs(ends[name][0] - others[name][0])) > 1e-3
        else:
            np.testing.assert_allclose(
                ends[name][0], others[name][0], rtol=1e-6, atol=1e-6, err_msg=name
            )


@pytest.mark.slow
def test_a_key_determines_the_sample_with_and_without_jit():
    x, times = numbers(3, 2), [0.9, 0.6]
    compiled, another = (
        endpoints(one_of("vp", KINDS), x, times, key) for key in (KEY, jax.random.key(4))
    )
    with jax.disable_jit():
        eager = endpoints(VP(), x, times)
    for name in ALL:
        np.testing.assert_allclose(compiled[name], eager[name], rtol=1e-4, atol=1e-4, err_msg=name)
        assert np.max(np.abs(compiled[name] - another[name])) > 0.01, name


@pytest.mark.parametrize(
    ("make", "options", "others"),
    [
        (reverse_diffusion, {}, {}),
        (langevin, {"snr": 0.1}, {"snr": 0.3}),
        (annealed_langevin, {"step_size": 0.1}, {"step_size": 0.2}),
        (predictor_corrector, {}, {}),
    ],
)
def test_changing_numbers_does_not_retrace(make, options, others):
    traces = []

    @jax.jit
    def run(key, process, x, times, options):
        traces.append(1)
        model = oracles.gaussian(process, jnp.zeros(2), jnp.eye(2))
        return jaxdiff.sample(key, make(model, process, **options), x, times)

    x, times = jnp.ones((3, 2)), schedules.uniform_times(3)
    run.trace(KEY, VP(), x, times, options)
    run.trace(jax.random.key(9), VP(0.2, 10.0), 2 * x, 0.9 * times, others)
    assert len(traces) == 1
    run.trace(KEY, VE(), x, times, options)
    assert len(traces) == 2  # so that traces are counted


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (langevin, {"snr": 0.0}, "snr"),
        (langevin, {"snr": "a"}, "snr must be positive and finite, got 'a'"),
        (langevin, {"num_steps": 0}, "num_steps"),
        (langevin, {"norms": "mean"}, "example, batch"),
        (annealed_langevin, {"step_size": -0.1}, "step_size"),
        (annealed_langevin, {"step_size": 2.0}, "step_size"),
        (annealed_langevin, {"num_steps": 0}, "num_steps"),
        (predictor_corrector, {"order": "both"}, "predictor_first, corrector_first"),
    ],
)
def test_invalid_options_are_refused(make, options, message):
    with pytest.raises(InputError, match=message):
        make(eps_model(VP(), 0.0), VP(), **options)
