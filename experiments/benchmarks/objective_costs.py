"""Cost of score matching in a U-Net: ``python -m experiments.benchmarks.objective_costs``.

The time of a gradient in the parameters, as a ratio to that of denoising score matching. Objectives
alternate, so that a noisy machine affects all equally, and the best of the rounds counts.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags

from experiments.common import cli
from experiments.common.timing import best_times
from jaxdiff import divergence, losses, processes
from jaxdiff.compiling import compiler_options
from jaxdiff.nets import UNet
from jaxdiff.typing import Array, InputError, Key, Params, out_of

CHANNELS = flags.DEFINE_integer("channels", 64, "Of the U-Net's first level.", lower_bound=1)
MULTIPLIERS = flags.DEFINE_multi_integer(
    "multiplier", [1, 2, 2], "Of the channels, once for each level.", lower_bound=1
)
BLOCKS = flags.DEFINE_integer("blocks", 2, "Residual blocks of each level.", lower_bound=1)
SIZE = flags.DEFINE_integer("size", 32, "Side of the images.", lower_bound=4)
BATCH = flags.DEFINE_integer("batch", 8, "Images per gradient.", lower_bound=1)
EXACT_BATCH = flags.DEFINE_integer(
    "exact_batch", 1, "Images for the exact trace, a derivative per number; 0 omits it.", 0
)
ONLY = flags.DEFINE_list("only", [], "Names of objectives besides DSM; all if empty.")
ROUNDS = flags.DEFINE_integer("rounds", 7, "Timings of each, the best of which counts.", 1)

ScoreFn = Callable[[Array], Array]
OBJECTIVES: dict[str, Callable[[Key, ScoreFn, Array], Array]] = {
    "DSM": lambda key, score, x: losses.dsm(
        key, lambda x_t, _: score(x_t), processes.VE(), x, jnp.full(len(x), 0.5)
    ),
    "FD-SSM": losses.fd_ssm,
    "SSM": losses.ssm,
    "SSM-VR": functools.partial(losses.ssm, variance_reduction=True),
    "ISM, Hutchinson": lambda key, score, x: losses.ism(
        score, x, divergence_fn=functools.partial(divergence.hutchinson, key)
    ),
}
EXACT = {"DSM": OBJECTIVES["DSM"], "ISM, exact": lambda key, score, x: losses.ism(score, x)}


def main() -> None:
    """Time every objective, print the ratios."""
    for name in ONLY.value:
        if name not in OBJECTIVES:
            raise InputError(f"--only must be names from {out_of(name, OBJECTIVES)}")
    chosen = {"DSM", *(ONLY.value or OBJECTIVES)}
    objectives = {name: objective for name, objective in OBJECTIVES.items() if name in chosen}
    network = UNet(
        channels=CHANNELS.value,
        multipliers=MULTIPLIERS.value,
        blocks_per_level=BLOCKS.value,
        attention_levels=(1,) if len(MULTIPLIERS.value) > 1 else (),
    )
    shape = (SIZE.value, SIZE.value, 3)

    @jax.jit
    def init(key: Key) -> Params:
        params = network.init(key, jnp.zeros((1, *shape)), jnp.ones(1))
        # Last layers are initialised to zero; nonzero ones rule out that XLA skips them.
        return jax.tree.map(lambda leaf: leaf + 0.01, params)

    params = init(jax.random.key(0))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    print(
        f"U-Net of {count:,} parameters, images {SIZE.value}×{SIZE.value}×3 "
        f"(D = {math.prod(shape):,}), {jax.devices()[0].device_kind}"
    )
    print(f"{'objective':<18}{'batch':>6}{'ms':>12}{'ratio to DSM':>15}")
    measure(network, params, shape, objectives, BATCH.value, rounds=ROUNDS.value)
    if EXACT_BATCH.value:
        measure(network, params, shape, EXACT, EXACT_BATCH.value, rounds=ROUNDS.value)


def measure(
    network: UNet,
    params: Params,
    shape: tuple[int, ...],
    objectives: dict[str, Callable[[Key, ScoreFn, Array], Array]],
    batch: int,
    *,
    rounds: int,
) -> None:
    """Time the gradient of each objective and print one line for each; the first is 1."""
    x = jax.random.normal(jax.random.key(1), (batch, *shape))
    level = jnp.full(batch, 0.5)

    def gradient_of(objective: Callable[[Key, ScoreFn, Array], Array]) -> Any:
        def mean_loss(params: Params, key: Key) -> Array:
            def score(x: Array) -> Array:
                output: Any = network.apply(params, x, level)
                return output

            return jnp.mean(objective(key, score, x))

        key = jax.random.key(2)
        lowered = jax.jit(jax.grad(mean_loss)).lower(params, key)
        return lowered.compile(compiler_options())

    compiled = {name: gradient_of(objective) for name, objective in objectives.items()}
    runs = {
        name: (lambda index, run=run: run(params, jax.random.key(index)))
        for name, run in compiled.items()
    }
    best = best_times(runs, rounds=rounds)
    first = next(iter(best.values()))
    for name, seconds in best.items():
        print(f"{name:<18}{batch:>6}{1000 * seconds:>12.1f}{seconds / first:>15.2f}", flush=True)


if __name__ == "__main__":
    cli.run(main)
