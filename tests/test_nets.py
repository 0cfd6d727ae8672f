"""Whole networks: counts and symmetries by hand, labels, dropout, precision."""

import functools
import math

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from net_tools import any_params, normal, shapes_of, silu

from jaxdiff.nets import MLP, UNet
from jaxdiff.nets.embeddings import Conditioning
from jaxdiff.typing import InputError

# Whole networks: the same claims for both

SMALL = {
    "unet": (functools.partial(UNet, channels=4, blocks_per_level=1), (3, 8, 8, 1)),
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
def test_output_is_zero_at_initialisation_and_of_the_inputs_shape_ever_after(name):
    net, apply, params, x = built(name)
    initial = jax.jit(net.init)(jax.random.key(0, impl="unsafe_rbg"), x, LEVEL, LABEL)
    np.testing.assert_array_equal(apply(initial, x, LEVEL, LABEL), np.zeros(x.shape))
    out = apply(params, x, LEVEL, LABEL)
    assert out.shape == x.shape
    assert np.all(np.abs(out) > 0)


@pytest.mark.parametrize("name", SMALL)
def test_gradient_reaches_every_number_of_every_parameter(name):
    """But one: a bias on the keys adds the same to all logits of a pixel, and softmax drops it."""
    _, _, params, x = built(name)
    weights = normal(x.shape, seed=3)
    found = [gradients(name)(any_params(params, seed), x, weights)[0] for seed in range(3)]
    found = jax.tree.map(lambda *leaves: np.sum(np.abs(leaves), axis=0), *found)
    for path, size in jax.tree_util.tree_leaves_with_path(found):
        where = jax.tree_util.keystr(path)
        if "SelfAttention" in where and where.endswith("['Dense_0']['bias']"):
            third = size.shape[0] // 3
            keys, size = size[third : 2 * third], np.delete(size, np.s_[third : 2 * third])
            assert np.max(keys) < 1e-5 * np.max(size), where
        assert np.min(size) > 1e-5 * np.max(size), where


@pytest.mark.parametrize("name", SMALL)
def test_output_depends_on_level_label_and_data_of_its_own_example_alone(name):
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


def test_jit_changes_nothing_and_neither_does_a_second_call():
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
def test_a_label_given_or_withheld_wrongly_is_refused(name):
    make, shape = SMALL[name]
    x, label = jnp.zeros(shape), jnp.zeros(3, int)
    with pytest.raises(InputError, match="num_classes=None takes no label, got label="):
        jax.eval_shape(make().init, jax.random.key(0), x, LEVEL, label)
    with pytest.raises(InputError, match="num_classes=3 takes a label, got label=None"):
        jax.eval_shape(make(num_classes=3).init, jax.random.key(0), x, LEVEL)


# The U-Net


def unet_size(c, multipliers, blocks, attention_levels, colours, classes=0):
    """Number of parameters, from the diagram of Ho et al. 2020 and Dhariwal & Nichol 2021."""
    e = 4 * c

    def conv(a, b):
        return 9 * a * b + b

    def dense(a, b):
        return a * b + b

    def res(a, b):
        side = dense(a, b) if a != b else 0
        return 2 * a + conv(a, b) + dense(e, 2 * b) + 2 * b + conv(b, b) + side

    def attention(a):
        return 2 * a + dense(a, 3 * a) + dense(a, a)

    total = dense(e // 2, e) + dense(e, e) + classes * e + conv(colours, c)
    widths, skips, now = [c * m for m in multipliers], [c], c
    for depth, width in enumerate(widths):
        for _ in range(blocks):
            total += res(now, width) + (attention(width) if depth in attention_levels else 0)
            now = width
            skips.append(now)
        if depth < len(widths) - 1:
            total += conv(now, now)
            skips.append(now)
    total += 2 * res(now, now) + (attention(now) if attention_levels else 0)
    for depth, width in reversed(list(enumerate(widths))):
        for _ in range(blocks + 1):
            total += res(now + skips.pop(), width)
            total += attention(width) if depth in attention_levels else 0
            now = width
        if depth > 0:
            total += conv(now, now)
    assert not skips
    return total + 2 * now + conv(now, colours)


@pytest.mark.parametrize(
    ("c", "multipliers", "blocks", "attention_levels", "colours", "classes"),
    [
        (8, (1,), 1, (), 1, 0),
        (8, (1, 2), 1, (1,), 1, 0),
        (4, (1, 2, 3), 2, (0, 2), 3, 10),
        (64, (1, 2), 2, (1,), 1, 0),  # the defaults
    ],
)
def test_unet_has_as_many_parameters_as_its_diagram(
    c, multipliers, blocks, attention_levels, colours, classes
):
    net = UNet(c, multipliers, blocks, attention_levels, num_classes=classes or None)
    shapes = jax.eval_shape(
        net.init,
        jax.random.key(0),
        jnp.zeros((1, 8, 8, colours)),
        jnp.zeros(1),
        jnp.zeros(1, int) if classes else None,
    )
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    assert count == unet_size(c, multipliers, blocks, attention_levels, colours, classes)


@pytest.mark.parametrize(
    ("size", "levels", "factor"), [((7, 8), 2, 2), ((8, 9), 2, 2), ((6, 8), 3, 4), ((28, 28), 4, 8)]
)
def test_image_that_does_not_halve_at_every_level_is_refused(size, levels, factor):
    net = UNet(4, (1,) * levels)
    with pytest.raises(
        InputError,
        match=rf"U-Net of {levels} levels takes .* divide by {factor}, got {size[0]} x {size[1]}",
    ):
        jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, *size, 1)), jnp.zeros(1))


@pytest.mark.parametrize(("size", "colours", "levels"), [((4, 8), 3, 3), ((7, 5), 1, 1)])
def test_unet_takes_any_size_that_halves_and_any_colours(size, colours, levels):
    net = UNet(4, (1,) * levels, 1, ())
    x, level = jnp.asarray(normal((2, *size, colours))), jnp.ones(2)
    out = jax.jit(net.apply)(any_params(shapes_of(net, x, level)), x, level)
    assert out.shape == x.shape
    assert np.all(np.isfinite(out))


def test_every_pixel_of_the_output_sees_every_pixel_of_the_input():
    _, _, params, x = built("unet")
    for i, j in [(0, 0), (7, 3)]:
        weights = np.zeros(x.shape, np.float32)
        weights[0, i, j] = 1.0
        seen = np.abs(gradients("unet")(params, x, weights)[1])
        assert np.all(seen[0] > 1e-6 * seen.max())
        assert np.all(seen[1:] == 0)


def test_dropout_acts_in_training_alone_and_with_its_key_alone():
    _, apply, params, x = built("unet")
    net = UNet(channels=4, blocks_per_level=1, num_classes=3, dropout=0.5)

    @functools.partial(jax.jit, static_argnames="train")
    def run(key, train):
        return net.apply(params, x, LEVEL, LABEL, train=train, rngs={"dropout": key})

    keys = jax.random.split(jax.random.key(0))
    calm = run(keys[0], train=False)
    np.testing.assert_allclose(calm, apply(params, x, LEVEL, LABEL), rtol=1e-5, atol=1e-5)
    one, other = (run(key, train=True) for key in keys)
    np.testing.assert_array_equal(one, run(keys[0], train=True))
    for a, b in [(one, other), (one, calm)]:
        assert np.max(np.abs(a - b)) > 1e-2
    with pytest.raises(flax.errors.InvalidRngError, match="dropout"):
        jax.eval_shape(lambda: net.apply(params, x, LEVEL, LABEL, train=True))


# The MLP


@pytest.mark.parametrize("event", [(), (2, 3), (4, 4, 1)])
def test_mlp_takes_events_of_any_rank_and_sees_all_of_them(event):
    net = MLP(width=8, depth=1)
    x = jnp.asarray(normal((3, *event)))
    params = any_params(shapes_of(net, x, LEVEL))
    apply = jax.jit(net.apply)
    out = apply(params, x, LEVEL)
    assert out.shape == x.shape
    flat = apply(params, x.reshape(3, -1), LEVEL)
    np.testing.assert_allclose(out.reshape(3, -1), flat, rtol=1e-6, atol=1e-6)
    gradient = jax.grad(lambda x: apply(params, x, LEVEL)[0].sum())(x)
    assert np.all(np.abs(gradient[0]) > 0)
    assert np.all(gradient[1:] == 0)


@pytest.mark.parametrize(("width", "depth", "dim", "classes"), [(8, 1, 2, 0), (16, 3, 5, 4)])
def test_mlp_has_as_many_parameters_as_its_diagram(width, depth, dim, classes):
    net = MLP(width, depth, classes or None)
    label = jnp.zeros(1, int) if classes else None
    params = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, dim)), jnp.zeros(1), label)
    w = width
    conditioning = (w // 2 * w + w) + (w * w + w) + classes * w
    block = (2 * w * w + 2 * w) + 2 * w + 2 * (w * w + w)  # modulation, LayerNorm, two layers
    expected = conditioning + (dim * w + w) + depth * block + (w * dim + dim)
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == expected


def test_mlp_is_the_published_residual_network():
    """One block in numpy: LayerNorm, modulation, SiLU, layer, SiLU, layer, beside the identity."""
    net, x = MLP(width=8, depth=1), normal((3, 2))
    params = any_params(shapes_of(net, x, LEVEL))
    p = params["params"]
    conditioning = Conditioning(8)
    embedding = np.asarray(conditioning.apply({"params": p["Conditioning_0"]}, LEVEL))

    def dense(h, name):
        return h @ p[name]["kernel"] + p[name]["bias"]

    h = dense(x, "Dense_0")
    scale, shift = np.split(dense(embedding, "Dense_1"), 2, axis=1)
    r = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-6)
    r = r * p["LayerNorm_0"]["scale"] + p["LayerNorm_0"]["bias"]
    h = h + dense(silu(dense(silu(r * (1 + scale) + shift), "Dense_2")), "Dense_3")
    np.testing.assert_allclose(net.apply(params, x, LEVEL), dense(silu(h), "Dense_4"), atol=1e-5)
