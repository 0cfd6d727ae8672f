"""L7: the state of training as one pytree, and the pure step that moves it."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxdiff.typing import Array, Key, Params, PyTree

LossFn = Callable[[Params, Key, Mapping[str, Array]], Array]


class TrainState(struct.PyTreeNode):
    """All that training depends on, besides the data; saved whole, so that a resume is exact.

    Args:
        step: number of updates made, ``[]``.
        params: parameters that are trained.
        ema_params: their exponential moving average, which samples.
        opt_state: of the optax chain.
        key: root of all randomness; step k uses ``fold_in(key, k)``.
    """

    step: Array
    params: Params
    ema_params: Params
    opt_state: PyTree
    key: Key


def init_state(key: Key, params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """State before the first step; the average starts at the parameters themselves.

    Args:
        key: root of all randomness of training.
        params: to be trained.
        optimizer: the optax chain.

    Returns:
        The state at step 0.
    """
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema_params=jax.tree.map(jnp.copy, params),  # its own buffers, since steps donate them
        opt_state=optimizer.init(params),
        key=key,
    )


def train_step(
    state: TrainState,
    batch: Mapping[str, Array],
    *,
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    ema_decay: float,
) -> tuple[TrainState, dict[str, Array]]:
    """One update: a pure function, to be jitted with the state donated.

    Args:
        state: before.
        batch: ``{"x": [batch, ...], "label": [batch]}``.
        loss_fn: ``(params, key, batch) -> [batch]``.
        optimizer: the optax chain.
        ema_decay: of the moving average, reached after a warm-up.

    Returns:
        The state after, and ``{"loss", "grad_norm"}`` as device scalars.
    """
    key = jax.random.fold_in(state.key, state.step)

    def mean_loss(params: Params) -> Array:
        return jnp.mean(loss_fn(params, key, batch))

    loss, grads = jax.value_and_grad(mean_loss)(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    after = state.replace(
        step=state.step + 1,
        params=params,
        ema_params=ema_update(state.ema_params, params, state.step, decay=ema_decay),
        opt_state=opt_state,
    )
    return after, {"loss": loss, "grad_norm": optax.tree.norm(grads)}


def ema_update(average: Params, params: Params, step: Array, *, decay: float) -> Params:
    """Exponential moving average whose memory grows from a tenth of the run so far to its own.

    average ← d·average + (1 − d)·params,    d = min(decay, (1 + k)/(10 + k))

    Args:
        average: before.
        params: to be averaged in.
        step: number k of updates before this one.
        decay: in [0, 1).

    Returns:
        The average after.

    Reference: the warm-up of TensorFlow's ExponentialMovingAverage.
    """
    d = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    # so written, what never changes is averaged to itself, to the bit
    return jax.tree.map(lambda a, p: a + (1 - d) * (p - a), average, params)
