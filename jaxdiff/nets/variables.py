"""L6: the variables of a network, for all who make them or need their shapes alone.

A network is traced once for each shape of its arguments, however often it is built again.
"""

import functools
from typing import Any

import flax.linen as nn
import jax

from jaxdiff.typing import Key, Params


@functools.partial(jax.jit, static_argnums=0)
def init(net: nn.Module, key: Key, *args: Any) -> Params:
    """Variables before training, for arguments of the network as ``net.init`` takes them.

    Example:
        >>> import jax.numpy as jnp
        >>> init(nn.Dense(2), jax.random.key(0), jnp.zeros((1, 3)))["params"]["kernel"].shape
        (3, 2)
    """
    variables: Params = net.init(key, *args)
    return variables


def init_shapes(net: nn.Module, *args: Any) -> Params:
    """The same as shapes, by tracing alone.

    Example:
        >>> import jax.numpy as jnp
        >>> init_shapes(nn.Dense(2), jnp.zeros((1, 3)))["params"]["kernel"].shape
        (3, 2)
    """
    shapes: Params = jax.eval_shape(functools.partial(init, net), jax.random.key(0), *args)
    return shapes
