"""What the tests of the networks share: shapes without compute, and parameters nowhere zero."""

import functools
import math

import jax
import numpy as np


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def shapes_of(net, *args, **kwargs):
    return jax.eval_shape(functools.partial(net.init, **kwargs), jax.random.key(0), *args)


def any_params(shapes, seed=0):
    """Parameters that are nowhere zero, of about the size that a network has after training."""
    rng = np.random.default_rng(seed)

    def draw(leaf):
        fan_in = math.prod(leaf.shape[:-1])
        return (rng.normal(size=leaf.shape) / np.sqrt(fan_in)).astype(np.float32)

    return jax.tree.map(draw, shapes)


def silu(x):
    return x / (1 + np.exp(-x))
