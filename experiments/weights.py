"""Import weights as a run, and export a run's weights: ``python -m experiments.weights``.

--workdir=DIR --read=PATH [--config=FILE | --score_sde_config=NAME]
    makes a run of published weights, for ``experiments.sample`` and ``experiments.evaluate`` like
    any other. PATH is a checkpoint_N.pth of score_sde_pytorch, whose configuration must be given,
    by its path there or as a .json file of its fields; a pipeline of diffusers, which is
    self-contained; or the folder of a UNet2DModel or of a network saved by jaxdiff, for --config.
    The number of updates is imported, the state of the optimizer is not.
--workdir=DIR --write=DIR
    writes the averaged weights of a run as safetensors.
--workdir=DIR --write_diffusers=DIR
    writes them as a DDPMPipeline of diffusers, with its scheduler and a model card.
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from absl import flags
from ml_collections import config_flags

from experiments.common import cli
from jaxdiff import recipes
from jaxdiff.nets import UNet, convert
from jaxdiff.nets.convert.diffusers_folder import PIPELINE_FILE, is_diffusers
from jaxdiff.recipes import Config, Run, build
from jaxdiff.recipes.diffusers import from_pipeline
from jaxdiff.recipes.diffusers_pipeline import save_pipeline
from jaxdiff.recipes.diffusion import PLAYER, assemble, fresh_state
from jaxdiff.recipes.resuming import identity_of
from jaxdiff.recipes.score_sde import from_score_sde, read_score_sde
from jaxdiff.train import TrainState
from jaxdiff.train.checkpoints import Checkpoints
from jaxdiff.train.memory import check_state
from jaxdiff.train.workdir import go_on_with, owned
from jaxdiff.typing import InputError, Params

CONFIG = config_flags.DEFINE_config_file("config", None, "Config file; see experiments/configs.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
READ = flags.DEFINE_string("read", None, "Weights to make a run of.")
SCORE_SDE = flags.DEFINE_string(
    "score_sde_config", None, "What a .pth was trained by, such as ve/cifar10_ncsnpp_continuous."
)
WRITE = flags.DEFINE_string("write", None, "Folder to write a run's weights to.")
WRITE_DIFFUSERS = flags.DEFINE_string(
    "write_diffusers", None, "Folder to write a run's weights to as a pipeline of diffusers."
)

FREE = ("dtype", "remat", "dropout", "parent", "name")
"""Fields that do not affect what trained weights compute."""


class Weights(NamedTuple):
    """What was read: averaged and trained parameters, and the number of updates."""

    average: Params
    trained: Params
    step: int | None = None


def main() -> None:
    """Read the flags, and convert one way or the other."""
    ways = [READ.value, WRITE.value, WRITE_DIFFUSERS.value]
    if not WORKDIR.value or sum(map(bool, ways)) != 1:
        raise InputError(
            "exactly one of --read=PATH, --write=DIR and --write_diffusers=DIR must be given, with "
            "--workdir=DIR"
        )
    if READ.value:
        make_run(Path(WORKDIR.value), Path(READ.value))
        return
    run = recipes.load(WORKDIR.value)
    if WRITE_DIFFUSERS.value:
        files = save_pipeline(WRITE_DIFFUSERS.value, run)
    else:
        folder = Path(str(WRITE.value))
        convert.save(folder, run.network, run.params)
        files = [folder / "model.safetensors", folder / "config.json"]
    for file in files:
        print(f"wrote {file}")


def make_run(workdir: Path, path: Path) -> None:
    """Make a run of imported weights, as if it had trained them."""
    run = Run(assemble(*_described(path)))
    check_state(jax.eval_shape(lambda: fresh_state(run.model)))
    weights = read(path, run)
    step = run.config.training.num_steps if weights.step is None else weights.step

    @jax.jit
    def state_of(average: Params, trained: Params) -> TrainState:
        fresh = fresh_state(run.model)
        player = fresh.players[PLAYER]
        averages = (average,) * len(player.averages)
        player = player.replace(params=trained, averages=averages)
        return fresh.replace(step=fresh.step + step, players={PLAYER: player})

    state = state_of(weights.average, weights.trained)
    identity = identity_of(run.model)
    with (
        owned(workdir, identity),
        Checkpoints(workdir, keep=run.config.training) as checkpoints,
    ):
        if checkpoints.latest_step is not None:
            raise InputError(f"{workdir} already holds a run; use another workdir")
        go_on_with(workdir, identity)
        checkpoints.save(step, state)
    print(f"wrote {workdir}")


def _described(path: Path) -> tuple[Config, tuple[int, ...], int | None]:
    """Configuration, shape of an example and number of classes for the weights."""
    pickled = path.suffix in (".pth", ".pt")
    if pickled != bool(SCORE_SDE.value):
        raise InputError(
            "--score_sde_config must be given for a .pth of score_sde, and only for one, got "
            f"--read={path} and --score_sde_config={SCORE_SDE.value}"
        )
    if SCORE_SDE.value:
        if CONFIG.value is not None:
            raise InputError("--score_sde_config and --config must not be given together, got both")
        fields = read_score_sde(SCORE_SDE.value)
        config, size = from_score_sde(fields), int(fields["data"]["image_size"])
        return config, (size, size, int(fields["data"].get("num_channels", 3))), None
    if CONFIG.value is None and (path / PIPELINE_FILE).exists():
        return from_pipeline(path)
    if CONFIG.value is None:
        raise InputError("--read requires --config=FILE that describes the weights, got none")
    config = recipes.from_dict(CONFIG.value.to_dict())
    dataset = build.dataset(config)
    return config, dataset.shape, dataset.num_classes


def read(path: Path, run: Run) -> Weights:
    """Read variables for the network of a run, in any known format.

    Raises:
        InputError: if they belong to another network.
    """
    if path.suffix in (".pth", ".pt"):
        if not isinstance(run.network, UNet):
            raise InputError(
                f"config.network must be a U-Net for {path}, got {type(run.network).__name__}"
            )
        weights = Weights(*convert.load_score_sde(path, run.network))
    elif is_diffusers(path):
        unet, params = convert.load_diffusers(path)
        # diffusers' networks are conditioned on the index of a step
        noise_cond_scale = getattr(run.network, "noise_cond_scale", None)
        check_same(path, unet.clone(noise_cond_scale=noise_cond_scale), run.network)
        weights = Weights(params, params)
    else:
        found, params = convert.load(path)
        check_same(path, found, run.network)
        weights = Weights(params, params)
    expected = jax.eval_shape(lambda: fresh_state(run.model).players[PLAYER].params)
    shapes = [jax.tree.map(lambda leaf: leaf.shape, tree) for tree in (expected, weights.trained)]
    if shapes[0] != shapes[1]:
        raise InputError(f"{path} holds the weights of a different network than the config")
    return weights


def check_same(path: Path, found: nn.Module, expected: nn.Module) -> None:
    """Refuse weights whose network computes something else, even if their shapes fit.

    Raises:
        InputError: naming the fields in which the two differ.
    """
    if type(found) is not type(expected):
        raise InputError(
            f"config.network must be a {type(found).__name__} for {path}, got "
            f"{type(expected).__name__}"
        )
    ours = {field.name: getattr(expected, field.name) for field in dataclasses.fields(expected)}
    differing = [
        f"{name} {getattr(found, name)!r}, not {value!r}"
        for name, value in ours.items()
        if name not in FREE and _plain(getattr(found, name)) != _plain(value)
    ]
    if differing:
        raise InputError(
            f"{path} holds the weights of a different network than the config: its "
            f"{'; '.join(differing)}"
        )


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


if __name__ == "__main__":
    cli.run(main)
