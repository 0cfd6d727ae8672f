"""Time grids that visit nodes of a chain: the "leading", "trailing" and "linspace" spacings.

Published samplers number the steps of a chain of T from 0 to T − 1; step τ is our time (τ + 1)/T,
and the last step goes to the data, our t = 0. Where n does not divide T they differ in the number
of steps they take; here it is always n.
"""

import jax.numpy as jnp
import numpy as np

from jaxdiff.checks import is_count
from jaxdiff.typing import Array, Float, InputError


def leading_times(
    num_steps: int, *, chain_steps: int = 1000, offset: int = 0
) -> Float[Array, "{num_steps}+1"]:
    """Every ⌊T/n⌋-th step of the chain from its first: τ_j = j ⌊T/n⌋ + offset.

    The spacing of DDIM's and Stable Diffusion's samplers (the latter with offset 1). It starts
    below t = 1, for n = 10 at 0.901, though the initial sample has the noise of t = 1.

    Args:
        num_steps: number n of steps, at most T.
        chain_steps: length T of the chain.
        offset: added to every τ.

    Returns:
        Strictly decreasing from ((n − 1)⌊T/n⌋ + offset + 1)/T to 0.

    Raises:
        InputError: if n is outside 1 … T, or the offset exceeds the chain.

    Example:
        >>> leading_times(4)
        Array([0.751, 0.501, 0.251, 0.001, 0.   ], dtype=float32)

    Reference: Lin et al. 2023, table 2.
    """
    _check_steps(num_steps, chain_steps)
    taus = np.arange(num_steps)[::-1] * (chain_steps // num_steps) + offset
    if not 0 <= offset <= chain_steps - 1 - (taus[0] - offset):
        raise InputError(
            f"offset must be from 0 to {chain_steps - 1 - (taus[0] - offset)} for {num_steps} "
            f"leading times on a chain of {chain_steps} steps, got {offset}"
        )
    return _to_the_data(taus + 1, chain_steps)


def trailing_times(num_steps: int, *, chain_steps: int = 1000) -> Float[Array, "{num_steps}+1"]:
    """From the chain's last step, t = 1, in rounded steps of T/n: τ_j + 1 = round(T − jT/n).

    Args:
        num_steps: number n of steps, at most T.
        chain_steps: length T of the chain.

    Returns:
        Strictly decreasing from 1 to 0.

    Raises:
        InputError: if n is outside 1 … T.

    Example:
        >>> trailing_times(3)
        Array([1.   , 0.667, 0.333, 0.   ], dtype=float32)

    Reference: Lin et al. 2023, table 2.
    """
    _check_steps(num_steps, chain_steps)
    nodes = np.round(chain_steps * np.arange(num_steps, 0, -1) / num_steps)
    return _to_the_data(nodes, chain_steps)


def linspace_times(num_steps: int, *, chain_steps: int = 1000) -> Float[Array, "{num_steps}+1"]:
    """Evenly spaced from one end of the chain to the other: τ = round(linspace(0, T − 1, n)).

    A single step starts at the noise, t = 1, although the formula would start at the data.

    Args:
        num_steps: number n of steps, at most T.
        chain_steps: length T of the chain.

    Returns:
        Strictly decreasing from 1 via 1/T (if n > 1) to 0.

    Raises:
        InputError: if n is outside 1 … T.

    Example:
        >>> linspace_times(4)
        Array([1.   , 0.667, 0.334, 0.001, 0.   ], dtype=float32)

    Reference: Lin et al. 2023, table 2.
    """
    _check_steps(num_steps, chain_steps)
    if num_steps == 1:
        return trailing_times(1, chain_steps=chain_steps)
    nodes = np.round(np.linspace(0, chain_steps - 1, num_steps))[::-1] + 1
    return _to_the_data(nodes, chain_steps)


def _to_the_data(nodes: np.ndarray, chain_steps: int) -> Array:
    """Nodes i of the chain as times i/T, rounded once, followed by 0."""
    return jnp.asarray(np.append(nodes, 0.0) / chain_steps, jnp.result_type(float))


def _check_steps(num_steps: int, chain_steps: int) -> None:
    if not (is_count(num_steps) and is_count(chain_steps) and num_steps <= chain_steps):
        raise InputError(
            "num_steps must be an integer from 1 to chain_steps, the length of the chain, got "
            f"num_steps={num_steps}, chain_steps={chain_steps}"
        )
