"""The decoders as their tests run them: compiled once, in either precision."""

import functools

import jax
import numpy as np
from assertions import float64

from jaxdiff.losses import decoders

gaussian = jax.jit(decoders.gaussian)


@functools.cache
def discretized(num_levels, **levels):
    bound = functools.partial(decoders.discretized_gaussian, num_levels=num_levels, **levels)
    return jax.jit(bound)


def in_both(decoder, *arguments):
    """The decoder's results in float32 and in float64, each with its tolerance."""
    decoder = jax.jit(decoder)
    yield decoder(*(np.asarray(part, np.float32) for part in arguments)), 1e-4
    with float64():
        yield decoder(*(np.asarray(part, np.float64) for part in arguments)), 1e-10
