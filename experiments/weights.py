"""Weights from outside as a run, and a run's as a file: ``python -m experiments.weights``.

--workdir=DIR --config=FILE --read=PATH    makes a run of published weights, which
    ``experiments.sample`` and ``experiments.evaluate`` then take like any other. PATH is a
    checkpoint_N.pth of score_sde_pytorch, a folder of diffusers' UNet2DModel, or one of ours.
--workdir=DIR --write=DIR                  writes the averaged weights of a run as safetensors.
"""

import dataclasses
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
from absl import flags
from ml_collections import config_flags

from experiments import cli
from jaxdiff import data, train
from jaxdiff.nets import UNet, convert
from jaxdiff.train import Run
from jaxdiff.train.assembly import assemble, fresh_state
from jaxdiff.train.checkpoints import Checkpoints
from jaxdiff.train.memory import check_state
from jaxdiff.train.workdir import claimed
from jaxdiff.typing import InputError, Params

CONFIG = config_flags.DEFINE_config_file("config", None, "Config file; see experiments/configs.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
READ = flags.DEFINE_string("read", None, "Weights to make a run of.")
WRITE = flags.DEFINE_string("write", None, "Folder to write a run's weights to.")


FREE = ("dtype", "remat", "dropout", "parent", "name")
"""Fields that change nothing of what trained weights compute."""


def main() -> None:
    """Read the flags, and convert one way or the other."""
    if not WORKDIR.value or bool(READ.value) == bool(WRITE.value):
        raise InputError("weights take --workdir=DIR, and --read=PATH or --write=DIR")
    if WRITE.value:
        run = train.load(WORKDIR.value)
        convert.save(WRITE.value, run.network, run.params)
        print(f"wrote {Path(WRITE.value) / 'model.safetensors'}")
        print(f"wrote {Path(WRITE.value) / 'config.json'}")
        return
    if CONFIG.value is None:
        raise InputError("--read takes --config=FILE of what the weights belong to, got none")
    config = train.from_dict(CONFIG.value.to_dict())
    dataset = data.load(config.data.name, data_dir=config.data.data_dir or None)
    run = assemble(config, dataset.shape, dataset.num_classes)
    check_state(jax.eval_shape(lambda: fresh_state(run)), config.network.name)
    params = read(Path(str(READ.value)), run)
    state = jax.jit(lambda: fresh_state(run))()
    num_steps = config.training.num_steps
    state = state.replace(
        step=state.step + num_steps, params=params, averages=(params,) * len(state.averages)
    )
    workdir = Path(str(WORKDIR.value))
    with (
        claimed(workdir, config, run.shape, run.num_classes),
        Checkpoints(workdir, keep=config.training) as checkpoints,
    ):
        if checkpoints.latest_step is not None:
            raise InputError(f"{workdir} holds a run already; give another workdir")
        checkpoints.save(num_steps, state)
    print(f"wrote {workdir}")


def read(path: Path, run: Run) -> Params:
    """Variables for the network of a run, of whichever format lies there.

    Raises:
        InputError: if they are those of another network.
    """
    if path.suffix in (".pth", ".pt"):
        if not isinstance(run.network, UNet):
            raise InputError(f"{path} holds a U-Net, the config names {run.config.network.name}")
        params = convert.load_score_sde(path, run.network)
    elif (path / convert.diffusers.WEIGHTS_FILE).exists():
        unet, params = convert.load_diffusers(path)
        level_scale = getattr(
            run.network, "level_scale", None
        )  # theirs is told the index of a step
        check_same(path, unet.clone(level_scale=level_scale), run.network)
    else:
        found, params = convert.load(path)
        check_same(path, found, run.network)
    expected = jax.eval_shape(lambda: fresh_state(run).params)
    shapes = [jax.tree.map(lambda leaf: leaf.shape, tree) for tree in (expected, params)]
    if shapes[0] != shapes[1]:
        raise InputError(f"{path} holds the weights of another network than the config names")
    return params


def check_same(path: Path, found: nn.Module, wanted: nn.Module) -> None:
    """Refuse weights whose network computes something else, though their shapes may fit.

    Raises:
        InputError: naming the fields in which the two differ.
    """
    if type(found) is not type(wanted):
        raise InputError(f"{path} holds a {type(found).__name__}, the config names another network")
    ours = {field.name: getattr(wanted, field.name) for field in dataclasses.fields(wanted)}
    differing = [
        f"{name} {getattr(found, name)!r}, not {value!r}"
        for name, value in ours.items()
        if name not in FREE and _plain(getattr(found, name)) != _plain(value)
    ]
    if differing:
        raise InputError(
            f"{path} holds the weights of another network than the config names: its "
            f"{'; '.join(differing)}"
        )


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


if __name__ == "__main__":
    cli.run(main)
