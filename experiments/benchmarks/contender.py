"""What is timed: the same three jobs for every system."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxdiff
from experiments.common.timing import best_times, timed
from jaxdiff import schedules, solvers
from jaxdiff.compiling import compiler_options
from jaxdiff.recipes import Run, build
from jaxdiff.recipes.diffusion import PLAYER, algorithm, fresh_state
from jaxdiff.typing import Array, Key

SAMPLING_STEPS = 50


class Contender(NamedTuple):
    """A system to be timed on one batch; the argument of each job is the number of the round.

    Args:
        name: of the system.
        forward: one evaluation of the network.
        step: one training step: loss, gradient, clipping, Adam, EMA.
        sample: 50 steps of DDIM.
        gflop: of forward, step and sample, as counted by the compiler; empty if not counted.
        compile_seconds: of forward, step and sample; empty if nothing is compiled ahead of time.
    """

    name: str
    forward: Callable[[int], Any]
    step: Callable[[int], Any]
    sample: Callable[[int], Any]
    gflop: tuple[float, ...] = ()
    compile_seconds: tuple[float, ...] = ()


def jaxdiff_contender(run: Run, x: np.ndarray) -> Contender:
    """Jaxdiff itself: each job one compiled call, of a run with parameters.

    Args:
        run: the network with its parameters, process and configuration.
        x: the batch, ``[batch, ...]``.
    """
    batch = {"x": jnp.asarray(x), "label": jnp.zeros(len(x), int)}
    label = batch["label"] if run.config.model.class_conditional else None
    level, times = jnp.full(len(x), 0.5), schedules.uniform_times(SAMPLING_STEPS, t_min=1e-3)

    def sample(key: Key, params: Any, x: Array) -> Array:
        model = build.denoise_fn(run.config, run.network, run.process, params, label=label)
        return jaxdiff.sample(key, solvers.ddim(model, run.process), x, times)

    jit = functools.partial(jax.jit, compiler_options=compiler_options())

    @jax.jit
    def start(params: Any) -> Any:
        state = fresh_state(run.model)
        copied = jax.tree.map(jnp.copy, params)  # the arrays of a state are donated to its step
        player = state.players[PLAYER].replace(params=copied)
        return state.replace(players={PLAYER: player})

    states = [start(run.params)]
    compiled = [
        timed(jit(run.network.apply).lower(run.params, batch["x"], level, label).compile),
        timed(jit(algorithm(run.model).step, donate_argnums=0).lower(states[0], batch).compile),
        timed(jit(sample).lower(jax.random.key(0), run.params, batch["x"]).compile),
    ]
    forward, step, draw = (program for program, _ in compiled)

    def one_step(index: int) -> Any:
        state, metrics = step(states.pop(), batch)
        states.append(state)
        return metrics

    evaluation = forward.cost_analysis()["flops"] / 1e9
    return Contender(
        "jaxdiff",
        lambda index: forward(run.params, batch["x"], level, label),
        one_step,
        lambda index: draw(jax.random.key(index), run.params, batch["x"]),
        gflop=(
            evaluation,
            step.cost_analysis()["flops"] / 1e9,
            SAMPLING_STEPS * evaluation,  # XLA counts the body of a loop once
        ),
        compile_seconds=tuple(seconds for _, seconds in compiled),
    )


def matmul_peak(dtype: str, *, rounds: int) -> float:
    """GFLOP/s of the product of two square matrices, the best of several."""
    n = 2048 if jax.default_backend() == "cpu" else 8192
    matrix = jax.random.normal(jax.random.key(0), (n, n), jnp.dtype(dtype))
    product = jax.jit(jnp.matmul).lower(matrix, matrix).compile()
    product(matrix, matrix)
    best = best_times({"peak": lambda index: product(matrix, matrix)}, rounds=rounds)
    return 2 * n**3 / best["peak"] / 1e9
