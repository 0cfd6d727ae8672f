"""L9: a trained model, for notebooks: process, denoise_fn, config and a jitted sampler."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxdiff import sampling
from jaxdiff.compiling import compiler_options
from jaxdiff.data.labels import whole_labels
from jaxdiff.guidance.base import checked_model
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process, sample_prior
from jaxdiff.recipes import build
from jaxdiff.recipes.config import Choice, Config, Precision, choice
from jaxdiff.recipes.diffusion import PLAYER, Diffusion
from jaxdiff.train import memory, sharding
from jaxdiff.train.state import TrainState
from jaxdiff.typing import Array, ArrayLike, InputError, Key, Params, PyTree

GuideFn = Callable[[DenoiseFn, Process], DenoiseFn]
"""Wraps a model into another one, which the solver uses in its place."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A model with its averaged parameters, and everything needed to use it.

    Args:
        model: everything built from the configuration.
        params: parameters, averaged over training (EMA); None before it.
        step: number of updates so far.
        average: which average of the parameters it is, as text.
    """

    model: Diffusion
    params: Params = None
    step: int = 0
    average: str = ""

    @property
    def config(self) -> Config:
        """The configuration of the run."""
        return self.model.config

    @property
    def process(self) -> Process:
        """The forward process, with its learned parameters if it has any."""
        return build.process_of(self.model.process, self.params)

    @property
    def network(self) -> nn.Module:
        """The Flax module."""
        return self.model.network

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""
        return self.model.shape

    @property
    def num_classes(self) -> int | None:
        """Number of classes of the data, or None."""
        return self.model.num_classes

    @property
    def value_range(self) -> tuple[float, float]:
        """The values of black and white that the model sees."""
        return self.model.value_range

    @property
    def is_image(self) -> bool:
        """Whether examples are images, ``[height, width, channels]``, rather than vectors."""
        return self.model.is_image

    @property
    def denoise_fn(self) -> DenoiseFn:
        """The model of a run without labels; see :meth:`conditioned` for one of a class."""
        return self.conditioned(None)

    def conditioned(self, label: ArrayLike | None) -> DenoiseFn:
        """The model given one label per example, ``[batch]``; None for the unconditional model.

        Raises:
            InputError: if labels are given to a run without classes, or not given to one with
                classes and without ``label_dropout``, or one is not a class.
        """
        conditional = self.config.model.class_conditional
        both = label is None and self.config.model.label_dropout > 0
        if conditional != (label is not None) and not both:
            required = "given, as in run.conditioned(label)," if conditional else "None"
            got = None if label is None else "labels"
            raise InputError(f"label must be {required} for this run, got {got}")
        label = None if label is None else _whole(label, self.network.num_classes)
        return build.denoise_fn(self.config, self.network, self.process, self.params, label=label)

    def at(self, state: TrainState) -> "Run":
        """This run with the averaged parameters of a training state."""
        return dataclasses.replace(
            self,
            params=state.players[PLAYER].averages[0],
            step=int(state.step),
            average=f"EMA {self.config.training.ema_decay}",
        )

    def with_matmul_precision(self, precision: Precision) -> "Run":
        """This run with another precision of the network's products."""
        model = dataclasses.replace(self.config.model, matmul_precision=precision)
        config = dataclasses.replace(self.config, model=model)
        return dataclasses.replace(self, model=dataclasses.replace(self.model, config=config))

    def sample(self, key: Key, n: int, *, label: ArrayLike | None = None, **choices: Any) -> Array:
        """Draw samples in one compiled call; the same choices are compiled only once.

        Args:
            key: randomness.
            n: how many.
            label: class, or one per sample ``[n]``, for a class-conditional model; drawn at random
                if absent. Whole numbers of any type, including floats.
            **choices: ``solver``, ``times``, ``num_steps``, ``guide``, ``mesh`` and options of the
                solver, as in :meth:`trajectory`.

        Returns:
            ``[n, *shape]``, in the range of the data.

        Raises:
            InputError: if the solver, the grid, an option or a class does not exist.
        """
        return self.trajectory(key, n, label=label, save_fn=_nothing, **choices)[0]

    def trajectory(
        self,
        key: Key,
        n: int,
        *,
        label: ArrayLike | None = None,
        solver: str | None = None,
        times: str | Choice | None = None,
        num_steps: int | None = None,
        t_min: float | None = None,
        save_fn: Callable[[Any], PyTree] = sampling.keep_sample,
        guide: GuideFn | None = None,
        mesh: Mesh | None = None,
        **options: Any,
    ) -> tuple[Array, PyTree]:
        """Draw samples as :meth:`sample` does, and keep what ``save_fn`` selects at every time.

        Args:
            key: randomness.
            n: how many.
            label: as in :meth:`sample`.
            solver: name of a solver; the configuration's by default.
            times: name of a time grid, or ``recipes.choice(name, option=...)``; the configuration's
                by default.
            num_steps: steps of the solver; the configuration's by default. If the configuration
                sets ``denoise``, one evaluation at t_min follows.
            t_min: where sampling ends; the configuration's by default.
            save_fn: maps the solver's state to what is kept, the sample itself by default; one
                function object is compiled once.
            guide: ``(denoise_fn, process) -> denoise_fn``, which wraps the model for the solver,
                such as a function of :mod:`jaxdiff.guidance`; one function object is compiled
                once.
            mesh: devices over which the samples are sharded, if n is a multiple of their number;
                the samples are the same without it.
            **options: of the solver, such as ``eta``.

        Returns:
            ``(x, saved)``: samples ``[n, *shape]``, and a pytree of ``[num_steps + 1, ...]``.

        Raises:
            InputError: if the solver, the grid, an option or a class does not exist, or the guide
                returns estimates of another shape.
        """
        if n < 1:
            raise InputError(f"n, the number of samples, must be at least 1, got {n}")
        memory.check_examples("n", n, self.shape)
        config = self.config.sampling
        name = solver or config.solver.name
        inherited = dict(config.solver.options) if name == config.solver.name else {}
        steps = config.num_steps if num_steps is None else num_steps
        grid = build.time_grid(
            _named(times, config.times),
            self.process,
            steps,
            t_min=config.t_min if t_min is None else t_min,
        )
        sampling.check_times(grid)
        if save_fn is sampling.keep_sample:
            memory.check_examples("num_steps of a trajectory", len(grid) - 1, (n, *self.shape))
        label_key, sample_key = jax.random.split(key)
        if self.config.model.class_conditional and label is None:
            label = jax.random.randint(label_key, (n,), 0, self.num_classes or 1)
        label = self._check_label(label, n)
        # compiler options are only allowed for the outermost jit
        traced = any(
            isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((key, self.params, label))
        )
        platform = jax.default_backend() if mesh is None else sharding.platform(mesh)
        drawn: tuple[Array, PyTree] = (_sample if traced else _compiled_sample(platform))(
            sample_key,
            self.params,
            self.process,
            grid,
            label,
            config=self.config,
            network=self.network,
            solver=build.suited(choice(name, **{**inherited, **options}), steps),
            shape=(n, *self.shape),
            save_fn=save_fn,
            guide=guide,
            mesh=mesh if mesh is not None and mesh.size > 1 and n % mesh.size == 0 else None,
        )
        return drawn

    def _check_label(self, label: ArrayLike | None, n: int) -> Array | None:
        """One integer label for each of n samples."""
        if label is None:
            return None
        classes = self.num_classes if self.config.model.class_conditional else 0
        if not classes:
            raise InputError(f"label must be None for a run without classes, got {label}")
        whole = _whole(label, classes)
        if whole.shape not in ((), (n,)):
            raise InputError(
                f"label must be one class, or one for each of {n} samples, got shape {whole.shape}"
            )
        return jnp.broadcast_to(whole, (n,))


def _named(chosen: str | Choice | None, default: Choice) -> Choice:
    return default if chosen is None else choice(chosen) if isinstance(chosen, str) else chosen


def _whole(label: ArrayLike, classes: int) -> Array:
    """Labels as integers; the values of traced ones cannot be checked."""
    if not isinstance(label, jax.core.Tracer):
        return jnp.asarray(whole_labels("label", label, num_classes=classes))
    if not jnp.issubdtype(label.dtype, jnp.integer):
        raise InputError(f"label must be of an integer type under jax.jit, got {label.dtype}")
    return label


def _nothing(state: Any) -> None:
    """Save nothing of the trajectory."""


@functools.cache
def _compiled_sample(platform: str) -> Any:
    """Sampling, jitted when first needed, since compiler options initialise a backend."""
    static = ("config", "network", "solver", "shape", "save_fn", "guide", "mesh")
    return jax.jit(_sample, static_argnames=static, compiler_options=compiler_options(platform))


def _sample(
    key: Key,
    params: Params,
    process: Process,
    times: Array,
    label: Array | None,
    *,
    config: Config,
    network: nn.Module,
    solver: Choice,
    shape: tuple[int, ...],
    save_fn: Callable[[Any], PyTree],
    guide: GuideFn | None,
    mesh: Mesh | None,
) -> tuple[Array, PyTree]:
    prior_key, solver_key = jax.random.split(key)
    model = build.denoise_fn(config, network, process, params, label=label)
    model = model if guide is None else checked_model("guide", guide(model, process))
    noise = sample_prior(prior_key, process, shape)
    if mesh is not None:
        noise = jax.lax.with_sharding_constraint(noise, sharding.batch_sharding(mesh))
    x, saved = sampling.trajectory(
        solver_key,
        build.solver(solver, model, process),
        noise,
        times,
        save_fn=save_fn,
    )
    return (model(x, times[-1]).x0 if config.sampling.denoise else x), saved
