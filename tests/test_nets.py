"""Whole networks: dependence of the output, labels, dropout, supported sizes."""

import functools
import re

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from net_tools import any_params, normal, shapes_of

from jaxdiff.nets import MLP, UNet
from jaxdiff.typing import InputError

# Whole networks: the same properties for both

SMALL = {
    "unet": (
        functools.partial(UNet, channels=4, blocks_per_level=1, attention_levels=()),
        (3, 8, 8, 1),
    ),
    "mlp": (functools.partial(MLP, width=16, depth=2), (3, 2)),
}
LEVEL = jnp.array([0.1, 0.5, 0.9])


LABEL = jnp.array([0, 1, 2])


@functools.cache
def built(name):
    """The network, its compiled forward pass, parameters for it, an input."""
    make, shape = SMALL[name]
    net, x = make(num_classes=3), jnp.asarray(normal(shape))
    return net, jax.jit(net.apply), any_params(shapes_of(net, x, LEVEL, LABEL)), x


@functools.cache
def gradients(name):
    """Compiled gradient of Σ weights · output, in the parameters and in the input."""
    net, _, _, _ = built(name)

    def total(params, x, weights):
        return jnp.sum(net.apply(params, x, LEVEL, LABEL) * weights)

    return jax.jit(jax.grad(total, argnums=(0, 1)))


@pytest.mark.parametrize("name", SMALL)
def test_output_is_zero_at_initialisation_and_has_the_shape_of_the_input(name):
    net, apply, params, x = built(name)
    initial = jax.jit(net.init)(jax.random.key(0, impl="unsafe_rbg"), x, LEVEL, LABEL)
    np.testing.assert_array_equal(apply(initial, x, LEVEL, LABEL), np.zeros(x.shape))
    out = apply(params, x, LEVEL, LABEL)
    assert out.shape == x.shape
    assert np.all(np.abs(out) > 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_gradient_reaches_every_number_of_every_parameter(name):
    """Except one: a bias on the keys shifts all logits of a pixel equally; softmax cancels it."""
    _, _, params, x = built(name)
    weights = normal(x.shape, seed=3)
    found = [gradients(name)(any_params(params, seed), x, weights)[0] for seed in range(3)]
    found = jax.tree.map(lambda *leaves: np.sum(np.abs(leaves), axis=0), *found)
    for path, size in jax.tree_util.tree_leaves_with_path(found):
        where = jax.tree_util.keystr(path)
        if where.endswith("['qkv']['bias']"):
            third = size.shape[0] // 3
            keys, size = size[third : 2 * third], np.delete(size, np.s_[third : 2 * third])
            assert np.max(keys) < 1e-5 * np.max(size), where
        assert np.min(size) > 1e-5 * np.max(size), where


@pytest.mark.parametrize("name", SMALL)
def test_output_depends_only_on_level_label_and_data_of_its_own_example(name):
    _, apply, params, x = built(name)
    out = apply(params, x, LEVEL, LABEL)
    other_level = apply(params, x, LEVEL.at[0].set(0.3), LABEL)
    other_label = apply(params, x, LEVEL, LABEL.at[0].set(1))
    other_x = apply(params, x.at[0].add(1.0), LEVEL, LABEL)
    for other in (other_level, other_label, other_x):
        assert np.max(np.abs(other[0] - out[0])) > 1e-2
        np.testing.assert_allclose(other[1:], out[1:], rtol=1e-6, atol=1e-6)
    reversed_out = apply(params, x[::-1], LEVEL[::-1], LABEL[::-1])
    np.testing.assert_allclose(reversed_out, out[::-1], rtol=1e-5, atol=1e-5)


def test_jit_and_a_second_call_do_not_change_the_output():
    net, apply, params, x = built("mlp")
    out = apply(params, x, LEVEL, LABEL)
    np.testing.assert_array_equal(out, apply(params, x, LEVEL, LABEL))
    with jax.disable_jit():
        eager = net.apply(params, x, LEVEL, LABEL)
    np.testing.assert_allclose(out, eager, rtol=1e-5, atol=1e-5)
    _, apply, params, x = built("unet")
    one, other = (apply(params, x, LEVEL, LABEL) for _ in range(2))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_input_gives_float32_output_near_that_of_float32(name):
    _, apply, params, x = built(name)
    rounded = x.astype(jnp.bfloat16)
    out = apply(params, rounded, LEVEL, LABEL)
    assert out.dtype == jnp.float32
    exact = apply(params, rounded.astype(jnp.float32), LEVEL, LABEL)
    np.testing.assert_allclose(out, exact, atol=2**-5 * np.max(np.abs(exact)))


@pytest.mark.parametrize("name", SMALL)
def test_an_unexpected_or_missing_label_is_refused(name):
    make, shape = SMALL[name]
    x, label = jnp.zeros(shape), jnp.zeros(3, int)
    with pytest.raises(InputError, match=r"label must be None .* num_classes=None, got "):
        jax.eval_shape(make().init, jax.random.key(0), x, LEVEL, label)
    with pytest.raises(InputError, match=r"label must be given .* num_classes=3, got None"):
        jax.eval_shape(make(num_classes=3).init, jax.random.key(0), x, LEVEL)
    with pytest.raises(InputError, match="label must be of an integer type, got float32"):
        jax.eval_shape(make(num_classes=3).init, jax.random.key(0), x, LEVEL, jnp.zeros(3))


# The U-Net


@pytest.mark.parametrize(("size", "colours", "levels"), [((4, 8), 3, 3), ((7, 5), 1, 1)])
def test_unet_accepts_any_size_that_halves_and_any_channels(size, colours, levels):
    net = UNet(4, (1,) * levels, 1, ())
    x, level = jnp.asarray(normal((2, *size, colours))), jnp.ones(2)
    out = jax.jit(net.apply)(any_params(shapes_of(net, x, level)), x, level)
    assert out.shape == x.shape
    assert np.all(np.isfinite(out))


def test_every_output_pixel_depends_on_every_input_pixel():
    _, _, params, x = built("unet")
    for i, j in [(0, 0), (7, 3)]:
        weights = np.zeros(x.shape, np.float32)
        weights[0, i, j] = 1.0
        seen = np.abs(gradients("unet")(params, x, weights)[1])
        assert np.all(seen[0] > 1e-6 * seen.max())
        assert np.all(seen[1:] == 0)


def without_addresses(program):
    return re.sub("0x[0-9a-f]+", "", str(program))


@pytest.mark.slow
def test_dropout_acts_only_in_training_and_depends_only_on_its_key():
    without, apply, params, x = built("unet")
    net = SMALL["unet"][0](num_classes=3, dropout=0.5)

    def run(key, train=True):
        return net.apply(params, x, LEVEL, LABEL, train=train, rngs={"dropout": key})

    keys = jax.random.split(jax.random.key(0))
    calm = jax.make_jaxpr(lambda key: run(key, train=False))(keys[0])
    plain = jax.make_jaxpr(lambda _: without.apply(params, x, LEVEL, LABEL))(keys[0])
    assert without_addresses(calm) == without_addresses(plain)
    in_training, calm = jax.jit(run), apply(params, x, LEVEL, LABEL)
    one, other = (in_training(key) for key in keys)
    np.testing.assert_array_equal(one, in_training(keys[0]))
    for a, b in [(one, other), (one, calm)]:
        assert np.max(np.abs(a - b)) > 1e-2
    with pytest.raises(flax.errors.InvalidRngError, match="dropout"):
        jax.eval_shape(lambda: net.apply(params, x, LEVEL, LABEL, train=True))
