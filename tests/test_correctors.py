"""Predictor and corrector, and the guarantees of every corrector."""

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
def compiled(make):
    """A single predictor or corrector, and its compiled step."""
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
    """Also for a multistep predictor, whose state continues with the corrected sample."""
    process, x = VP(), numbers(4, 2)
    times = np.array([0.9, 0.7, 0.4, 0.2], np.float32)
    made = predictor_corrector(
        linear_model(process, 0.9), process, predictor=predictor, corrector=corrector, order=order
    )
    step, (p, predict), (c, correct) = jax.jit(made.step), compiled(predictor), compiled(corrector)

    state, by_hand = made.init(x, times[0]), p.init(x, times[0])
    for key, (t, s) in zip(jax.random.split(KEY, 3), itertools.pairwise(times), strict=True):
        state = step(key, state, t, s)
        first, second = jax.random.split(key)
        if order == "predictor_first":
            by_hand = predict(first, by_hand, t, s)
            by_hand = by_hand._replace(x=correct(second, c.init(by_hand.x, s), s, s).x)
        else:
            by_hand = by_hand._replace(x=correct(second, c.init(by_hand.x, t), t, t).x)
            by_hand = predict(first, by_hand, t, s)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), state, by_hand
        )
    assert type(state) is type(by_hand)


ORDERS = ["predictor_first", "corrector_first"]


@functools.cache
def of_one_point(predictor):
    """Samples of data that are a single point, by the order."""
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
def test_no_predictor_discards_corrections(predictor, order):
    """For data at a single point these predictors are exact, and only Langevin moves show.

    UniPC, a predictor with its own corrector, must keep them too. (DEIS does not: it interpolates
    noise estimates, which it remembers from before the move.)
    """
    ends = of_one_point(predictor)[order], of_one_point("ddim")[order]
    np.testing.assert_allclose(*ends, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", ["predictor_first", "corrector_first", "as published"])
def test_predictor_and_corrector_use_the_times_of_the_paper_and_the_code(order):
    """Two corrections per step; the times of the evaluations distinguish the two orders.

    The published code runs over all n + 1 times, correcting at each and predicting from each, from
    the last one to the data: with final denoising as its last prediction, n + 1 corrections.
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


def test_the_last_time_is_corrected_by_langevin_steps_with_fresh_noise():
    """ε̂ = 0: compared with sampling without it, the last correction adds only noise."""
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
def test_annealed_langevin_visits_every_noise_scale_and_denoises_once(denoise, more):
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


def test_every_step_draws_fresh_noise():
    """Noise of the predictor and the corrector, within and across steps: uncorrelated to 5/√N."""
    process, batch = VE(0.01, 1.0), 20_000
    still = functools.partial(annealed_langevin, step_size=0.5, num_steps=2, denoise=False)
    solver = predictor_corrector(
        lambda x, t: Denoised(x, 0 * x), process, predictor=reverse_diffusion, corrector=still
    )
    # ε̂ = 0: the sample is the sum of all noise, whose variances add up if none is reused.
    x = jaxdiff.sample(KEY, solver, jnp.zeros((batch, 1)), jnp.array([1.0, 0.9, 0.8]))
    sigma2 = np.array([1.0, 0.9, 0.8]) * 2 * np.log(100.0) + 2 * np.log(0.01)
    sigma2 = np.exp(sigma2)
    total = sigma2[0] - sigma2[2] + 2 * (sigma2[1] + sigma2[2])  # 2 · 0.5 σ², twice at each
    assert_variance_close(x, total, mean=0.0)


# Guarantees of every solver
