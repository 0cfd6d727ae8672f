"""The diffusion transformer: its published size, and its parts against plain numpy."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from net_tools import any_params, normal, shapes_of

from jaxdiff.nets import DiT
from jaxdiff.nets.dit import DiTBlock, from_tokens, positions, to_tokens
from jaxdiff.typing import InputError

LEVEL = np.float32([0.1, 0.7])


def test_dit_xl_has_the_published_number_of_parameters():
    """Peebles & Xie's training log: 675,129,632, including 256 fixed positions of 1152 numbers."""
    net = DiT(features=1152, depth=28, heads=16, num_classes=1001, num_outputs=2)
    shapes = shapes_of(net, jnp.zeros((1, 32, 32, 4)), jnp.zeros(1), jnp.zeros(1, int))
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    assert count + 256 * 1152 == 675_129_632


def softmax_attention(q, k, v, heads):
    tokens, features = q.shape
    dim, out = features // heads, np.empty_like(q)
    for head in range(heads):
        own = slice(head * dim, (head + 1) * dim)
        for i in range(tokens):
            weights = np.exp(k[:, own] @ q[i, own] / math.sqrt(dim))
            out[i, own] = weights @ v[:, own] / weights.sum()
    return out


def layer_norm(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


def test_a_block_is_the_published_one():
    """Attention, then a perceptron with GELU, each between modulation and gate (adaLN-Zero)."""
    x, embedding, block = normal((1, 5, 12)), normal((1, 7), seed=1), DiTBlock(heads=3)
    params = any_params(shapes_of(block, x, embedding))
    p = params["params"]

    def dense(h, name):
        return h @ p[name]["kernel"] + p[name]["bias"]

    shift_a, scale_a, gate_a, shift_b, scale_b, gate_b = np.split(
        dense(embedding, "modulation")[0], 6
    )
    h = x[0]
    q, k, v = np.split(dense(layer_norm(h) * (1 + scale_a) + shift_a, "qkv"), 3, axis=-1)
    h = h + gate_a * dense(softmax_attention(q, k, v, heads=3), "out")
    wide = dense(layer_norm(h) * (1 + scale_b) + shift_b, "mlp_0")
    gelu = 0.5 * wide * (1 + np.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)))
    h = h + gate_b * dense(gelu, "mlp_1")
    got = jax.jit(block.apply)(params, x, embedding)
    np.testing.assert_allclose(got[0], h, rtol=1e-4, atol=1e-4)


def test_a_new_block_is_the_identity():
    x, embedding, block = normal((2, 4, 8)), normal((2, 3), seed=1), DiTBlock(heads=2)
    new, _ = jax.jit(block.init_with_output)(jax.random.key(0), x, embedding)
    np.testing.assert_array_equal(new, x)


@pytest.mark.parametrize("sides", [(6,), (4, 6), (2, 4, 6)])
def test_tokens_are_the_patches_in_row_order_and_unpatchify_inverts(sides):
    x = normal((2, *sides, 3))
    tokens, back = jax.jit(lambda x: (to_tokens(x, 2), from_tokens(to_tokens(x, 2), 2, sides)))(x)
    tokens = np.asarray(tokens)
    for index, corner in enumerate(np.ndindex(*(side // 2 for side in sides))):
        patch = x[(slice(None), *(slice(2 * c, 2 * c + 2) for c in corner))]
        np.testing.assert_array_equal(tokens[:, index], patch.reshape(2, -1))
    np.testing.assert_array_equal(back, x)


def test_positions_are_sines_and_cosines_of_each_axis():
    got = np.asarray(jax.jit(lambda: positions((3, 5), 8))())[0].reshape(3, 5, 8)
    for i in range(3):
        for j in range(5):
            rates = 10_000.0 ** -np.arange(2.0)
            expected = [np.sin(i * rates), np.cos(i * rates), np.sin(j * rates), np.cos(j * rates)]
            np.testing.assert_allclose(got[i, j], np.concatenate(expected), atol=1e-6)


SMALL = functools.partial(DiT, features=12, depth=2, heads=3)


X, LABEL = normal((2, 4, 4, 2)), np.array([0, 3])


@functools.cache
def small(**options):
    """The network, its compiled forward pass, parameters for it."""
    net = SMALL(num_classes=4, **options)
    return net, jax.jit(net.apply), any_params(shapes_of(net, X, LEVEL, LABEL))


@functools.cache
def initialised():
    """The output of a new network, and its parameters."""
    net, _, _ = small()
    return jax.jit(net.init_with_output)(jax.random.key(0), X, LEVEL, LABEL)


def test_a_new_network_returns_zero_and_a_trained_one_uses_all_inputs():
    _, apply, params = small()
    np.testing.assert_array_equal(initialised()[0], np.zeros(X.shape))
    out = apply(params, X, LEVEL, LABEL)
    assert out.shape == X.shape
    other_x = X.copy()
    other_x[0, 0, 0, 0] += 1.0
    for other in (
        apply(params, X, np.float32([0.3, LEVEL[1]]), LABEL),
        apply(params, X, LEVEL, np.array([1, LABEL[1]])),
        apply(params, other_x, LEVEL, LABEL),
    ):
        assert np.all(np.abs(other[0] - out[0]) > 0)
        np.testing.assert_allclose(other[1], out[1], rtol=1e-5, atol=1e-5)


def test_each_scanned_block_has_its_own_parameters():
    _, apply, params = small()
    initial = np.asarray(initialised()[1]["params"]["blocks"]["qkv"]["kernel"])
    assert initial.shape == (2, 12, 36)
    assert np.all(initial[0] != initial[1])
    swapped = dict(params["params"])
    swapped["blocks"] = jax.tree.map(lambda leaf: leaf[::-1], swapped["blocks"])
    out, other = (
        np.asarray(apply({"params": p}, X, LEVEL, LABEL)) for p in (params["params"], swapped)
    )
    assert np.max(np.abs(out - other)) > 1e-2


@pytest.mark.slow
def test_remat_does_not_change_gradients():
    def gradient(**options):
        net, _, params = small(**options)
        return jax.jit(jax.grad(lambda p: jnp.sum(net.apply(p, X, LEVEL, LABEL) ** 2)))(params)

    plain, again = gradient(), gradient(remat=True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-4), plain, again)


def test_bfloat16_is_within_two_percent_and_returns_float32():
    _, apply, params = small()
    exact, rounded = (
        np.asarray(run(params, X, LEVEL, LABEL)) for run in (apply, small(dtype="bfloat16")[1])
    )
    assert rounded.dtype == np.float32
    assert np.linalg.norm(rounded - exact) < 0.02 * np.linalg.norm(exact)


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({"heads": 5}, (1, 4, 4, 1), "features must be a multiple of heads, got 12 for 5"),
        ({"patch": 3}, (1, 4, 4, 1), "whose sides are multiples of 3, got 4 x 4"),
        ({}, (1, 2), "got vectors"),
        ({"depth": 0}, (1, 4, 4, 1), "depth must be a positive integer, got 0"),
        ({"features": 6}, (1, 4, 4, 1), "features must be a multiple of 4 for 2 axes, got 6"),
        ({"dtype": "half"}, (1, 4, 4, 1), "dtype must be one of float32, bfloat16, got 'half'"),
    ],
)
def test_invalid_dits_are_refused(options, shape, message):
    with pytest.raises(InputError, match=message):
        shapes_of(SMALL(**options), jnp.zeros(shape), jnp.zeros(1))
