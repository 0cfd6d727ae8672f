"""Costs of driver and solvers: ``python -m experiments.benchmarks.solver_costs``.

The time of sampling, as a ratio to the same number of bare evaluations of the network in one
compiled loop: for the U-Net of the digits, and for the network of the plane on a large batch, where
evaluations are cheapest. Then the memory of sampling, which grows with the number of steps only if
a trajectory is kept.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags

import jaxdiff
from experiments.common import cli
from experiments.common.timing import best_times
from experiments.configs import digits_vp, toy_vp
from experiments.studies.solvers.rows import ODE_SOLVERS, SDE_SOLVERS, MakeFn, evaluations
from jaxdiff import recipes, schedules, solvers
from jaxdiff.recipes import Run, build
from jaxdiff.recipes.diffusion import PLAYER, assemble, fresh_state
from jaxdiff.train.memory import STEP, check_fits
from jaxdiff.typing import Array, InputError, Key, Params, out_of

EVALUATIONS = flags.DEFINE_integer("evaluations", 50, "Of the network, per run.", lower_bound=2)
UNET_BATCH = flags.DEFINE_integer("unet_batch", 16, "Images per run.", lower_bound=1)
MLP_BATCH = flags.DEFINE_integer("mlp_batch", 10_000, "Points per run.", lower_bound=1)
LENGTHS = flags.DEFINE_list(
    "lengths", ["10", "50", "250"], "Numbers of steps to measure memory of."
)
ONLY = flags.DEFINE_list("only", [], "Solvers by their names in the table; all if empty.")
ROUNDS = flags.DEFINE_integer("rounds", 15, "Timings of each, the best of which counts.", 1)

COMPARED = [
    "DDIM", "ancestral", "Euler–Maruyama", "DPM-Solver++ 2M", "UniPC-2", "DEIS-tAB3", "Heun"
]  # fmt: skip


def main() -> None:
    """Time every solver on both networks, and measure the memory of sampling."""
    for name in ONLY.value:
        if name not in COMPARED:
            raise InputError(f"--only must be names from {out_of(name, COMPARED)}")
    if not all(text.isdigit() and int(text) > 0 for text in LENGTHS.value):
        raise InputError(f"--lengths must be positive integers, got {','.join(LENGTHS.value)}")
    lengths = [int(text) for text in LENGTHS.value]
    for name, n in (("--evaluations", EVALUATIONS.value), ("--lengths", max(lengths, default=0))):
        check_fits(name, n, n * STEP)
    print(f"{jax.devices()[0].device_kind}, {EVALUATIONS.value} evaluations")
    digits = _untrained(digits_vp.get_config().to_dict(), (8, 8, 1))
    plane = _untrained(toy_vp.get_config().to_dict(), (2,))
    cases = (("U-Net", digits, UNET_BATCH.value), ("MLP", plane, MLP_BATCH.value))
    for name, run, batch in cases:
        size = sum(leaf.size for leaf in jax.tree.leaves(run.params))
        print(f"\n{name} of {size:,} parameters, batch {batch:,}")
        print(f"{'':<24}{'ms':>10}{'ratio':>8}")
        measure(run, batch, count=EVALUATIONS.value, rounds=ROUNDS.value)
    if not lengths:
        return
    print(f"\n{'MiB of the U-Net in n =':<24}" + "".join(f"{n:>10}" for n in lengths))
    for name, draw in (("sample", jaxdiff.sample), ("trajectory", jaxdiff.trajectory)):
        sizes = [memory(digits, UNET_BATCH.value, n, draw) for n in lengths]
        print(f"{name:<24}" + "".join(f"{size / 2**20:>10.2f}" for size in sizes))


def measure(run: Run, batch: int, *, count: int, rounds: int) -> None:
    """Print the time of every solver relative to that of ``count`` bare evaluations."""
    x = jax.random.normal(jax.random.key(0), (batch, *run.shape))
    runs = {"the network alone": _compiled(_bare(run, count), x)}
    rows = {**SDE_SOLVERS, **ODE_SOLVERS}
    for name in ONLY.value or COMPARED:
        make = rows[name]
        runs[name] = _compiled(_sampling(run, make, count // evaluations(make)), x)
    best = best_times(runs, rounds=rounds)
    bare = best["the network alone"]
    for name, seconds in best.items():
        print(f"{name:<24}{1000 * seconds:>10.1f}{seconds / bare:>8.3f}", flush=True)


def memory(run: Run, batch: int, num_steps: int, draw: Callable[..., Any]) -> float:
    """Bytes of compiled sampling without its inputs, including outputs; NaN if unknown."""
    x = jnp.zeros((batch, *run.shape))
    compiled = jax.jit(_sampling(run, solvers.deis, num_steps, draw)).lower(jax.random.key(0), x)
    sizes = compiled.compile().memory_analysis()
    return sizes.temp_size_in_bytes + sizes.output_size_in_bytes if sizes else float("nan")


def _untrained(config: dict[str, Any], shape: tuple[int, ...]) -> Run:
    run = Run(assemble(recipes.from_dict(config), shape, None))

    @jax.jit
    def params() -> Params:
        # Last layers are initialised to zero; nonzero ones rule out that XLA skips them.
        fresh = fresh_state(run.model).players[PLAYER].params
        return jax.tree.map(lambda leaf: leaf + 0.01, fresh)

    return dataclasses.replace(run, params=params())


def _bare(run: Run, count: int) -> Callable[[Key, Array], Array]:
    """Evaluations of the network, each on the result of the previous one, at different levels."""

    def loop(key: Key, x: Array) -> Array:
        def evaluate(x: Array, level: Array) -> tuple[Array, None]:
            output: Any = run.network.apply(run.params, x, jnp.full(x.shape[:1], level))
            return output, None

        return jax.lax.scan(evaluate, x, jnp.linspace(1.0, 0.0, count))[0]

    return loop


def _sampling(
    run: Run,
    make: MakeFn,
    num_steps: int,
    draw: Callable[..., Any] = jaxdiff.sample,
) -> Callable[[Key, Array], Any]:
    times = schedules.logistic_times(run.process, num_steps, t_min=1e-3)

    def sampling(key: Key, x: Array) -> Any:
        model = build.denoise_fn(run.config, run.network, run.process, run.params)
        return draw(key, make(model, run.process), x, times)

    return sampling


def _compiled(loop: Callable[[Key, Array], Any], x: Array) -> Callable[[int], Any]:
    compiled = jax.jit(loop).lower(jax.random.key(0), x).compile()
    return functools.partial(_call, compiled, x)


def _call(compiled: Callable[[Key, Array], Any], x: Array, index: int) -> Any:
    return compiled(jax.random.key(index), x)


if __name__ == "__main__":
    cli.run(main)
