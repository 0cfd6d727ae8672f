"""One compiled program for all processes, which takes the choice of process as an argument."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from process_table import PROCESSES

from jaxdiff.processes import DiscreteVP, Process
from jaxdiff.typing import ArrayLike


class OneOf(Process):
    """The process at ``place`` among ``rows``."""

    place: ArrayLike
    rows: tuple[Process, ...]

    def log_alpha(self, t):
        return _of_row("log_alpha", self, jnp.asarray(t) * 1.0)

    def variance(self, t):
        return _of_row("variance", self, jnp.asarray(t) * 1.0)


@functools.partial(jax.jit, static_argnums=0)  # traced once per program, however often it is called
def _of_row(method, process, t):
    return jnp.stack([getattr(row, method)(t) for row in process.rows])[process.place]


def one_of(name, among=tuple(PROCESSES)):
    """The process of this name in the table, in the current precision."""
    dtype = jnp.result_type(float)
    kinds = _kinds(tuple(among), dtype) | _kinds((name,), dtype)
    kind = type(PROCESSES[name].process)
    return OneOf(np.int32(list(kinds).index(kind)), tuple(kinds.values()))


@functools.cache
def _kinds(names, dtype):
    """One process of each kind: those of one kind differ only in numbers, which are arguments."""
    rows = [_equally_long(PROCESSES[name].process) for name in names]
    rows = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), rows)
    return {type(row): row for row in rows}


def _equally_long(process):
    """The same function of time, with as many nodes as the longest chain of its kind."""
    if not isinstance(process, DiscreteVP):
        return process
    nodes = np.linspace(0, 1, process.num_steps + 1)
    return DiscreteVP(np.interp(np.linspace(0, 1, 1001), nodes, process.log_alphas))
