"""The learned schedule: monotone for all parameters, with a free shape and fixed ends."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from process_table import LEARNED

from jaxdiff import losses, oracles, processes
from jaxdiff.losses import times
from jaxdiff.processes import LearnedVP
from jaxdiff.typing import InputError

ENDS, SHAPE = {"log_snr_max", "log_range"}, {
    "log_slope", "log_heights", "log_steepness", "centres"
}  # fmt: skip
MEAN, VARIANCES = np.array([0.3, -0.5]), np.array([0.9, 0.2])
N = 10_000


def shaped(seed, *, log_snr_max=7.0, log_snr_min=-6.0, num_steps=5):
    """Fixed ends, and a random inner shape: slopes from almost flat to steep."""
    rng = np.random.default_rng(seed)
    start = LearnedVP.create(log_snr_max=log_snr_max, log_snr_min=log_snr_min, num_steps=num_steps)
    return dataclasses.replace(
        start,
        log_slope=np.float32(rng.normal()),
        log_heights=np.float32(rng.normal(size=num_steps)),
        log_steepness=np.float32(rng.uniform(0, 4, num_steps)),
        centres=np.float32(rng.uniform(0, 1, num_steps)),
    )


def trace_posterior(snr):
    return np.sum(1 / (1 / VARIANCES + np.asarray(snr)[..., None]), axis=-1)


def exact_integral(log_snr_max, log_snr_min):
    """∫ ½ E‖x_0 − x̂_0‖² dSNR = ½ Σ log (1 + c SNR) between the ends, by hand for each axis."""
    high, low = np.exp(log_snr_max), np.exp(log_snr_min)
    return 0.5 * np.sum(np.log1p(VARIANCES * high) - np.log1p(VARIANCES * low))


@jax.jit
def integral(key, process):
    """The bound's integral of the exact model at uniform times, ``[N]``."""
    data_key, time_key, noise_key = jax.random.split(key, 3)
    scale = jnp.sqrt(jnp.array(VARIANCES.tolist()))
    x0 = jnp.array(MEAN.tolist())[None] + scale[None] * jax.random.normal(data_key, (N, 2))
    t, _ = times.uniform(time_key, N)
    exact = oracles.gaussian(process, jnp.array(MEAN.tolist()), jnp.diag(scale**2))
    return losses.denoising_rate(noise_key, exact, process, x0, t)


@jax.jit
def jitted_schedule(process, t):
    return process.log_snr(t), process.alpha(t), process.variance(t)


def schedule(process, t):
    return jax.device_get(jitted_schedule(process, t))


@pytest.mark.parametrize("seed", range(20))
def test_schedule_falls_strictly_between_its_ends_for_any_parameters(seed):
    log_snr, alpha, variance = schedule(shaped(seed), np.linspace(0, 1, 300, dtype=np.float32))
    assert np.all(np.diff(log_snr) < 0)
    np.testing.assert_allclose(log_snr[[0, -1]], [7.0, -6.0], rtol=1e-4)
    np.testing.assert_allclose(alpha**2 + variance, 1.0, rtol=1e-5)


def test_the_initial_schedule_is_close_to_a_straight_line():
    process = LearnedVP.create(log_snr_max=13.3, log_snr_min=-5.0)
    t = np.linspace(0, 1, 300, dtype=np.float32)
    np.testing.assert_allclose(schedule(process, t)[0], 13.3 - 18.3 * t, atol=0.3)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_bound_does_not_depend_on_the_inner_shape(seed):
    values = np.asarray(integral(jax.random.key(seed), shaped(seed)), np.float64)
    error = values.std() / np.sqrt(N)
    assert abs(values.mean() - exact_integral(7.0, -6.0)) < 5 * error


@pytest.mark.slow
def test_gradients_of_the_bound_vanish_in_the_shape_and_are_known_at_the_ends():
    """d/da ½ log(1 + c e^a) = ½ c e^a/(1 + c e^a); the range moves only the lower end."""
    keys = jax.random.split(jax.random.key(3), 16)
    process = shaped(4)
    slope = jax.jit(jax.vmap(jax.grad(lambda p, k: jnp.mean(integral(k, p))), (None, 0)))
    found = slope(process, keys)

    def edge(log_snr):
        return 0.5 * np.sum(VARIANCES * np.exp(log_snr) / (1 + VARIANCES * np.exp(log_snr)))

    expected = {name: np.zeros(getattr(process, name).shape) for name in SHAPE}
    expected["log_snr_max"] = edge(7.0) - edge(-6.0)
    expected["log_range"] = 13.0 * edge(-6.0)  # d low/d log range = −range, and −½ log(1 + c e^low)
    for name, value in expected.items():
        drawn = np.asarray(getattr(found, name), np.float64)
        error = drawn.std(0, ddof=1) / np.sqrt(len(keys))
        assert np.all(error > 0)
        assert np.all(np.abs(drawn.mean(0) - value) < 5 * error), name


@pytest.mark.parametrize(
    ("hold", "held"), [(processes.with_fixed_ends, ENDS), (processes.with_fixed_shape, SHAPE)]
)
def test_holding_stops_exactly_the_named_gradients(hold, held):
    times = np.float32([0.1, 0.5, 0.9])
    slope = jax.jit(jax.grad(lambda p, t: jnp.sum(hold(p).log_snr(t))))(LEARNED, times)
    for name in ENDS | SHAPE:
        moved = np.any(np.asarray(getattr(slope, name)) != 0)
        assert moved == (name not in held), name
    assert jax.tree.all(jax.tree.map(jnp.array_equal, hold(LEARNED), LEARNED))


@pytest.mark.slow
def test_training_the_shape_by_the_squared_bound_reduces_variance():
    process, optimizer = shaped(0), optax.adam(0.1)
    keys = jax.random.split(jax.random.key(5), 41)

    def square(process, key):
        return jnp.mean(integral(key, processes.with_fixed_ends(process)) ** 2)

    @jax.jit
    def step(carry, key):
        process, state = carry
        updates, state = optimizer.update(jax.grad(square)(process, key), state)
        return (optax.apply_updates(process, updates), state), None

    (trained, _), _ = jax.lax.scan(step, (process, optimizer.init(process)), keys[1:])
    before, after = (np.asarray(integral(keys[0], p), np.float64) for p in (process, trained))
    assert after.std() < 0.8 * before.std()
    error = after.std() / np.sqrt(N)
    assert abs(after.mean() - exact_integral(7.0, -6.0)) < 5 * error  # and the bound is unchanged
    np.testing.assert_array_equal(trained.log_snr_max, process.log_snr_max)


@pytest.mark.parametrize("options", [{"log_snr_min": 14.0}, {"num_steps": 0}])
def test_a_schedule_that_does_not_decrease_is_refused(options):
    with pytest.raises(InputError, match="log_snr_min < log_snr_max and an integer num_steps >= 1"):
        LearnedVP.create(**options)
