"""What every solver that samples given a measurement guarantees: one row adds one to all tests."""

import functools
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from guidance_table import GIVEN, constant, exact
from one_program import one_of
from process_table import PROCESSES, exact_scales

import jaxdiff
from jaxdiff import guidance, schedules, solvers
from jaxdiff.guidance import inverse
from jaxdiff.processes import VP
from jaxdiff.typing import InputError

KEY = jax.random.key(0)


KNOWN = np.array([True, False, True])


class ConditionalRow(NamedTuple):
    make: Callable[..., solvers.Solver]  # of a model, a process and the first measured number
    interacting: bool = False  # its samples are a population


def with_spectrum(method):
    def make(model, process, first):
        spectrum = inverse.spectrum(inverse.matrix(constant(GIVEN.A)), (3,))
        y = constant(GIVEN.y).at[0].set(first)
        return method(model, process, spectrum=spectrum, y=y, noise_std=0.3)

    return make


def with_projection(wrap):
    def make(model, process, first):
        y = jnp.zeros(3).at[0].set(first)
        return wrap(solvers.ancestral, guidance.inpainting(process, y, KNOWN))(model, process)

    return make


def twisted(model, process, first):
    y = constant(GIVEN.y).at[0].set(first)
    operator = inverse.matrix(constant(GIVEN.A))
    twist = inverse.gaussian_twist(process, operator=operator, y=y, noise_std=0.3)
    return solvers.twisted(model, process, log_twist_fn=twist)


ROWS = {
    "ddrm": ConditionalRow(with_spectrum(solvers.ddrm)),
    "ddnm_plus": ConditionalRow(with_spectrum(solvers.ddnm_plus)),
    "projected": ConditionalRow(with_projection(solvers.projected)),
    "repaint": ConditionalRow(with_projection(functools.partial(solvers.repaint, num_resamples=2))),
    "twisted": ConditionalRow(twisted, interacting=True),
}
TRACES = Counter()


@functools.partial(jax.jit, static_argnums=0)
def sampled(row, process, keys, x, times, first):
    """One population per key, so that nothing is shared by those of different keys."""
    TRACES[row, len(times)] += 1

    def run(key, x):
        solver = ROWS[row].make(exact(process).denoise_fn, process, first)
        return jaxdiff.sample(key, solver, x, times)

    return jax.vmap(run)(keys, x)


def start(seed=0):
    return np.random.default_rng(seed).normal(size=(3, 2, 3)).astype(np.float32)


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("row", ROWS)
def test_samples_are_finite_and_every_number_is_an_argument(row, name):
    """On every process in one program, which the choice of process and numbers does not change."""
    x = start() * exact_scales(name, 1.0)[1].astype(np.float32)
    times, keys = schedules.uniform_times(4), jax.random.split(KEY, 3)
    one, other = (
        np.asarray(sampled(row, one_of(name), keys, x, times, np.float32(y))) for y in (0.5, -0.5)
    )
    assert one.shape == x.shape
    assert np.isfinite(one).all()
    assert np.max(np.abs(one - other)) > 1e-3
    assert TRACES[row, 5] == 1


@pytest.mark.parametrize("row", ROWS)
def test_a_sample_depends_on_its_own_start_and_key_alone(row):
    """Of several populations at once, each with its own key; and of the examples within one,
    unless they interact."""
    keys, times, first = jax.random.split(KEY, 3), schedules.uniform_times(4), np.float32(0.5)
    x = start()
    together = sampled(row, one_of("vp"), keys, x, times, first)
    others = np.concatenate([x[:1], start(1)[1:]])
    np.testing.assert_array_equal(
        together[0], sampled(row, one_of("vp"), keys, others, times, first)[0]
    )
    redrawn = sampled(row, one_of("vp"), keys[::-1], x, times, first)
    assert np.max(np.abs(redrawn[0] - together[0])) > 1e-3
    if not ROWS[row].interacting:
        mates = x.copy()
        mates[0, 1] *= 10.0
        changed = sampled(row, one_of("vp"), keys, mates, times, first)
        np.testing.assert_array_equal(changed[0, 0], together[0, 0])


MODEL = exact(VP()).denoise_fn
SPECTRUM = inverse.spectrum(inverse.matrix(np.ones((2, 3), np.float32)), (3,))
GOOD = {"spectrum": SPECTRUM, "y": np.zeros(2, np.float32), "noise_std": 0.1}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: solvers.ddrm(MODEL, VP(), **{**GOOD, "noise_std": -1.0}),
            "noise_std must be non-negative and finite, got -1.0",
        ),
        (lambda: solvers.ddrm(MODEL, VP(), eta=1.5, **GOOD), "eta must be in [0, 1], got 1.5"),
        (
            lambda: solvers.ddrm(MODEL, VP(), eta_measured=-0.5, **GOOD),
            "eta_measured must be in [0, 1], got -0.5",
        ),
        (
            lambda: solvers.ddnm_plus(MODEL, VP(), **{**GOOD, "y": np.array([0.0, np.inf])}),
            "y must be finite, got [ 0. inf]",
        ),
        (
            lambda: solvers.ddnm_plus(MODEL, VP(), **{**GOOD, "y": np.zeros(3)}).step(
                KEY, solvers.State(jnp.zeros((4, 3))), jnp.float32(0.5), jnp.float32(0.4)
            ),
            "y must have 2 numbers, as the operator's output, for each example or for the batch, "
            "got shape (3,) for 4 examples",
        ),
        (
            lambda: solvers.repaint(solvers.ancestral, lambda key, x, t: x, num_resamples=0),
            "num_resamples must be a positive integer, got 0",
        ),
        (
            lambda: solvers.twisted(MODEL, VP(), log_twist_fn=None, threshold=2.0),
            "threshold must be in [0, 1], got 2.0",
        ),
        (
            lambda: solvers.twisted(MODEL, VP(), log_twist_fn=lambda x, t, e: x).init(
                jnp.zeros((4, 3)), jnp.float32(1.0)
            ),
            "log_twist_fn must return one number per particle, (4,), got shape (4, 3)",
        ),
        (
            lambda: inverse.gaussian_twist(VP(), operator=None, y=np.zeros(2), noise_std=0.0),
            "noise_std must be positive and finite, got 0.0",
        ),
        (
            lambda: inverse.gaussian_twist(
                VP(), operator=None, y=np.zeros(2), noise_std=1.0, data_std=-1.0
            ),
            "data_std must be positive and finite, got -1.0",
        ),
    ],
)
def test_invalid_options_are_refused_in_one_line(make, message):
    with pytest.raises(InputError) as error:
        make()
    assert message in str(error.value)
    assert "\n" not in str(error.value)
