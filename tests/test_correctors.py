"""Predictor and corrector, and what every corrector promises."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from assertions import assert_finite, assert_variance_close
from corrector_tools import CORRECTORS, KEY, eps_model, linear_model, numbers
from one_program import one_of
from process_table import PROCESSES

import jaxdiff
from jaxdiff import oracles, schedules, solvers
from jaxdiff.predictions import Denoised
from jaxdiff.processes import VE, VP, DiscreteVE
from jaxdiff.solvers.langevin import annealed_langevin, langevin
from jaxdiff.solvers.predictor_corrector import predictor_corrector
from jaxdiff.solvers.reverse_diffusion import reverse_diffusion
from jaxdiff.typing import InputError

# Predictor and corrector


def counted(denoise_fn, seen):
    def denoise(x, t):
        jax.debug.callback(lambda t: seen.append(float(t)), t)
        return denoise_fn(x, t)

    return denoise


@functools.cache
def alone(make):
    """A predictor or a corrector by itself, and its compiled step."""
    solver = make(linear_model(VP(), 0.9), VP())
    return solver, jax.jit(solver.step)


@pytest.mark.parametrize(
    ("predictor", "corrector"),
    [
        (reverse_diffusion, CORRECTORS["langevin"]),
        (reverse_diffusion, CORRECTORS["annealed"]),
        (solvers.dpmpp_2m, CORRECTORS["langevin"]),
    ],
    ids=["langevin", "annealed", "with a memory"],
)
@pytest.mark.parametrize("order", ["predictor_first", "corrector_first"])
def test_predictor_corrector_is_the_composition_by_hand(order, predictor, corrector):
    """Also of a predictor that remembers: its state goes on, with the corrected sample in it."""
    process, x = VP(), numbers(4, 2)
    times = np.array([0.9, 0.7, 0.4, 0.2], np.float32)
    made = predictor_corrector(
        linear_model(process, 0.9), process, predictor=predictor, corrector=corrector, order=order
    )
    step, (walker, walk), (fixer, correct) = jax.jit(made.step), alone(predictor), alone(corrector)

    state, by_hand = made.init(x, times[0]), walker.init(x, times[0])
    for key, (t, s) in zip(jax.random.split(KEY, 3), itertools.pairwise(times), strict=True):
        state = step(key, state, t, s)
        first, second = jax.random.split(key)
        if order == "predictor_first":
            by_hand = walk(first, by_hand, t, s)
            by_hand = by_hand._replace(x=correct(second, fixer.init(by_hand.x, s), s, s).x)
        else:
            by_hand = by_hand._replace(x=correct(second, fixer.init(by_hand.x, t), t, t).x)
            by_hand = walk(first, by_hand, t, s)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), state, by_hand
        )
    assert type(state) is type(by_hand)


@functools.cache
def of_one_point(predictor, order):
    """The end of a walk towards data that are all one point."""
    process, times = VP(), np.float32([0.9, 0.75, 0.6, 0.4, 0.3, 0.2])

    def model(x, t):
        x0 = jnp.full_like(x, 0.7)
        return Denoised(x0, (x - process.alpha(t) * x0) / process.sigma(t))

    made = predictor_corrector(
        model,
        process,
        predictor=getattr(solvers, predictor),
        corrector=CORRECTORS["langevin"],
        order=order,
    )
    return jax.jit(lambda x: jaxdiff.sample(KEY, made, x, times))(numbers(5, 12))


@pytest.mark.parametrize("order", ["predictor_first", "corrector_first"])
@pytest.mark.parametrize("predictor", ["heun", "rk4", "dpmpp_3s", "dpmpp_3m", "unipc"])
def test_no_predictor_forgets_what_was_corrected(predictor, order):
    """If all data are one point these are exact, and only Langevin's moves tell.

    A predictor with a corrector of its own, UniPC, must keep them too. (DEIS interpolates the
    noise, of which it remembers what was there before a move.)
    """
    ends = of_one_point(predictor, order), of_one_point("ddim", order)
    np.testing.assert_allclose(*ends, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", ["predictor_first", "corrector_first", "as published"])
def test_predictor_and_corrector_see_the_times_that_the_paper_and_the_code_give_them(order):
    """Two corrections a step; what is evaluated where tells the two orders apart.

    The published code runs over all n + 1 times, correcting at each and predicting from each, the
    last time to the data: with its last prediction left to a final denoising, n + 1 corrections.
    """
    process, seen, n = VP(), [], 4
    times = np.linspace(1, 0, n + 1, dtype=np.float32)
    model = counted(lambda x, t: Denoised(0.5 * x, 0.5 * x), seen)
    corrector = functools.partial(langevin, num_steps=2)
    how = {"order": "corrector_first", "correct_last": True} if " " in order else {"order": order}
    solver = predictor_corrector(model, process, corrector=corrector, **how)
    x, path = jax.jit(lambda x: jaxdiff.trajectory(KEY, solver, x, times))(numbers(3, 2))
    np.testing.assert_array_equal(path[-1], x)
    assert path.shape == (n + 1, 3, 2)
    jax.effects_barrier()
    t, s = times[:-1], times[1:]
    corrected = {"predictor_first": s, "corrector_first": t, "as published": times}[order]
    assert sorted(seen) == sorted([*t, *corrected, *corrected])


def test_the_last_time_is_corrected_by_langevin_steps_of_their_own_noise():
    """ε̂ = 0: what the last correction adds is noise, beside a walk without it."""
    process = VE(0.01, 1.0)
    still = functools.partial(annealed_langevin, step_size=0.5, num_steps=1, denoise=False)
    ends = []
    for last in (False, True):
        solver = predictor_corrector(
            lambda x, t: Denoised(x, 0 * x),
            process,
            corrector=still,
            order="corrector_first",
            correct_last=last,
        )
        x = jaxdiff.sample(KEY, solver, jnp.zeros((20_000, 1)), jnp.array([1.0, 0.9, 0.8]))
        ends.append(np.asarray(x))
    added = ends[1] - ends[0]  # √(2 · 0.5) σ(0.8) z
    assert_variance_close(added, np.exp(2 * np.log(0.01) + 1.6 * np.log(100.0)), mean=0.0)
    assert abs(np.corrcoef(added[:, 0], ends[0][:, 0])[0, 1]) < 5 / np.sqrt(20_000)


@pytest.mark.parametrize(("denoise", "more"), [(True, 1), (False, 0)])
def test_annealed_langevin_visits_every_rung_and_denoises_once(denoise, more):
    seen, sigmas = [], np.geomspace(0.1, 10.0, 6)
    process = DiscreteVE.from_sigmas(sigmas)
    model = counted(lambda x, t: Denoised(x, 0 * x), seen)
    solver = annealed_langevin(model, process, num_steps=3, denoise=denoise)
    times = np.linspace(1, 0, 7, dtype=np.float32)
    jax.jit(lambda x: jaxdiff.sample(KEY, solver, x, times))(numbers(3, 2)).block_until_ready()
    jax.effects_barrier()
    levels = np.asarray(jax.jit(process.sigma)(np.float32(seen)))
    expected = [*np.repeat(sigmas[::-1], 3), *sigmas[:1].repeat(more)]
    np.testing.assert_allclose(np.sort(levels), np.sort(expected), rtol=1e-5)


def test_the_noise_of_every_step_is_its_own():
    """Predictor's and corrector's noise, of one step and of two: uncorrelated within 5/√N."""
    process, batch = VE(0.01, 1.0), 20_000
    still = functools.partial(annealed_langevin, step_size=0.5, num_steps=2, denoise=False)
    solver = predictor_corrector(
        lambda x, t: Denoised(x, 0 * x), process, predictor=reverse_diffusion, corrector=still
    )
    # ε̂ = 0: the sample is the sum of all noise, whose variances add up if nothing is used twice.
    x = jaxdiff.sample(KEY, solver, jnp.zeros((batch, 1)), jnp.array([1.0, 0.9, 0.8]))
    sigma2 = np.array([1.0, 0.9, 0.8]) * 2 * np.log(100.0) + 2 * np.log(0.01)
    sigma2 = np.exp(sigma2)
    total = sigma2[0] - sigma2[2] + 2 * (sigma2[1] + sigma2[2])  # 2 · 0.5 σ², twice at each
    assert_variance_close(x, total, mean=0.0)


# What every solver promises


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
    """One program: what the solvers have in common is compiled once."""
    exact = oracles.gaussian(process, jnp.array([0.7, -0.5]), jnp.diag(jnp.array([0.5, 0.0])))
    return {
        name: named(name)(exact, process).step(key, state, t, s) for name, state in states.items()
    }


def walk_all(process, x, times, key=KEY):
    """Where every solver ends, by the driver's loop in Python: of any length, by one program."""
    states = {name: named(name)(None, process).init(x, times[0]) for name in ALL}
    for index, (t, s) in enumerate(itertools.pairwise(np.float32(times))):
        states = step_of_all(process, jax.random.fold_in(key, index), states, t, s)
    return {name: np.asarray(state.x) for name, state in states.items()}


@pytest.mark.parametrize("process", KINDS)
def test_samples_are_finite_from_noise_to_data_in_any_number_of_steps(process):
    """With extremes of the prior, and data that do not vary at all along one axis."""
    sigma, process = PROCESSES[process].scales(1.0).sigma, one_of(process, KINDS)
    x = sigma.astype(np.float32) * np.float32([[0.0, 0.0], [4.0, -4.0], [-1e-3, 1.0]])
    for n in (1, 2, 3, 10):
        ends = walk_all(process, x, np.linspace(1, 0, n + 1))
        assert {(end.shape, end.dtype) for end in ends.values()} == {(x.shape, x.dtype)}
        assert_finite(ends)
    assert_finite(walk_all(process, x, [1.0, 0.999999, 1e-5, 0.0]))


@pytest.mark.parametrize("norms", ["example", "batch"])
@pytest.mark.parametrize("process", ["vp", "ncsn_232"])
def test_langevin_moves_nothing_where_there_is_no_noise(process, norms):
    """At σ = 0, whatever a model may say that ε is; and with a finite slope."""
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
        assert_finite(slope)


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
        assert_finite(move(np.zeros((2, 3), np.float32), t))


def test_samples_depend_on_their_batch_mates_with_norms_of_the_batch_only():
    """The same noise for the first example, another example beside it."""
    x, times = numbers(3, 2), [0.9, 0.6, 0.3]
    beside = x * np.float32([[1], [3], [1]])
    ends, others = (walk_all(one_of("vp", KINDS), start, times) for start in (x, beside))
    for name in ALL:
        if name == "langevin_batch":
            assert np.max(np.abs(ends[name][0] - others[name][0])) > 1e-3
        else:
            np.testing.assert_allclose(
                ends[name][0], others[name][0], rtol=1e-6, atol=1e-6, err_msg=name
            )


@pytest.mark.slow
def test_one_key_gives_one_sample_with_jit_and_without():
    x, times = numbers(3, 2), [0.9, 0.6]
    compiled, another = (
        walk_all(one_of("vp", KINDS), x, times, key) for key in (KEY, jax.random.key(4))
    )
    with jax.disable_jit():
        eager = walk_all(VP(), x, times)
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
def test_other_numbers_are_never_another_trace(make, options, others):
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
    assert len(traces) == 2  # so a trace is counted


@pytest.mark.parametrize(
    ("make", "options", "says"),
    [
        (langevin, {"snr": 0.0}, "snr"),
        (langevin, {"snr": "a"}, "snr is positive, got 'a'"),
        (langevin, {"num_steps": 0}, "num_steps"),
        (langevin, {"norms": "mean"}, "example, batch"),
        (annealed_langevin, {"step_size": -0.1}, "step_size"),
        (annealed_langevin, {"step_size": 2.0}, "step_size"),
        (annealed_langevin, {"num_steps": 0}, "num_steps"),
        (predictor_corrector, {"order": "both"}, "predictor_first, corrector_first"),
    ],
)
def test_options_that_mean_nothing_are_refused(make, options, says):
    with pytest.raises(InputError, match=says):
        make(eps_model(VP(), 0.0), VP(), **options)
