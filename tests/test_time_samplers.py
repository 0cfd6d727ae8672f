"""Times drawn by importance, by log-normal noise and by losses: averages stay unbiased."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from assertions import assert_mean_close
from one_program import OneOf
from process_table import PROCESSES, exact_scales

from jaxdiff import processes
from jaxdiff.losses import loss_aware, times, weights
from jaxdiff.typing import InputError

BATCH, REPEATS = 8, 3000
KEYS = jax.random.split(jax.random.key(0), REPEATS)
T_MIN, T_MAX = 0.1, 0.9
# h(t) and its mean over U(0.1, 0.9).
FUNCTIONS = {
    "t": (lambda t: t, 0.5),
    "1/t": (lambda t: 1 / t, np.log(9) / 0.8),
    "sin 9t": (lambda t: np.sin(9 * t), (np.cos(0.9) - np.cos(8.1)) / 9 / 0.8),
}
WEIGHTS = {
    "likelihood": weights.likelihood,
    "edm": weights.edm,
    "p2": weights.p2,
    "min_snr": weights.min_snr,
}


every_weight = pytest.mark.parametrize("weight", [*WEIGHTS, "log_normal"])
ROWS = ("vp", "subvp", "ve", "cosine_vp", "learned_vp")


def row(name):
    """A process among the rows, as an argument of one program for all of them."""
    return OneOf(np.int32(ROWS.index(name)), tuple(PROCESSES[name].process for name in ROWS))


@functools.cache
def program(**options):
    """``(keys, process, index) -> TimeSample`` of batches, by the weight at the index."""

    def draw(keys, process, index):
        def weight_fn(process, t):
            return jnp.stack([weight(process, t) for weight in WEIGHTS.values()])[index]

        one = lambda key: times.importance(key, BATCH, process, weight_fn, **options)  # noqa: E731
        return jax.vmap(one)(keys)

    return jax.jit(draw)


@functools.cache
def log_normal(**options):
    """``(keys, process, mean, std) -> TimeSample`` of batches."""

    def draw(keys, process, mean, std):
        one = functools.partial(
            times.log_normal, n=BATCH, process=process, mean=mean, std=std, **options
        )
        return jax.vmap(one)(keys)

    return jax.jit(draw)


@functools.cache
def sampled(weight, process, num_steps=None, t_min=T_MIN, t_max=T_MAX, **options):
    """Times for a name among the rows, or for a process."""
    process = row(process) if isinstance(process, str) else process
    options |= {"t_min": t_min, "t_max": t_max, "num_steps": num_steps}
    if weight == "log_normal":
        found = log_normal(**options)(KEYS, process, -0.5, 2.0)
    else:
        found = program(**options)(KEYS, process, list(WEIGHTS).index(weight))
    return jax.tree.map(np.float64, jax.device_get(found))


@pytest.mark.parametrize("name", ["vp", "ve", "learned_vp"])
@every_weight
def test_weighted_times_average_every_function_without_bias(weight, name):
    t, importance = sampled(weight, name)
    assert t.min() > T_MIN
    assert t.max() <= np.float32(T_MAX)
    for h, mean in FUNCTIONS.values():
        assert_mean_close(np.mean(importance * h(t), axis=1), mean)
        assert_mean_close(importance[:, 3] * h(t[:, 3]), mean)  # for any example
    assert importance.max() <= 1001  # the uniform fraction of 1e-3


@pytest.mark.parametrize("num_steps", [10, 1000])
@every_weight
def test_times_of_a_chain_are_its_nodes_and_average_over_them(weight, num_steps):
    t, importance = sampled(weight, PROCESSES["vp"].process, num_steps)
    index = np.rint(t * num_steps)
    np.testing.assert_allclose(t, index / num_steps, rtol=2e-7)
    nodes = np.arange(1, num_steps + 1) / num_steps
    nodes = nodes[(nodes > T_MIN + 1e-9) & (nodes <= T_MAX + 1e-9)]
    for h, _ in FUNCTIONS.values():
        values = np.mean(importance * h(t), axis=1)
        error = np.std(values) / np.sqrt(REPEATS)  # zero where each node is drawn once
        assert abs(np.mean(values) - np.mean(h(nodes))) < 5 * error + 1e-5


def test_a_table_of_few_cells_is_as_unbiased_as_one_of_many():
    """Each time is uniform within its cell: at the cell's edge the average would be biased."""
    t, importance = sampled("p2", PROCESSES["ve"].process, num_cells=3)
    for h, mean in FUNCTIONS.values():
        assert_mean_close(np.mean(importance * h(t), axis=1), mean)


def test_times_of_a_whole_chain_start_at_its_first_node():
    process = PROCESSES["ddpm_linear_1000"].process
    t, importance = sampled("likelihood", process, 1000, t_min=0.0, t_max=1.0)
    assert t.min() == np.float32(0.001)
    assert_mean_close(np.mean(importance * t, axis=1), 0.5005)


likelihood = jax.jit(weights.likelihood)


@pytest.mark.parametrize("name", ["vp", "subvp", "ve", "cosine_vp"])
def test_importance_for_the_likelihood_is_uniform_in_log_snr(name):
    """g²/σ² = −(log SNR)': mean and spread of a uniform distribution, and weight ∝ 1/density."""
    t, importance = sampled("likelihood", name)
    alpha, sigma = exact_scales(name, t)
    low, high = (
        2 * np.log(a / s) for a, s in (exact_scales(name, T_MAX), exact_scales(name, T_MIN))
    )
    place = (2 * np.log(alpha / sigma) - low) / (high - low)
    uniform = 0.999 * np.array([0.5, 1 / 3])  # the rest is uniform in time
    for power, expected in zip((1, 2), uniform, strict=True):
        error = np.std(place[:, 0] ** power) / np.sqrt(REPEATS)
        assert abs(np.mean(place[:, 0] ** power) - expected) < 5 * error + 1e-3
    flat = importance * likelihood(row(name), np.float32(t))
    np.testing.assert_allclose(flat, np.mean(flat), rtol=0.02)


def test_importance_reduces_the_variance_of_its_integrand():
    """∫ λ h over t: with λ constant times weight, only h is left to vary."""
    t, importance = sampled("likelihood", PROCESSES["vp"].process, t_min=1e-3, t_max=1.0)
    plain_t = np.random.default_rng(0).uniform(1e-3, 1, (REPEATS, BATCH))
    rate, plain = (np.float64(likelihood(row("vp"), np.float32(times))) for times in (t, plain_t))
    drawn, plain = np.mean(importance * rate, axis=1), np.mean(plain, axis=1)
    error = np.hypot(drawn.std(), plain.std()) / np.sqrt(REPEATS)
    assert abs(drawn.mean() - plain.mean()) < 5 * error
    assert drawn.std() < 0.01 * plain.std()


def log_normal_times(process, mean, std):
    """Times of all batches, in float64."""
    return np.float64(log_normal(t_min=1e-4)(KEYS, process, mean, std).t).ravel()


def test_log_normal_noise_has_the_requested_mean_and_spread():
    process = processes.VE(sigma_min=1e-4, sigma_max=1e4)
    t = log_normal_times(process, -1.2, 1.2)
    log_sigma = np.log(1e-4) + t * np.log(1e8)
    # Stratified draws are better than independent ones; the uniform part shifts by 1e-3·1.2.
    assert abs(np.mean(log_sigma) + 1.2) < 5 * 1.2 / np.sqrt(t.size) + 2e-3
    assert np.std(log_sigma) == pytest.approx(1.2, rel=0.03)


@pytest.mark.parametrize("name", ["vp", "cosine_vp", "learned_vp"])
def test_log_normal_noise_is_that_of_sigma_over_alpha_for_curved_log_snr(name):
    t = log_normal_times(row(name), -0.4, 0.5)
    alpha, sigma = exact_scales(name, t)
    level = np.log(sigma / alpha)
    assert abs(np.mean(level) + 0.4) < 5 * 0.5 / np.sqrt(t.size) + 3e-3  # 1e-3 are uniform in t
    assert np.std(level) == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"uniform_share": 1.5}, "uniform_share must be in"),
        ({"t_min": 0.5, "t_max": 0.4}, "0 <= t_min < t_max <= 1"),
        ({"t_min": 0.0}, "t_min > 0"),
    ],
)
def test_invalid_ranges_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        times.importance(jax.random.key(0), 4, PROCESSES["vp"].process, weights.p2, **options)


# Loss-aware sampling.

record = jax.jit(loss_aware.record)
sample = jax.jit(loss_aware.sample, static_argnums=1)


def test_history_keeps_the_last_losses_of_every_step_as_a_queue_would():
    rng, record = (
        np.random.default_rng(0),
        jax.jit(functools.partial(loss_aware.record)),
    )  # with its own cache, to count
    history = loss_aware.start(5, length=3)
    queues = [collections.deque(maxlen=3) for _ in range(5)]
    counts = np.zeros(5, int)
    for _ in range(30):
        step = rng.choice(5, size=9, p=[0.5, 0.2, 0.15, 0.1, 0.05])  # more than 3 for the first
        values = rng.normal(size=9)
        history = record(history, np.float32((step + 1) / 5), np.float32(values))
        for i, value in zip(step, values, strict=True):
            queues[i].append(np.float32(value))
            counts[i] += 1
        losses = np.asarray(history.losses)
        np.testing.assert_array_equal(history.counts, counts)
        for i, queue in enumerate(queues):
            kept = losses[i][: min(3, counts[i])]
            np.testing.assert_array_equal(np.sort(kept), np.sort(queue))
            # the oldest is the next to be replaced
            if counts[i] >= 3:
                assert losses[i, counts[i] % 3] == queue[0]
    assert record._cache_size() == 1


def test_no_gradient_reaches_the_recorded_losses():
    @jax.jit
    @jax.value_and_grad
    def kept(scale):
        seen = jnp.array([0.5, 1.0])
        return jnp.sum(loss_aware.record(loss_aware.start(2), seen, scale * seen).losses)

    assert kept(2.0) == (3.0, 0.0)


def test_times_are_uniform_until_every_step_is_known():
    seen = np.float32([0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1.0])
    history = record(loss_aware.start(4, length=2), seen, 10 * np.arange(7, dtype=np.float32))
    t, weight = sample(jax.random.key(0), 20_000, history, uniform_share=1e-3)
    np.testing.assert_array_equal(np.bincount(np.rint(4 * np.asarray(t)).astype(int))[1:], 5000)
    np.testing.assert_allclose(weight, 1.0, rtol=1e-5)
    history = record(history, np.float32([1.0]), np.float32([9.0]))
    _, weight = sample(jax.random.key(0), 20_000, history, uniform_share=1e-3)
    assert np.ptp(weight) > 1


def test_steps_are_drawn_by_root_mean_square_loss_and_reweighted():
    sizes = np.array([1.0, 2.0, 5.0, 12.0])
    losses = np.concatenate([0.6 * sizes, np.sqrt(2 - 0.36) * sizes])  # mean square 1·size²
    steps = np.tile(np.arange(1, 5) / 4, 2)
    history = record(loss_aware.start(4, length=2), np.float32(steps), np.float32(losses))
    t, weight = sample(jax.random.key(1), 20_000, history, uniform_share=0.1)
    step = np.rint(4 * np.asarray(t)).astype(int) - 1
    expected = 0.9 * sizes / sizes.sum() + 0.1 / 4
    np.testing.assert_allclose(np.bincount(step) / 20_000, expected, atol=1e-4)  # stratified
    np.testing.assert_allclose(weight, (1 / (4 * expected))[step], rtol=1e-4)
    assert np.mean(np.asarray(weight) * sizes[step]) == pytest.approx(sizes.mean(), rel=1e-3)


@pytest.mark.parametrize("options", [{"num_steps": 0}, {"num_steps": 3, "length": 0}])
def test_empty_histories_are_refused(options):
    with pytest.raises(InputError, match="num_steps and length must be positive"):
        loss_aware.start(**options)
