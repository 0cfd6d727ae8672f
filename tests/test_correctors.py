"""Reverse diffusion, Langevin correctors and what alternates them, against their papers."""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import BETAS, PROCESSES, assert_finite, assert_mean_close, assert_variance_close

import jaxdiff
from jaxdiff import oracles, schedules, solvers
from jaxdiff.predictions import Denoised
from jaxdiff.processes import VE, VP, DiscreteVE
from jaxdiff.solvers.langevin import annealed_langevin, langevin
from jaxdiff.solvers.predictor_corrector import predictor_corrector
from jaxdiff.solvers.reverse_diffusion import reverse_diffusion
from jaxdiff.typing import InputError

DDPM, NCSN = PROCESSES["ddpm_linear_1000"], PROCESSES["ncsn_232"]
BETA = np.append(np.nan, BETAS["ddpm_linear_1000"])  # counted from 1, as in the papers
BARS = np.append(1.0, np.cumprod(1 - BETA[1:]))
LADDER = np.append(0.0, 0.01 * 5000 ** (np.arange(232) / 231))

KEY = jax.random.key(3)
CORRECTORS = {
    "langevin": functools.partial(langevin, num_steps=2),
    "langevin_batch": functools.partial(langevin, num_steps=2, norms="batch"),
    "annealed": functools.partial(annealed_langevin, num_steps=2),
}


def eps_model(process, eps):
    """A model that predicts the same noise whatever it sees."""
    return lambda x, t: Denoised((x - process.sigma(t) * eps) / process.alpha(t), eps)


def linear_model(process, gain):
    """ε̂ = gain · x: another one at every Langevin step, and easy to follow in numpy."""

    def denoise_fn(x, t):
        return Denoised((x - process.sigma(t) * gain * x) / process.alpha(t), gain * x)

    return denoise_fn


def one(solver, key, x, t, s):
    """One step, from a fresh state, in float64 numpy."""
    state = solver.step(key, solver.init(x, t), jnp.asarray(t), jnp.asarray(s))
    assert state.x.dtype == x.dtype
    return np.asarray(state.x, np.float64)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def normals(key, shape, count):
    """The noise of ``count`` Langevin steps, each with its own of the keys split off ``key``."""
    keys = jax.random.split(key, count)
    return [np.asarray(jax.random.normal(k, shape), np.float64) for k in keys]


# Reverse diffusion


@pytest.mark.parametrize("i", [1000, 999, 500, 20, 2, 1])
def test_reverse_diffusion_is_the_published_step_of_ddpm(i):
    """Song et al. 2021, algorithm 3: (2 − √(1 − β)) x + β score + √β z."""
    x, eps = numbers(2, 5, 3)
    z = np.asarray(jax.random.normal(KEY, x.shape))
    score = -eps / np.sqrt(1 - BARS[i])
    expected = (2 - np.sqrt(1 - BETA[i])) * x + BETA[i] * score + np.sqrt(BETA[i]) * z
    solver = reverse_diffusion(eps_model(DDPM, eps), DDPM)
    got = one(solver, KEY, x, i / 1000, (i - 1) / 1000)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("i", [232, 100, 2, 1])
def test_reverse_diffusion_is_the_published_step_of_the_ladder(i):
    """Song et al. 2021, algorithm 2: x + (σ_i² − σ_{i−1}²) score + √(σ_i² − σ_{i−1}²) z."""
    x, eps = numbers(2, 5, 3)
    z = np.asarray(jax.random.normal(KEY, x.shape))
    gained = LADDER[i] ** 2 - LADDER[i - 1] ** 2
    expected = x - gained * eps / LADDER[i] + np.sqrt(gained) * z
    solver = reverse_diffusion(eps_model(NCSN, eps), NCSN)
    got = one(solver, KEY, x, i / 232, (i - 1) / 232)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * max(1.0, LADDER[i]))


@pytest.mark.parametrize(("i", "j"), [(1000, 700), (500, 250), (300, 0)])
def test_reverse_diffusion_takes_many_steps_of_the_chain_at_once(i, j):
    """q(x_i | x_j) = N(√(ᾱ_i/ᾱ_j) x_j, 1 − ᾱ_i/ᾱ_j): eq. 46 for that chain."""
    x, eps = numbers(2, 5, 3)
    z = np.asarray(jax.random.normal(KEY, x.shape))
    kept = BARS[i] / BARS[j]
    score = -eps / np.sqrt(1 - BARS[i])
    expected = x - (np.sqrt(kept) - 1) * x + (1 - kept) * score + np.sqrt(1 - kept) * z
    solver = reverse_diffusion(eps_model(DDPM, eps), DDPM)
    got = one(solver, KEY, x, i / 1000, j / 1000)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_reverse_diffusion_leaves_out_the_noise_of_its_last_step_where_asked():
    x, eps = numbers(2, 5, 3)
    plain, quiet = (
        reverse_diffusion(eps_model(DDPM, eps), DDPM, denoise=denoise) for denoise in (False, True)
    )
    np.testing.assert_array_equal(one(plain, KEY, x, 0.5, 0.4), one(quiet, KEY, x, 0.5, 0.4))
    z = np.asarray(jax.random.normal(KEY, x.shape), np.float64)
    gone = one(plain, KEY, x, 0.1, 0.0) - one(quiet, KEY, x, 0.1, 0.0)
    np.testing.assert_allclose(gone, np.sqrt(1 - BARS[100]) * z, atol=1e-5)


# One step of the correctors


@pytest.mark.parametrize("num_steps", [1, 3])
@pytest.mark.parametrize("norms", ["example", "batch"])
@pytest.mark.parametrize("i", [1000, 300])
def test_langevin_is_the_published_corrector(i, norms, num_steps):
    """Song et al. 2021, algorithm 5 with α_i = 1: ε = 2(r‖z‖/‖g‖)², x + εg + √(2ε) z."""
    x, r, gain = numbers(5, 2, 3), 0.2, 1.3
    expected = x.astype(np.float64)
    for z in normals(KEY, x.shape, num_steps):
        g = -gain * expected / np.sqrt(1 - BARS[i])
        lengths = [np.sqrt(np.sum(v**2, axis=(1, 2), keepdims=True)) for v in (z, g)]
        if norms == "batch":  # the published code's means
            lengths = [np.mean(v) for v in lengths]
        step = 2 * (r * lengths[0] / lengths[1]) ** 2
        expected = expected + step * g + np.sqrt(2 * step) * z
    solver = langevin(linear_model(DDPM, gain), DDPM, snr=r, num_steps=num_steps, norms=norms)
    for s in (i / 1000, 0.001):  # the second time changes nothing
        np.testing.assert_allclose(one(solver, KEY, x, i / 1000, s), expected, rtol=2e-5, atol=2e-5)


def test_langevin_steps_are_scaled_by_sigma_on_the_ladder():
    """Song et al. 2021, algorithm 4, at σ_i = 50 and at 0.1."""
    x, eps = numbers(2, 5, 3)
    (z,) = normals(KEY, x.shape, 1)
    for i in (232, 64):
        g = -eps / LADDER[i]
        step = 2 * (0.16 * np.linalg.norm(z, axis=1) / np.linalg.norm(g, axis=1))[:, None] ** 2
        solver = langevin(eps_model(NCSN, eps), NCSN)
        got = one(solver, KEY, x, i / 232, i / 232)
        np.testing.assert_allclose(got, x + step * g + np.sqrt(2 * step) * z, rtol=2e-4, atol=1e-4)


ANNEALED = {  # ε, steps at a rung, and what the paper multiplies the score and the noise by
    "ncsn": (2e-5, 100, lambda a: (a / 2, np.sqrt(a))),
    "ncsnv2": (6.2e-6, 5, lambda a: (a, np.sqrt(2 * a))),
}
STEP_SIZES = {"ncsn": 0.1, "ncsnv2": 0.062}


@pytest.mark.parametrize("i", [232, 64, 1])
@pytest.mark.parametrize("paper", ANNEALED)
def test_annealed_langevin_is_the_published_sampler_at_every_rung(paper, i):
    """Song & Ermon 2019, algorithm 1, and 2020, algorithm 1: α_i = ε σ_i²/σ_L², σ_L = 0.01.

    At the last rung NCSNv2 goes on to x + σ_L² score.
    """
    x, gain = LADDER[i] * numbers(4, 3), 0.8 / LADDER[i]
    size, num_steps, factors = ANNEALED[paper]
    drift, noise = factors(size * LADDER[i] ** 2 / LADDER[1] ** 2)
    denoise = paper == "ncsnv2"
    expected = x.astype(np.float64)
    for z in normals(KEY, x.shape, num_steps):
        expected = expected + drift * -gain * expected / LADDER[i] + noise * z
    if i == 1 and denoise:
        expected = expected + LADDER[i] ** 2 * -gain * expected / LADDER[i]
    options = {} if denoise else {"step_size": STEP_SIZES[paper], "num_steps": num_steps}
    solver = annealed_langevin(linear_model(NCSN, gain), NCSN, denoise=denoise, **options)
    got = one(solver, KEY, x.astype(np.float32), i / 232, (i - 1) / 232)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4 * LADDER[i])


# What many steps come to


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def correct_for_long(key, process, x, num_steps, norms, dim, snr, t, mean, variance):
    exact = oracles.gaussian(process, jnp.full(dim, mean), variance * jnp.eye(dim))
    solver = langevin(exact, process, snr=snr, num_steps=num_steps, norms=norms)
    return solver.step(key, solver.init(x, t), t, t).x


SNR = 0.4


@pytest.mark.parametrize(("process", "t"), [(VP(), 0.4), (VE(0.01, 50.0), 0.6)], ids=["vp", "ve"])
def test_batch_norms_come_to_rest_at_one_plus_snr_squared_of_the_variance(process, t):
    """V = v/(1 − a/2v) at rest with a step of a; a = 2r²v²/V by the norms, so V = v(1 + r²)."""
    law, draws = resting(process, t, "batch", dim=2, batch=8192)
    assert_mean_close(draws, law.mean)
    assert_variance_close(draws, law.variance * (1 + SNR**2), mean=law.mean)
    with pytest.raises(AssertionError):  # so that the bias is measured, not tolerated
        assert_variance_close(draws, law.variance, mean=law.mean)


@pytest.mark.parametrize(("process", "t"), [(VP(), 0.4), (VE(0.01, 50.0), 0.6)], ids=["vp", "ve"])
def test_norms_of_an_example_come_to_rest_where_their_own_balance_says(process, t):
    """E‖y‖⁻² = 1/(v(1 + r²)(D + 2)) at rest, y = x − αm, in any dimension D.

    y' = y − 2r²v (‖z‖²/‖y‖²) y + 2rv (‖z‖/‖y‖) z: what ‖y‖² loses, 4r²v E‖z‖², it must gain,
    4(r² + r⁴)v² E‖z‖⁴ E‖y‖⁻², and E‖z‖⁴ = (D + 2) E‖z‖².
    """
    dim = 16
    law, draws = resting(process, t, "example", dim=dim, batch=2048)
    assert_mean_close(draws, law.mean)
    inverse = 1 / (law.variance * (1 + SNR**2) * (dim + 2))
    assert_mean_close(np.sum((draws - law.mean) ** 2, axis=1, keepdims=True) ** -1, inverse)
    with pytest.raises(AssertionError):
        assert_mean_close(
            np.sum((draws - law.mean) ** 2, axis=1, keepdims=True) ** -1, inverse * (1 + SNR**2)
        )


class Law(NamedTuple):
    """Of each coordinate at t."""

    mean: float
    variance: float


def law_at(process, t):
    """For data N(0.7, 0.5), from the papers' α and σ: Song et al. 2021, eq. 29."""
    if isinstance(process, VP):
        alpha2 = np.exp(-0.5 * t**2 * 19.9 - 0.1 * t)
        return Law(0.7 * np.sqrt(alpha2), 0.5 * alpha2 + 1 - alpha2)
    return Law(0.7, 0.5 + (0.01 * 5000**t) ** 2)


def resting(process, t, norms, *, dim, batch):
    """Draws after 60 corrections from the exact law, each of which forgets a quarter."""
    law = law_at(process, t)
    x = (law.mean + np.sqrt(law.variance) * numbers(batch, dim)).astype(np.float32)
    x = correct_for_long(KEY, process, x, 60, norms, dim, SNR, t, 0.7, 0.5)
    return law, np.asarray(x, np.float64)


def test_annealed_langevin_follows_the_variance_of_ncsnv2_through_the_ladder():
    """Song & Ermon 2020, proposition 3, rung for rung: all data in one point, γ = σ_{i−1}/σ_i.

    s_T²/σ_i² = (1 − c)^{2T} (γ² − 2c/(1 − (1 − c)²)) + 2c/(1 − (1 − c)²), c = ε/σ_L², times what
    the rung above was off by.
    """
    count, c, num_steps = 30, 0.1, 5
    sigmas = np.geomspace(0.1, 10.0, count)
    process = DiscreteVE.from_sigmas(sigmas)
    rest = 2 * c / (1 - (1 - c) ** 2)
    off = 1.0
    for i in range(count - 1, -1, -1):
        gamma2 = (sigmas[min(i + 1, count - 1)] / sigmas[i]) ** 2
        off = (1 - c) ** (2 * num_steps) * (gamma2 * off - rest) + rest

    @jax.jit
    def run(key, x):
        exact = oracles.gaussian(process, jnp.zeros(2), jnp.zeros((2, 2)))
        solver = annealed_langevin(exact, process, step_size=c, num_steps=num_steps, denoise=False)
        return jaxdiff.sample(key, solver, x, schedules.uniform_times(count))

    x = run(KEY, 10.0 * jax.random.normal(jax.random.key(0), (8192, 2)))
    assert 1.1 < off < 1.6  # the ladder falls faster than the walk follows
    assert_variance_close(x, off * sigmas[0] ** 2, mean=0.0)
    assert_mean_close(x, 0.0)


MODES = np.array([0.3, 0.7]), np.array([-2.0, 2.0]), np.array([0.3, 0.5])


def test_annealed_langevin_finds_both_modes_with_the_weights_of_its_own_chain():
    """The density of the published chain is pushed through every step by the trapezoidal rule.

    The weights lag behind those at rest by a share that falls with the steps at a rung: of the
    right mode's 0.7 the chain has 0.656, 0.677, 0.687 and 0.694 at 10, 20, 40 and 80 of them.
    """
    weights, means, stds = MODES
    count, c, num_steps = 12, 0.1, 40
    sigmas = np.geomspace(0.2, 6.0, count)
    grid = np.linspace(-36, 36, 1441)
    width = grid[1] - grid[0]
    density = np.exp(-0.5 * (grid / 6) ** 2)
    density /= np.sum(density)
    for sigma in sigmas[::-1]:
        spread = np.hypot(stds, sigma)
        parts = weights / spread * np.exp(-0.5 * ((grid[:, None] - means) / spread) ** 2) + 1e-300
        share = parts / np.sum(parts, axis=1, keepdims=True)
        score = np.sum(share * (means - grid[:, None]) / spread**2, axis=1)
        a = c * sigma**2
        assert np.sqrt(2 * a) > 1.2 * width  # or the trapezoidal rule would not be exact
        kernel = np.exp(-((grid[:, None] - (grid + a * score)) ** 2) / (4 * a))
        kernel *= width / np.sqrt(4 * np.pi * a)
        for _ in range(num_steps):
            density = kernel @ density
    assert np.sum(density) == pytest.approx(1, abs=1e-6)

    def moments(x):
        return np.stack([x, x**2, x**3, np.tanh(4 * x)], axis=-1)

    expected = density @ moments(grid)
    process = DiscreteVE.from_sigmas(sigmas)

    @jax.jit
    def run(key, x):
        exact = oracles.mixture(process, weights, means[:, None], stds)
        solver = annealed_langevin(exact, process, step_size=c, num_steps=num_steps, denoise=False)
        return jaxdiff.sample(key, solver, x, schedules.uniform_times(count))

    x = run(KEY, 6.0 * jax.random.normal(jax.random.key(0), (20_000, 1)))
    assert_mean_close(moments(np.asarray(x, np.float64)[:, 0]), expected)
    assert np.sum(density[grid > 0]) == pytest.approx(0.7, abs=0.02)


# Predictor and corrector


def counted(denoise_fn, seen):
    def denoise(x, t):
        jax.debug.callback(lambda t: seen.append(float(t)), t)
        return denoise_fn(x, t)

    return denoise


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
    model = linear_model(process, 0.9)
    made = predictor_corrector(
        model, process, predictor=predictor, corrector=corrector, order=order
    )
    walker, fixer = predictor(model, process), corrector(model, process)
    step, walk, correct = jax.jit(made.step), jax.jit(walker.step), jax.jit(fixer.step)

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


@pytest.mark.parametrize("order", ["predictor_first", "corrector_first"])
@pytest.mark.parametrize("predictor", ["heun", "rk4", "dpmpp_3s", "dpmpp_3m", "unipc"])
def test_no_predictor_forgets_what_was_corrected(predictor, order):
    """If all data are one point these are exact, and only Langevin's moves tell.

    A predictor with a corrector of its own, UniPC, must keep them too. (DEIS interpolates the
    noise, of which it remembers what was there before a move.)
    """
    process, times = VP(), jnp.array([0.9, 0.75, 0.6, 0.4, 0.3, 0.2])

    def model(x, t):
        x0 = jnp.full_like(x, 0.7)
        return Denoised(x0, (x - process.alpha(t) * x0) / process.sigma(t))

    def run(predictor):
        made = predictor_corrector(
            model, process, predictor=predictor, corrector=CORRECTORS["langevin"], order=order
        )
        return jaxdiff.sample(KEY, made, numbers(5, 12), times)

    ends = run(getattr(solvers, predictor)), run(solvers.ddim)
    np.testing.assert_allclose(*ends, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", ["predictor_first", "corrector_first"])
def test_predictor_and_corrector_see_the_times_that_the_paper_and_the_code_give_them(order):
    """Two corrections a step; what is evaluated where tells the two orders apart."""
    process, seen, n = VP(), [], 4
    times = schedules.uniform_times(n)
    model = counted(lambda x, t: Denoised(0.5 * x, 0.5 * x), seen)
    corrector = functools.partial(langevin, num_steps=2)
    solver = predictor_corrector(model, process, corrector=corrector, order=order)
    jaxdiff.sample(KEY, solver, numbers(3, 2), times).block_until_ready()
    jax.effects_barrier()
    t, s = np.asarray(times)[:-1], np.asarray(times)[1:]
    corrected = s if order == "predictor_first" else t
    assert sorted(seen) == sorted([*t, *corrected, *corrected])
    assert len(seen) == n * (1 + 2)


@pytest.mark.parametrize(("denoise", "more"), [(True, 1), (False, 0)])
def test_annealed_langevin_visits_every_rung_and_denoises_once(denoise, more):
    seen, sigmas = [], np.geomspace(0.1, 10.0, 6)
    process = DiscreteVE.from_sigmas(sigmas)
    model = counted(lambda x, t: Denoised(x, 0 * x), seen)
    solver = annealed_langevin(model, process, num_steps=3, denoise=denoise)
    jaxdiff.sample(KEY, solver, numbers(3, 2), schedules.uniform_times(6)).block_until_ready()
    jax.effects_barrier()
    levels = np.asarray(process.sigma(jnp.asarray(seen)))
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


ALL = ["reverse_diffusion", *CORRECTORS, "predictor_first", "corrector_first"]
every_solver = pytest.mark.parametrize("name", ALL)


@functools.cache
def jitted_step(name):
    """Compiled once for each kind of process."""

    @jax.jit
    def step(process, key, state, t, s):
        exact = oracles.gaussian(process, jnp.array([0.7, -0.5]), jnp.diag(jnp.array([0.5, 0.0])))
        return named(name)(exact, process).step(key, state, t, s)

    return step


def walk(name, process, x, times, key=KEY):
    """The driver's loop in Python, so that walks of any length share one executable."""
    state = named(name)(None, process).init(x, times[0])
    keys = jax.random.split(key, 10)
    for index, (t, s) in enumerate(itertools.pairwise(np.float32(times))):
        state = jitted_step(name)(process, keys[index], state, t, s)
    return state.x


@pytest.mark.parametrize("process", ["vp", "subvp", "ve_348", "ddpm_linear_1000", "ncsn_232"])
@every_solver
def test_samples_are_finite_from_noise_to_data_in_any_number_of_steps(name, process):
    """With extremes of the prior, and data that do not vary at all along one axis."""
    process = PROCESSES[process]
    x = process.sigma(1.0) * jnp.array([[0.0, 0.0], [4.0, -4.0], [-1e-3, 1.0]])
    for n in (1, 2, 3, 10):
        end = walk(name, process, x, np.linspace(1, 0, n + 1))
        assert end.shape == x.shape
        assert end.dtype == x.dtype
        assert_finite(end)
    assert_finite(walk(name, process, x, [1.0, 0.999999, 1e-5, 0.0]))


@pytest.mark.parametrize("norms", ["example", "batch"])
@pytest.mark.parametrize("process", ["vp", "ncsn_232"])
def test_langevin_moves_nothing_where_there_is_no_noise(process, norms):
    """At σ = 0, whatever a model may say that ε is; and with a finite slope."""
    process, x = PROCESSES[process], jnp.asarray(numbers(3, 4))

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
    process = PROCESSES[process]
    solver = langevin(linear_model(process, 0.0), process, num_steps=2, norms=norms)

    @jax.jit
    @jax.value_and_grad
    def move(x, t):
        return jnp.sum(solver.step(KEY, solver.init(x, t), t, t).x)

    for t in (1e-5, 0.5, 1.0):
        assert_finite(move(jnp.zeros((2, 3)), t))


@every_solver
def test_samples_depend_on_their_batch_mates_with_norms_of_the_batch_only(name):
    """The same noise for the first example, another example beside it."""
    process, times, x = VP(), [0.9, 0.6, 0.3], jnp.asarray(numbers(3, 2))
    one, other = (walk(name, process, y, times)[0] for y in (x, x.at[1].mul(3.0)))
    if name == "langevin_batch":
        assert np.max(np.abs(one - other)) > 1e-3
    else:
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


@every_solver
def test_one_key_gives_one_sample_with_jit_and_without(name):
    process, times, x = VP(), [0.9, 0.6], jnp.asarray(numbers(3, 2))
    compiled = walk(name, process, x, times)
    with jax.disable_jit():
        eager = walk(name, process, x, times)
    np.testing.assert_allclose(compiled, eager, rtol=1e-4, atol=1e-4)
    assert np.max(np.abs(compiled - walk(name, process, x, times, jax.random.key(4)))) > 0.01


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
