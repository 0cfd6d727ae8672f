"""Images inside the step: flipped half of the time, dequantised, or scaled."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from net_tools import shapes_of
from players import loss_of
from tiny import tiny_config

from jaxdiff import data, recipes
from jaxdiff.recipes import Run
from jaxdiff.recipes.diffusion import assemble
from jaxdiff.train.state import BatchSlice
from jaxdiff.typing import InputError

BYTES = np.arange(256, dtype=np.uint8)
DYADIC = [(-1.0, 1.0), (0.0, 1.0), (-0.5, 0.5)]
RANGES = [*DYADIC, (0.0, 255.0), (0.1, 0.7), (-3.0, 10.0), (1.0, 2.0)]


def keys(n, seed=0):
    return jax.random.split(jax.random.key(seed), n)


def images(n=23, shape=(5, 4, 3)):
    return np.random.default_rng(0).integers(0, 256, (n, *shape), np.uint8)


def spread(value_range, times=200):
    x = jax.jit(data.dequantize, static_argnums=2)(
        keys(times), jnp.tile(BYTES, (times, 1)), value_range
    )
    assert x.dtype == jnp.float32
    return np.asarray(x, np.float64)


@pytest.mark.parametrize("value_range", RANGES)
def test_scaling_in_the_step_matches_numpy_bit_for_bit(value_range):
    scaled = jax.jit(data.scale, static_argnums=1)(jnp.asarray(BYTES), value_range)
    np.testing.assert_array_equal(scaled, data.to_floats(BYTES, value_range))


def test_flips_are_mirror_images_half_of_the_time():
    x = np.repeat(images(), 400, axis=0)
    flipped = np.asarray(jax.jit(data.flip)(keys(len(x)), x))
    assert flipped.dtype == np.uint8
    is_plain = (flipped == x).all(axis=(1, 2, 3))
    is_mirrored = (flipped == x[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (is_plain ^ is_mirrored).all()
    assert abs(is_mirrored.sum() - len(x) / 2) < 5 * np.sqrt(len(x) / 4)


@pytest.mark.parametrize("value_range", RANGES)
def test_dequantised_floor_is_the_byte(value_range):
    low, high = value_range
    # If the range is not dyadic, float32 rounds x by half a unit in the last place.
    slack = np.spacing(np.float32(max(abs(low), abs(high)))) * 256 / (high - low)
    slack *= value_range not in DYADIC
    fraction = (spread(value_range) - low) * 256 / (high - low) - BYTES
    assert fraction.min() >= -slack
    assert fraction.max() < 1 + slack


def test_dequantisation_is_uniform_and_differs_between_images():
    fraction = spread((0.0, 1.0)) * 256 - BYTES
    n = fraction.size
    assert abs(fraction.mean() - 1 / 2) < 5 * np.sqrt(1 / 12 / n)
    assert abs((fraction**2).mean() - 1 / 3) < 5 * np.sqrt((1 / 5 - 1 / 9) / n)
    assert abs(np.corrcoef(fraction[0], fraction[1])[0, 1]) < 5 / np.sqrt(256)


@pytest.mark.parametrize("value_range", DYADIC[:2])
def test_bytes_come_back_from_dequantised_floats(value_range):
    got = data.to_uint8(spread(value_range), value_range, dequantized=True)
    np.testing.assert_array_equal(got, np.tile(BYTES, (200, 1)))


@pytest.mark.parametrize("prepare", [lambda x, r: data.dequantize(keys(1), x, r), data.scale])
def test_a_range_that_does_not_increase_is_refused(prepare):
    with pytest.raises(InputError, match="low < high"):
        prepare(jnp.zeros((1, 2), jnp.uint8), (1.0, 1.0))


def loss_fns(**options):
    """The loss of a network that returns nothing, of floats and of bytes."""
    config = tiny_config(data=recipes.DataConfig(name="digits", **options))
    run = Run(assemble(config, (4, 6, 1), None))
    params = shapes_of(run.network, jnp.zeros((1, 4, 6, 1)), jnp.ones(1))
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.1, np.float32), params)
    return [(loss_of(run.model, stored=stored), params) for stored in (False, True)]


def test_the_loss_of_bytes_equals_that_of_their_floats():
    (plain, params), (of_bytes, _) = loss_fns(low=0.0)
    x, label = images(5, (4, 6, 1)), np.zeros(5, np.int32)
    key = jax.random.key(3)
    floats = data.to_floats(x, (0.0, 1.0))
    expected = jax.jit(plain)(params, key, {"x": floats, "label": label})
    got = jax.jit(of_bytes)(params, key, {"x": x, "label": label})
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("option", ["flip", "dequantize"])
def test_the_randomness_of_a_row_does_not_depend_on_its_position(option):
    _, (of_bytes, params) = loss_fns(**{option: True})
    (_, (without, _)) = loss_fns()

    @jax.jit
    def losses(params, key, batch):
        part = jax.tree.map(lambda leaf: leaf[1::2], batch)
        own = of_bytes(params, key, part, BatchSlice(np.arange(1, 16, 2), 16))
        return of_bytes(params, key, batch), own, without(params, key, batch)

    batch = {"x": images(16, (4, 6, 1)), "label": np.zeros(16, np.int32)}
    whole, own, plain = losses(params, jax.random.key(3), batch)
    np.testing.assert_allclose(own, whole[1::2], rtol=1e-5)
    assert not np.allclose(plain, whole, rtol=1e-5)


def test_image_options_are_refused_for_vectors():
    config = tiny_config(data=dataclasses.replace(tiny_config().data, flip=True))
    with pytest.raises(InputError, match="flip and dequantize must be false for vectors"):
        Run(assemble(config, (2,), None))
