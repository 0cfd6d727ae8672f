"""How fast a network runs: ``python -m experiments.benchmarks.network --config=FILE``.

Times one evaluation, one training step and sampling by 50 DDIM steps for the network of a
configuration, with random data of its shape. ``--peer=torch`` adds the equivalent network of
diffusers, and ``--peer=flax`` one written in the usual way, with the same parameters and in
alternation; a ratio below 1 is in favour of jaxdiff. Any field can be overridden, as in
``--config.network.head_dim=128``.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import config_flags

from experiments.benchmarks.contender import Contender, jaxdiff_contender, matmul_peak
from experiments.benchmarks.flax_peer import flax_peer
from experiments.benchmarks.profile import seconds_by_operation, summary
from experiments.benchmarks.torch_peer import check_plain, torch_peer
from experiments.common import cli
from experiments.common.timing import best_times
from jaxdiff import recipes
from jaxdiff.nets import UNet
from jaxdiff.recipes import Run
from jaxdiff.recipes.diffusion import PLAYER, assemble, fresh_state
from jaxdiff.recipes.objective import objective
from jaxdiff.typing import InputError

CONFIG = config_flags.DEFINE_config_file("config", None, "Config file; see experiments/configs.")
BATCH = flags.DEFINE_integer("batch", 16, "Images at a time.", lower_bound=1)
SIZE = flags.DEFINE_integer("size", 32, "Side of the images.", lower_bound=1)
COLOURS = flags.DEFINE_integer("colours", 3, "Of the images.", lower_bound=1)
PEERS = flags.DEFINE_multi_enum("peer", [], ["torch", "flax"], "What to compare it with.")
TORCH_COMPILE = flags.DEFINE_bool("torch_compile", False, "Compile the PyTorch network.")
JOBS = flags.DEFINE_list("jobs", ["forward", "step", "sample"], "Which of them to time.")
PROFILE = flags.DEFINE_bool("profile", False, "Also profile a step.")
ROUNDS = flags.DEFINE_integer("rounds", 7, "Timings of each, the best of which counts.", 1)


def main() -> None:
    """Build the contenders, time them, and print the table."""
    if CONFIG.value is None:
        raise InputError("--config must be the path of a config file, got none")
    unknown = set(JOBS.value) - {"forward", "step", "sample"}
    if unknown:
        raise InputError(
            f"--jobs must be among forward, step and sample, got {', '.join(sorted(unknown))}"
        )
    run = Run(
        assemble(
            recipes.from_dict(CONFIG.value.to_dict()), (SIZE.value, SIZE.value, COLOURS.value), 10
        )
    )
    params = jax.jit(lambda: fresh_state(run.model).players[PLAYER].params)()
    run = dataclasses.replace(run, params=params)
    x = np.random.default_rng(0).normal(size=(BATCH.value, *run.shape)).astype(np.float32)

    contenders: list[Contender] = []
    if "torch" in PEERS.value:
        peer, network, params = torch_peer(run.network, x, compiled=TORCH_COMPILE.value)
        network = network.clone(dtype=run.network.dtype)
        minimised = objective(run.config, network, run.process)
        model = dataclasses.replace(run.model, network=network, objective=minimised)
        run = dataclasses.replace(run, model=model, params=params)
        check_equal(run, peer, x)
        contenders.append(peer)
    if "flax" in PEERS.value:
        if not isinstance(run.network, UNet):
            raise InputError(
                f"config.network must be a U-Net for --peer=flax, got {run.config.network.name}"
            )
        check_plain(run.network, run.shape)
        if run.network.dtype != "float32" or run.network.dropout:
            raise InputError(
                "config.network must have dtype float32 and dropout 0 for --peer=flax, got "
                f"{run.network.dtype} and {run.network.dropout}"
            )
        contenders.append(flax_peer(run.network, run.params, x))
    contenders.insert(0, jaxdiff_contender(run, x))

    count = sum(leaf.size for leaf in jax.tree.leaves(run.params))
    dtype = getattr(run.network, "dtype", "float32")
    peak = matmul_peak(dtype, rounds=ROUNDS.value)
    print(
        f"{run.config.network.name} of {count:,} parameters, batch {BATCH.value} of "
        f"{'×'.join(map(str, run.shape))}, {dtype}, on {jax.devices()[0].device_kind}; matrices "
        f"multiply at {peak:,.0f} GFLOP/s"
    )
    report(contenders, JOBS.value, batch=BATCH.value, peak=peak, rounds=ROUNDS.value)
    if PROFILE.value:
        contenders[0].step(0)
        seconds = seconds_by_operation(lambda: contenders[0].step(0))
        print(f"a step: {summary(seconds, complete=jax.default_backend() != 'cpu')}")


def check_equal(run: Run, peer: Contender, x: np.ndarray) -> None:
    """Print the difference of the two networks' outputs, as a check that they are equivalent."""
    theirs = np.moveaxis(peer.forward(0).cpu().numpy(), 1, -1)
    level = jnp.full(len(x), 500.0)
    ours = jax.jit(run.network.apply)(run.params, jnp.asarray(x), level)
    apart = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
    print(f"the outputs of both networks are {apart:.1e} apart (relative L2)")


def report(
    contenders: Sequence[Contender], jobs: Sequence[str], *, batch: int, peak: float, rounds: int
) -> None:
    """Time the contenders in alternation, and print a table with the ratios to the first.

    Args:
        contenders: jaxdiff first.
        jobs: which to time.
        batch: images at a time.
        peak: GFLOP/s of the device.
        rounds: timings of each.
    """
    heads = ("seconds", "images/s", "GFLOP", "of peak", "compile", "ratio")
    print(f"{'':<28}{''.join(f'{head:>10}' for head in heads)}")
    for index, job in enumerate(("forward", "step", "sample")):
        if job not in jobs:
            continue
        for contender in contenders:
            getattr(contender, job)(0)
        best = best_times({c.name: getattr(c, job) for c in contenders}, rounds=rounds)
        own = best[contenders[0].name]
        for contender in contenders:
            seconds = best[contender.name]
            line = f"{job + ', ' + contender.name:<28}{seconds:>10.3f}{batch / seconds:>10.1f}"
            if contender.gflop:
                gflop = contender.gflop[index]
                line += f"{gflop:>10,.0f}{gflop / seconds / peak:>10.0%}"
                line += f"{contender.compile_seconds[index]:>9.1f}s"
            else:
                line += f"{own / seconds:>40.2f}"
            print(line, flush=True)


if __name__ == "__main__":
    cli.run(main)
