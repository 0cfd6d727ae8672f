"""L7: the training step as one compiled program over a mesh of devices."""

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxdiff.compiling import compiler_options
from jaxdiff.train import build, devices, objective
from jaxdiff.train.run import Run
from jaxdiff.train.state import TrainState, train_step
from jaxdiff.typing import Array, Params

CompiledStep = Callable[[TrainState, Mapping[str, Array]], tuple[TrainState, dict[str, Array]]]
MEBIBYTE = 2**20


def compile_step(
    run: Run,
    state: TrainState,
    mesh: Mesh,
    *,
    microbatches: int = 1,
    say: Callable[[str], None] = print,
) -> Any:
    """Compile the donated step before the clock of training starts, and say what it takes.

    Args:
        run: the configuration, network and process.
        state: arrays, or their shapes.
        mesh: the devices.
        microbatches: in how many turns a device goes through its share of a batch.
        say: called with a line of report.

    Returns:
        The compiled :data:`CompiledStep`, with jax's own ``as_text`` and ``memory_analysis``.
    """
    batch_size = run.config.training.batch_size
    rows = devices.batch_sharding(mesh)
    batch = {
        "x": jax.ShapeDtypeStruct(
            (batch_size, *run.shape), jnp.uint8 if run.is_image else jnp.float32, sharding=rows
        ),
        "label": jax.ShapeDtypeStruct((batch_size,), jnp.int32, sharding=rows),
    }
    whole = devices.replicated(mesh)
    of_stored = objective.training_loss_fn(run.config, run.network, run.process)

    def loss_fn(params: Params, *given: Any) -> Array:
        # what is divided for keeping is gathered for use, instead of dividing the network's sums
        gathered = jax.lax.with_sharding_constraint(params, whole)
        return of_stored(gathered, *given)

    step_fn = functools.partial(
        train_step,
        loss_fn=loss_fn,
        optimizer=build.optimizer(run.config),
        rules=build.ema_schedules(run.config),
        microbatches=microbatches,
    )
    layout = devices.state_shardings(mesh, state)
    jitted = jax.jit(
        step_fn,
        donate_argnums=0,
        in_shardings=(layout, rows),
        out_shardings=(layout, whole),
    )
    began = time.perf_counter()
    compiled = jitted.lower(state, batch).compile(compiler_options())
    size = sum(leaf.size for leaf in jax.tree.leaves(state.params["params"]))
    seconds = time.perf_counter() - began
    number = "1 device" if mesh.size == 1 else f"{mesh.size} devices"
    say(f"{size:,} parameters; compiled in {seconds:.1f} s for {number}")
    memory: Any = compiled.memory_analysis()
    if memory is not None:
        say(
            f"memory of each device: {memory.argument_size_in_bytes / MEBIBYTE:.1f} MiB of state "
            f"and batch, {memory.temp_size_in_bytes / MEBIBYTE:.1f} MiB to work in; the state once "
            "more while a checkpoint is copied"
        )
    return compiled
