"""L7: the loss of examples that are not trained on, always of the same ones and the same noise."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import data
from jaxdiff.compiling import compiler_options
from jaxdiff.train import objective
from jaxdiff.train.run import Run
from jaxdiff.train.state import BatchSlice
from jaxdiff.typing import Array, Params

MAX_EXAMPLES = 1024


def held_out_loss(run: Run, test: data.Source) -> Callable[[Params], float]:
    """Build ``params -> mean loss`` over up to 1,024 examples of the test split.

    Args:
        run: the configuration, network and process.
        test: the split.

    Returns:
        A function that is compiled at its first call.
    """
    x, label = data.stack(test, limit=MAX_EXAMPLES, value_range=run.value_range)
    size = min(run.config.training.batch_size, len(x))
    turns = len(x) // size  # whole batches, so that one program serves
    cut = {"x": x, "label": label}
    cut = {k: v[: turns * size].reshape(turns, size, *v.shape[1:]) for k, v in cut.items()}
    loss_fn = objective.loss_fn(run.config, run.network, run.process)

    def mean_loss(params: Params, batches: Any) -> Array:
        def one(turn: tuple[Array, Any]) -> Array:
            index, batch = turn
            rows = index * size + jnp.arange(size)
            key = jax.random.key(run.config.seed)
            return jnp.mean(loss_fn(params, key, batch, BatchSlice(rows, turns * size)))

        return jnp.mean(jax.lax.map(one, (jnp.arange(turns), batches)))

    compiled = jax.jit(mean_loss, compiler_options=compiler_options())
    return lambda params: float(np.asarray(compiled(params, cut)))
