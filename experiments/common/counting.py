"""How often sampling evaluates the network, counted as it runs instead of by a formula."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff.predictions import Denoised, DenoiseFn
from jaxdiff.processes import Process
from jaxdiff.recipes import Run
from jaxdiff.typing import Array, ArrayLike

ADAPTIVE = "adaptive"


def evaluations(run: Run, **choices: Any) -> int | None:
    """Number of evaluations of the network for one sample.

    The sampler runs on a model that only counts, so this takes a second for any network.

    Args:
        run: a trained run.
        **choices: as in :meth:`Run.sample`: ``solver``, ``num_steps``, ...

    Returns:
        The number, with that of a final denoising; None for an adaptive solver, where it depends
        on the samples.

    Example:
        >>> from jaxdiff import recipes
        >>> from jaxdiff.recipes.diffusion import init_params
        >>> model = recipes.assemble(recipes.Config(network=recipes.choice("mlp")), (2,), None)
        >>> run = recipes.Run(model, init_params(model, jax.random.key(0)))
        >>> evaluations(run, solver="heun", num_steps=10)  # 2 in each step, and the last denoising
        21
    """
    if (choices.get("solver") or run.config.sampling.solver.name) == ADAPTIVE:
        return None
    calls: list[None] = []

    def counting(denoise_fn: DenoiseFn, process: Process) -> DenoiseFn:
        def model(x: Array, t: ArrayLike) -> Denoised:
            jax.debug.callback(lambda: calls.append(None))
            shapes = jax.eval_shape(denoise_fn, x, t)
            return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        return model

    jax.block_until_ready(run.sample(jax.random.key(0), 1, guide=counting, **choices))
    jax.effects_barrier()
    return len(calls)
