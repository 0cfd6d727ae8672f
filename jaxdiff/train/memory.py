"""L8: checks that sizes fit into memory, before anything is allocated or written.

Sizes are lower bounds: what is refused could not have worked, and what passes may still not fit.
"""

import math
from typing import Any

import jax

from jaxdiff.data.npz import host_memory
from jaxdiff.train.state import num_parameters
from jaxdiff.typing import InputError

BLOCK = 2**14
"""Bytes, at least, for tracing a block of a network."""
STEP = 20
"""Bytes of a solver's step: its two times, their grid, and a key."""
PROCESS = 2**25
"""Bytes, at least, of a worker process."""


def check_fits(name: str, value: Any, num_bytes: float, *, have: int | None = None) -> None:
    """Refuse a number whose arrays are larger than the available memory.

    Args:
        name: of the number.
        value: what was given.
        num_bytes: bytes that it needs at least.
        have: bytes that are available; by default those of this machine.

    Raises:
        InputError: with both sizes.

    Example:
        >>> check_fits("n", 10**9, 4e9, have=2**30)
        Traceback (most recent call last):
            ...
        jaxdiff.typing.InputError: n must fit into 1.0 GiB of memory, got 1000000000 (3.7 GiB)
    """
    have = host_memory() if have is None else have
    if num_bytes > have:
        raise InputError(
            f"{name} must fit into {have / 2**30:,.1f} GiB of memory, got {value} "
            f"({min(num_bytes, 10**300) / 2**30:,.1f} GiB)"
        )


def of_devices() -> int:
    """Bytes of memory of all devices of all processes; a CPU device has the machine's."""
    limits = [(device.memory_stats() or {}).get("bytes_limit") for device in jax.local_devices()]
    found = [limit for limit in limits if limit is not None]
    mine = sum(found) if len(found) == len(limits) else host_memory()
    return mine * jax.process_count()


def check_examples(name: str, n: int, shape: tuple[int, ...], *, itemsize: int = 4) -> None:
    """Refuse more examples of this shape and item size than all devices together can hold."""
    check_fits(name, n, n * math.prod(shape) * itemsize, have=of_devices())


def check_state(state: Any) -> None:
    """Refuse a training state, given by its shapes, that all devices together cannot hold."""
    leaves = jax.tree.leaves(state)
    num_bytes = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
    parameters = f"{num_parameters(state):,} parameters"
    check_fits("the training state", parameters, num_bytes, have=of_devices())
