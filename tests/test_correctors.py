"""Predictor and corrector, and what every corrector promises."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from assertions import assert_variance_close
from corrector_tools import CORRECTORS, KEY, linear_model, numbers

import jaxdiff
from jaxdiff import solvers
from jaxdiff.predictions import Denoised
from jaxdiff.processes import VE, VP, DiscreteVE
from jaxdiff.solvers.langevin import annealed_langevin, langevin
from jaxdiff.solvers.predictor_corrector import predictor_corrector
from jaxdiff.solvers.reverse_diffusion import reverse_diffusion

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


ORDERS = ["predictor_first", "corrector_first"]


@functools.cache
def of_one_point(predictor):
    """The ends of walks towards data that are all one point, by the order."""
    process, times = VP(), np.float32([0.9, 0.75, 0.6, 0.4, 0.3, 0.2])

    def model(x, t):
        x0 = jnp.full_like(x, 0.7)
        return Denoised(x0, (x - process.alpha(t) * x0) / process.sigma(t))

    @jax.jit
    def run(x):
        make = functools.partial(
            predictor_corrector,
            model,
            process,
            predictor=getattr(solvers, predictor),
            corrector=CORRECTORS["langevin"],
        )
        return {order: jaxdiff.sample(KEY, make(order=order), x, times) for order in ORDERS}

    return run(numbers(5, 12))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("predictor", ["heun", "rk4", "dpmpp_3s", "dpmpp_3m", "unipc"])
def test_no_predictor_forgets_what_was_corrected(predictor, order):
    """If all data are one point these are exact, and only Langevin's moves tell.

    A predictor with a corrector of its own, UniPC, must keep them too. (DEIS interpolates the
    noise, of which it remembers what was there before a move.)
    """
    ends = of_one_point(predictor)[order], of_one_point("ddim")[order]
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
