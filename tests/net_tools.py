"""Shared by the network tests: nowhere-zero parameters, and layers in numpy."""

import math

import jax
import numpy as np

from jaxdiff.nets.variables import init_shapes

shapes_of = init_shapes


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def count(tree):
    """Total size of all leaves, which are arrays or shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def any_params(shapes, seed=0):
    """Nowhere-zero parameters, of about the size that they have after training."""
    rng = np.random.default_rng(seed)

    def draw(leaf):
        fan_in = math.prod(leaf.shape[:-1])
        return (rng.normal(size=leaf.shape) / np.sqrt(fan_in)).astype(np.float32)

    return jax.tree.map(draw, shapes)


def rounding(terms, size):
    """The rounding error of float32 in a sum of ``terms`` terms of that size: 2⁻²⁴ for each."""
    return terms * size * 2.0**-24


def silu(x):
    return x / (1 + np.exp(-x))


ACTIVATIONS = {  # in plain numpy
    "silu": silu,
    "elu": lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1),
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "": lambda x: x,
}


def dense(x, p):
    return x @ p["kernel"] + p["bias"]


def wide(vector, image):
    """``[batch, c]`` made to broadcast with ``[batch, ..., c]``."""
    return vector.reshape(len(vector), *(1,) * (image.ndim - 2), -1)


def group_norm(x, groups, gamma, beta, epsilon=1e-6):
    """Wu & He 2018, eq. 1 and 2, a loop over examples and groups."""
    y = np.empty_like(x, dtype=np.float64)
    size = x.shape[-1] // groups
    for i in range(x.shape[0]):
        for g in range(groups):
            own = slice(g * size, (g + 1) * size)
            part = x[i, ..., own].astype(np.float64)
            y[i, ..., own] = (part - part.mean()) / np.sqrt(part.var() + epsilon)
    return y * gamma + beta


def convolve(x, p, stride=1, pad=(1, 1)):
    """Three pixels wide along every axis of the image, one offset at a time."""
    axes = x.ndim - 2
    padded = np.pad(x, [(0, 0), *[pad] * axes, (0, 0)])
    sizes = [(side - 3) // stride + 1 for side in padded.shape[1:-1]]
    total = p["bias"].astype(np.float64)
    for offset in np.ndindex(*(3,) * axes):
        ends = [o + stride * (n - 1) + 1 for o, n in zip(offset, sizes, strict=True)]
        window = [slice(o, end, stride) for o, end in zip(offset, ends, strict=True)]
        total = total + padded[:, *window] @ p["kernel"][offset]
    return total


def upfirdn(x, weights, *, up=1, down=1, before=0, after=0):
    """StyleGAN2's resampling, axis by axis, pixel by pixel: zeros, padding, convolution, stride."""
    taps = up * np.asarray(weights, np.float64) / np.sum(weights)
    for axis in range(1, x.ndim - 1):
        rows = np.moveaxis(np.asarray(x, np.float64), axis, 0)
        spread = np.zeros((up * len(rows), *rows.shape[1:]))
        spread[::up] = rows
        padded = np.pad(spread, [(before, after)] + [(0, 0)] * (rows.ndim - 1))
        out = []
        for start in range(0, len(padded) - len(taps) + 1, down):
            pixel = np.zeros(rows.shape[1:])
            for j, tap in enumerate(taps):
                pixel += tap * padded[start + len(taps) - 1 - j]
            out.append(pixel)
        x = np.moveaxis(np.stack(out), 0, axis)
    return x


def halved(x, weights):
    """downsample_2d of StyleGAN2, whose padding is (p + 1)//2 and p//2 with p = taps − 2."""
    p = len(weights) - 2
    return upfirdn(x, weights, down=2, before=(p + 1) // 2, after=p // 2)


def doubled(x, weights):
    """upsample_2d of StyleGAN2."""
    p = len(weights) - 2
    return upfirdn(x, weights, up=2, before=(p + 1) // 2 + 1, after=p // 2)


def doubled_by_convolution(x, p, weights):
    """upsample_conv_2d of StyleGAN2: insert zeros, convolve with full padding, filter."""
    stuffed = np.zeros((x.shape[0], *(2 * side - 1 for side in x.shape[1:-1]), x.shape[-1]))
    stuffed[:, *(slice(None, None, 2),) * (x.ndim - 2)] = x
    without_bias = {"kernel": p["kernel"], "bias": np.zeros_like(p["bias"])}
    spread = convolve(stuffed, without_bias, pad=(2, 2))
    gain = 2 ** (x.ndim - 2)  # of the filter, for the zeros
    pad = len(weights) // 2 - 1
    return gain * upfirdn(spread, weights, before=pad, after=pad) + p["bias"]


def smoothed(x, weights):
    """The filter that conv_downsample_2d of StyleGAN2 applies before its 3-pixel convolution."""
    p = len(weights) - 2 + 2
    return upfirdn(x, weights, before=(p + 1) // 2, after=p // 2)
