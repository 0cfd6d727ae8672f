"""One compiled program for all processes: which of them it runs is one of its arguments."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from process_table import PROCESSES

from jaxdiff.processes import Process
from jaxdiff.typing import ArrayLike


class OneOf(Process):
    """The process at ``index`` among ``rows``."""

    index: ArrayLike
    rows: tuple[Process, ...]

    def log_alpha(self, t):
        return _of_row("log_alpha", self, jnp.asarray(t) * 1.0)

    def variance(self, t):
        return _of_row("variance", self, jnp.asarray(t) * 1.0)


@functools.partial(jax.jit, static_argnums=0)  # traced once, however often a program calls it
def _of_row(method, process, t):
    return jnp.stack([getattr(row, method)(t) for row in process.rows])[process.index]


def one_of(name, among=tuple(PROCESSES)):
    """The process of this name in the table, in the precision of now."""
    return OneOf(np.int32(among.index(name)), _rows(tuple(among), jnp.result_type(float)))


@functools.cache
def _rows(among, dtype):
    rows = tuple(PROCESSES[name].process for name in among)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), rows)
