"""L8: the step of an algorithm as one compiled program over a mesh of devices."""

import time
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from jaxdiff.compiling import compiler_options
from jaxdiff.train import sharding
from jaxdiff.train.algorithm import Algorithm, Metrics
from jaxdiff.train.state import TrainState, num_parameters
from jaxdiff.typing import PyTree

CompiledStep = Callable[[TrainState, PyTree, PyTree], tuple[TrainState, Metrics]]
MEBIBYTE = 2**20


def on_mesh(
    make_algorithm: Callable[..., Algorithm], mesh: Mesh, *, microbatches: int = 1
) -> Algorithm:
    """Build an algorithm whose batch and state :mod:`jaxdiff.train.sharding` shards over a mesh.

    Each device computes the gradient of its own rows with the whole parameters, which are gathered
    where they are sharded.

    Args:
        make_algorithm: takes ``microbatches`` and ``mesh``, like a partial ``alternate``.
        mesh: the devices.
        microbatches: number of parts in which a device processes its shard of a batch.
    """
    return make_algorithm(microbatches=microbatches, mesh=mesh)


def compile_step(
    algorithm: Algorithm,
    state: TrainState,
    batch_spec: PyTree,
    mesh: Mesh,
    *,
    frozen: PyTree = (),
    say: Callable[[str], None] = print,
) -> Any:
    """Compile the donated step before training is timed, and report its time and memory.

    Args:
        algorithm: as :func:`on_mesh` returns it.
        state: arrays, or their shapes.
        batch_spec: shapes and dtypes of the whole batch.
        mesh: the devices.
        frozen: what no step changes: arrays, or their shapes.
        say: called with each line of the report.

    Returns:
        The compiled :data:`CompiledStep`, with jax's own ``as_text`` and ``memory_analysis``.
    """
    rows, whole = sharding.batch_sharding(mesh), sharding.replicated(mesh)
    layout = sharding.state_shardings(mesh, state)
    jitted = jax.jit(
        algorithm.step,
        donate_argnums=0,
        in_shardings=(layout, rows, sharding.state_shardings(mesh, frozen)),
        out_shardings=(layout, whole),
    )
    began = time.perf_counter()
    batch = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=rows), batch_spec
    )
    compiled = jitted.lower(state, batch, frozen).compile(compiler_options(sharding.platform(mesh)))
    seconds = time.perf_counter() - began
    number = "1 device" if mesh.size == 1 else f"{mesh.size} devices"
    say(f"{num_parameters(state):,} parameters; compiled in {seconds:.1f} s for {number}")
    memory: Any = compiled.memory_analysis()
    if memory is not None:
        say(
            f"memory per device: {memory.argument_size_in_bytes / MEBIBYTE:.1f} MiB for state and "
            f"batch, {memory.temp_size_in_bytes / MEBIBYTE:.1f} MiB for intermediate values; one "
            "more copy of the state while a checkpoint is saved"
        )
    return compiled
