"""L9: everything that a configuration specifies, built into one value, and its training algorithm.

Building is the check: whatever cannot be built, or is inconsistent, is refused here in one
sentence, before anything is read or written.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxdiff import data, denoisers
from jaxdiff.nets.variables import init
from jaxdiff.predictions import Denoised
from jaxdiff.processes import Process
from jaxdiff.recipes import build, names
from jaxdiff.recipes.config import Config
from jaxdiff.recipes.objective import Objective, objective
from jaxdiff.sampling import check_times
from jaxdiff.train.algorithm import Algorithm, Turn, alternate
from jaxdiff.train.averages import EmaSchedule
from jaxdiff.train.state import TrainState
from jaxdiff.typing import InputError, Key, Params, PyTree

PLAYER = "model"
"""Name of the one player of a diffusion model."""


@dataclasses.dataclass(frozen=True)
class Diffusion:
    """Everything built from a configuration, for examples of one shape.

    Args:
        config: from which it was built.
        process: the forward process.
        network: the Flax module.
        shape: of one example.
        num_classes: number of classes of the data, or None.
        objective: what is minimised.
        optimizer: the optax chain.
        ema: schedules of all EMAs that are kept, first the one used for sampling.
    """

    config: Config
    process: Process
    network: nn.Module
    shape: tuple[int, ...]
    num_classes: int | None
    objective: Objective
    optimizer: optax.GradientTransformation
    ema: tuple[EmaSchedule, ...]

    @property
    def is_image(self) -> bool:
        """Whether examples are images, ``[height, width, channels]``, rather than vectors."""
        return len(self.shape) == 3

    @property
    def value_range(self) -> tuple[float, float]:
        """The values of black and white that the model sees."""
        return self.config.data.low, self.config.data.high


def assemble(config: Config, shape: tuple[int, ...], num_classes: int | None) -> Diffusion:
    """Build everything that a configuration specifies.

    Args:
        config: of the run.
        shape: of one example.
        num_classes: number of classes of the data, or None.

    Raises:
        InputError: if anything in the configuration cannot be built.

    Example:
        >>> model = assemble(Config(), (8, 8, 1), 10)
        >>> type(model.process).__name__, type(model.network).__name__
        ('VP', 'UNet')
    """
    process = build.process(config)
    network = build.network(config, shape, num_classes)
    _check(config, process, shape)
    return Diffusion(
        config,
        process,
        network,
        shape,
        num_classes,
        objective(config, network, process),
        build.optimizer(config),
        build.ema_schedules(config),
    )


def init_params(model: Diffusion, key: Key) -> Params:
    """Parameters before training."""
    label = jnp.zeros(1, int) if model.config.model.class_conditional else None
    x = jnp.zeros((1, *model.shape))
    params = init(model.network, key, x, jnp.ones(1), label)
    return build.with_process(params, model.process)


def algorithm(model: Diffusion, **layout: Any) -> Algorithm:
    """The training algorithm; ``layout`` is passed to :func:`jaxdiff.train.alternate`."""
    turn = Turn(PLAYER, model.objective.stored_loss_fn, model.optimizer, model.ema)
    return alternate(
        lambda key: {PLAYER: init_params(model, key)},
        [turn],
        carry=model.objective.carry,
        update_carry=lambda carry, aux: model.objective.update_carry(carry, aux[PLAYER]),
        **layout,
    )


def fresh_state(model: Diffusion) -> TrainState:
    """Training state at step 0, a pure function of the configuration."""
    return algorithm(model).init(jax.random.key(model.config.seed))


def batch_spec(model: Diffusion) -> PyTree:
    """Shapes and dtypes of a batch: images are the stored bytes."""
    size = model.config.training.batch_size
    stored = jnp.uint8 if model.is_image else jnp.float32
    return {
        "x": jax.ShapeDtypeStruct((size, *model.shape), stored),
        "label": jax.ShapeDtypeStruct((size,), jnp.int32),
    }


def batches(model: Diffusion, source: data.Source, **more: Any) -> Iterator[data.Example]:
    """Iterate over training batches; see :func:`jaxdiff.data.batches`."""
    config = model.config
    return data.batches(source, batch_size=config.training.batch_size, seed=config.seed, **more)


def _check(config: Config, process: Process, shape: tuple[int, ...]) -> None:
    """Refuse inconsistent fields, and build what is only needed later."""
    data.check_range((config.data.low, config.data.high))
    if (config.data.flip or config.data.dequantize) and len(shape) != 3:
        raise InputError("config.data.flip and dequantize must be false for vectors, got true")
    if config.training.keep_best and not config.training.eval_every:
        raise InputError(
            "config.training.keep_best must be 0 unless config.training.eval_every is set, got "
            f"{config.training.keep_best}"
        )
    try:
        names.NOISE_CONDS[config.model.noise_cond].fn(process, jnp.ones(1))
    except InputError as error:
        raise InputError(f"config.model.noise_cond: {error}") from error
    try:
        denoisers.denoiser(lambda x, noise_cond: x, process, kind=config.model.kind)
    except InputError as error:
        raise InputError(f"config.model.kind: {error}") from error
    sampling = config.sampling
    grid = build.time_grid(sampling.times, process, sampling.num_steps, t_min=sampling.t_min)
    check_times(grid)
    build.solver(sampling.solver, lambda x, t: Denoised(x, x), process)
