"""L9: the loss of examples that are not trained on, always of the same ones and the same noise."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import data
from jaxdiff.compiling import compiler_options
from jaxdiff.recipes.diffusion import PLAYER, Diffusion
from jaxdiff.train.state import BatchSlice, View
from jaxdiff.typing import Array, Params

MAX_EXAMPLES = 1024


def held_out_loss(model: Diffusion, test: data.Source) -> Callable[[Params], float]:
    """Build ``params -> mean loss`` over up to 1,024 examples of the test split.

    Args:
        model: whose objective it is.
        test: the split.

    Returns:
        A function that is compiled at its first call.
    """
    x, label = data.stack(test, limit=MAX_EXAMPLES, value_range=model.value_range)
    size = min(model.config.training.batch_size, len(x))
    turns = len(x) // size  # whole batches, so that one program serves
    cut = {"x": x, "label": label}
    cut = {k: v[: turns * size].reshape(turns, size, *v.shape[1:]) for k, v in cut.items()}
    objective = model.objective

    def mean_loss(params: Params, batches: Any) -> Array:
        def one(turn: tuple[Array, Any]) -> Array:
            index, batch = turn
            rows = index * size + jnp.arange(size)
            key = jax.random.key(model.config.seed)
            view = View({PLAYER: params}, {PLAYER: ()}, objective.carry)
            part = BatchSlice(rows, turns * size)
            return jnp.mean(objective.loss_fn(params, view, key, batch, part)[0])

        return jnp.mean(jax.lax.map(one, (jnp.arange(turns), batches)))

    compiled = jax.jit(mean_loss, compiler_options=compiler_options())
    return lambda params: float(np.asarray(compiled(params, cut)))
