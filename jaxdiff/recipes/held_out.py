"""L9: the loss of held-out examples, always the same ones with the same noise."""

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
        model: whose objective is evaluated.
        test: the split.

    Returns:
        A function that is compiled on its first call.
    """
    x, label = data.stack(test, limit=MAX_EXAMPLES, value_range=model.value_range)
    size = min(model.config.training.batch_size, len(x))
    num_batches = len(x) // size  # full batches, so that one program serves all
    cut = {"x": x, "label": label}
    cut = {
        k: v[: num_batches * size].reshape(num_batches, size, *v.shape[1:]) for k, v in cut.items()
    }
    objective = model.objective

    def mean_loss(params: Params, batches: Any) -> Array:
        def one(numbered: tuple[Array, Any]) -> Array:
            index, batch = numbered
            rows = index * size + jnp.arange(size)
            key = jax.random.key(model.config.seed)
            view = View({PLAYER: params}, {PLAYER: ()}, objective.carry)
            part = BatchSlice(rows, num_batches * size)
            return jnp.mean(objective.loss_fn(params, view, key, batch, part)[0])

        return jnp.mean(jax.lax.map(one, (jnp.arange(num_batches), batches)))

    compiled = jax.jit(mean_loss, compiler_options=compiler_options())
    return lambda params: float(np.asarray(compiled(params, cut)))
