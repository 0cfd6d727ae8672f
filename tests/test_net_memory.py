"""Saving memory does not change results: remat up to rounding, bfloat16 up to its eight bits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from net_tools import any_params, normal, shapes_of

from jaxdiff.nets import DDPM, UNet

LEVEL = jnp.array([0.2, 0.7])
# One level of one dimension: five blocks and one attention, whose gradient compiles in seconds.
TINY = functools.partial(UNet, 8, (1,), 1, (), dropout=0.5)
X = normal((2, 8, 2))
DTYPES = ("float32", "bfloat16")


@functools.cache
def program(**options):
    """The program for the gradients of mean output² in training and the output; and its inputs."""
    net = TINY(**options)
    variables = any_params(shapes_of(net, X, LEVEL))

    def loss(variables, key):
        y = net.apply(variables, X, LEVEL, train=True, rngs={"dropout": key})
        return jnp.mean(y**2), y

    return jax.jit(jax.grad(loss, has_aux=True)).trace(variables, jax.random.key(0)), variables


@functools.cache
def gradients(**options):
    traced, variables = program(**options)
    run = traced.lower().compile()
    return lambda seed: run(variables, jax.random.key(seed))


def concatenated(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@pytest.mark.slow
def test_remat_gives_the_same_output_gradients_and_dropout():
    for got, expected in zip(gradients(remat=True)(0), gradients()(0), strict=True):
        got, expected = concatenated(got), concatenated(expected)
        # the same sums in another order, ten layers of ≤ 3·16 terms: 2⁻²⁴ for each
        assert np.linalg.norm(got - expected) < 10 * 48 * 2**-24 * np.linalg.norm(expected)


@pytest.mark.slow
def test_dropout_under_remat_follows_its_key():
    run = gradients(remat=True)
    (_, one), (_, again), (_, other) = run(0), run(0), run(1)
    np.testing.assert_array_equal(one, again)
    assert np.max(np.abs(one - other)) > 1e-2


def test_remat_recomputes_a_convolution_in_every_block():
    """In the program. A block's last one is not recomputed, since no gradient needs its output."""
    again, once = (
        str(traced.jaxpr).count("conv_general_dilated[")
        for traced, _ in (program(remat=True), program())
    )
    assert again >= once + 5


@pytest.mark.slow
def test_bfloat16_is_near_float32_and_returns_it():
    x = normal((2, 8, 8, 3))
    nets = [DDPM(channels=16, multipliers=(1, 2), blocks_per_level=1, dtype=d) for d in DTYPES]
    variables = any_params(shapes_of(nets[0], x, LEVEL))
    expected, got = (jax.jit(net.apply)(variables, x, LEVEL) for net in nets)
    assert got.dtype == jnp.float32
    error = np.linalg.norm(got - expected) / np.linalg.norm(expected)
    assert 1e-4 < error < 0.02  # 2⁻⁹ per rounding, about twenty in sequence; but not zero


@pytest.mark.slow
def test_gradients_in_bfloat16_are_finite_float32_and_near_those_of_float32():
    (got, _), (expected, _) = gradients(dtype="bfloat16")(0), gradients()(0)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(got)} == {"float32"}
    got, expected = concatenated(got), concatenated(expected)
    assert np.all(np.isfinite(got))
    # 2⁻⁹ per rounding, about ten in sequence
    assert np.linalg.norm(got - expected) < 0.02 * np.linalg.norm(expected)


def test_in_bfloat16_only_parameters_input_and_output_are_float32():
    net = TINY(dtype="bfloat16")
    variables = shapes_of(net, X, LEVEL)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}
    program = str(jax.make_jaxpr(net.apply)(variables, X, LEVEL)).splitlines()
    convolved = [line for line in program if "= conv_general_dilated[" in line]
    assert len(convolved) == 2 + 2 * 5
    inner = [":bf16[" in line for line in convolved]
    assert inner == [False] + [True] * 10 + [False]
