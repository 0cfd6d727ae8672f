"""L7: the one file that turns names in a configuration into things.

Each table maps a name to what makes the thing; its keyword arguments are the options that the
configuration may set, and their defaults tell the types.
"""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxdiff import denoisers, losses, nets, processes, schedules, solvers
from jaxdiff.nets import embeddings
from jaxdiff.nets.unet import check_divides
from jaxdiff.predictions import Denoised, DenoiseFn
from jaxdiff.processes import Process
from jaxdiff.sampling import check_times
from jaxdiff.solvers import Solver
from jaxdiff.train.config import Choice, Config
from jaxdiff.train.parsing import check_options
from jaxdiff.typing import Array, InputError, Key, Params, WeightFn


def _ddpm(
    *,
    num_steps: int = 1000,
    betas: str = "linear",
    beta_start: float = 1e-4,
    beta_end: float = 0.02,
) -> Process:
    """DDPM's chain from one of the schedules that rise from one β to another."""
    tables = {
        "linear": schedules.linear_betas,
        "quadratic": schedules.quadratic_betas,
        "sigmoid": schedules.sigmoid_betas,
    }
    if betas not in tables:
        raise InputError(f"betas is one of {', '.join(tables)}, got {betas!r}")
    return processes.DiscreteVP.from_betas(
        tables[betas](num_steps, beta_start=beta_start, beta_end=beta_end)
    )


def _ddpm_cosine(*, num_steps: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> Process:
    """The chain of improved DDPM."""
    return processes.DiscreteVP.from_betas(
        schedules.cosine_betas(num_steps, s=s, max_beta=max_beta)
    )


def _ncsn(*, num_steps: int = 232, sigma_min: float = 0.01, sigma_max: float = 50.0) -> Process:
    """NCSN's geometric ladder."""
    return processes.DiscreteVE.from_sigmas(
        schedules.geometric_sigmas(num_steps, sigma_min=sigma_min, sigma_max=sigma_max)
    )


PROCESSES: Mapping[str, Callable[..., Process]] = {
    "vp": processes.VP,
    "subvp": processes.SubVP,
    "ve": processes.VE,
    "cosine_vp": processes.CosineVP,
    "ddpm": _ddpm,
    "ddpm_cosine": _ddpm_cosine,
    "ncsn": _ncsn,
}
NETWORKS: Mapping[str, Callable[..., nn.Module]] = {"unet": nets.UNet, "mlp": nets.MLP}


class Level(NamedTuple):
    """How a network is told the noise level, and what its embedding multiplies that by."""

    fn: denoisers.NoiseLevelFn
    scale: float


LEVELS: Mapping[str, Level] = {
    "time": Level(denoisers.time, embeddings.TIME_SCALE),
    "log_sigma": Level(denoisers.log_sigma, embeddings.LOG_SIGMA_SCALE),
    "log_snr": Level(denoisers.log_snr, embeddings.LOG_SNR_SCALE),
}
WEIGHTS: Mapping[str, Callable[..., Array]] = {
    "eps": losses.weights.eps,
    "sigma2": losses.weights.eps,  # λ = σ² on the score is 1 on ε
    "x0": losses.weights.x0,
    "likelihood": losses.weights.likelihood,
    "min_snr": losses.weights.min_snr,
    "edm": losses.weights.edm,
}
TIME_SAMPLERS: Mapping[str, Callable[..., losses.times.TimeSample]] = {
    "uniform": losses.times.uniform,
    "stratified": losses.times.stratified,
}
SOLVERS: Mapping[str, Callable[..., Solver]] = {
    "ancestral": solvers.ancestral,
    "ddim": solvers.ddim,
    "euler_maruyama": solvers.euler_maruyama,
    "heun": solvers.heun,
}
TIME_GRIDS: Mapping[str, Callable[..., Array]] = {
    "uniform": lambda process, num_steps, **ends: schedules.uniform_times(num_steps, **ends),
    "quadratic": lambda process, num_steps, **ends: schedules.quadratic_times(num_steps, **ends),
    "log_snr": schedules.log_snr_times,
    "karras": schedules.karras_times,
}


def process(config: Config) -> Process:
    """Build the forward process, and refuse one whose noise does not grow with time."""
    built: Process = _resolve(PROCESSES, config.process, "config.process")()
    log_snr = built.log_snr(jnp.linspace(0.0, 1.0, 101))
    if not bool(jnp.all(jnp.diff(log_snr) < 0)):
        raise InputError(
            "config.process takes parameters under which log SNR falls from t = 0 to t = 1, got "
            f"{config.process.as_dict()}"
        )
    return built


def network(config: Config, shape: tuple[int, ...], num_classes: int | None) -> nn.Module:
    """Build the network for examples of one shape, labelled where the configuration says so."""
    if config.model.class_conditional and num_classes is None:
        raise InputError("config.model.class_conditional takes data with labels, got data without")
    make = _resolve(NETWORKS, config.network, "config.network", reserved=_SET_ELSEWHERE)
    built = make(
        level_scale=LEVELS[config.model.level].scale,
        num_classes=num_classes if config.model.class_conditional else None,
    )
    if config.network.name == "unet":
        if len(shape) != 3:
            raise InputError(
                f"config.network.name unet takes images, got examples of shape {shape}; take mlp"
            )
        check_divides(shape[:2], len(built.multipliers))
    return built


def denoise_fn(
    config: Config,
    net: nn.Module,
    forward: Process,
    params: Params,
    *,
    label: Array | None = None,
    dropout_key: Key | None = None,
) -> DenoiseFn:
    """Bind a network to parameters and labels; with a ``dropout_key`` it runs as in training."""
    training = dropout_key is not None
    rngs = None if dropout_key is None else {"dropout": dropout_key}

    def apply(x: Array, level: Array) -> Array:
        output: Any = net.apply(params, x, level, label, train=training, rngs=rngs)
        return output

    model = config.model
    return denoisers.denoiser(
        apply,
        forward,
        kind=model.kind,
        data_std=model.data_std,
        level_fn=LEVELS[model.level].fn,
        scale_input=model.scale_input,
    )


def loss_fn(
    config: Config, net: nn.Module, forward: Process
) -> Callable[[Params, Key, Mapping[str, Array]], Array]:
    """Build ``(params, key, batch) -> [batch]``, the loss per example and per dimension."""
    weight_fn = weight(config)
    times = functools.partial(
        TIME_SAMPLERS[config.loss.times],
        t_min=config.loss.t_min,
        num_steps=getattr(forward, "num_steps", None),
    )

    def loss(params: Params, key: Key, batch: Mapping[str, Array]) -> Array:
        time_key, noise_key, dropout_key = jax.random.split(key, 3)
        x0 = batch["x"]
        t, importance = times(time_key, x0.shape[0])
        label = batch["label"] if config.model.class_conditional else None
        model = denoise_fn(config, net, forward, params, label=label, dropout_key=dropout_key)
        error = losses.denoising(
            noise_key, model, forward, x0, t, target=config.loss.target, weight_fn=weight_fn
        )
        return importance * error / (x0.size // x0.shape[0])

    return loss


def weight(config: Config) -> WeightFn:
    """Build the weighting, for the target whose error is measured and the data's own σ_d."""
    chosen = config.loss.weight
    settings: dict[str, Any] = {"target": config.loss.target}
    make = _resolve(WEIGHTS, chosen, "config.loss.weight", reserved=("target", "data_std"))
    if "data_std" in inspect.signature(WEIGHTS[chosen.name]).parameters:
        settings["data_std"] = config.model.data_std
    return functools.partial(make, **settings)


def optimizer(config: Config) -> optax.GradientTransformation:
    """Build the optax chain: clip by global norm, then Adam or AdamW on the schedule."""
    settings, num_steps = config.optimizer, config.training.num_steps
    peak, warmup = settings.learning_rate, settings.warmup_steps
    if warmup >= num_steps:
        raise InputError(
            "config.optimizer.warmup_steps takes less than config.training.num_steps "
            f"({num_steps}), got {warmup}"
        )
    if settings.weight_decay and settings.name == "adam":
        raise InputError(
            "config.optimizer.weight_decay takes 0 under adam, which has none, got "
            f"{settings.weight_decay}; take adamw"
        )
    start = 0.0 if warmup else peak
    if settings.schedule == "cosine":
        rate = optax.warmup_cosine_decay_schedule(start, peak, warmup, num_steps)
    else:
        rate = optax.warmup_constant_schedule(start, peak, warmup)
    adamw = functools.partial(optax.adamw, weight_decay=settings.weight_decay)
    make = adamw if settings.name == "adamw" else optax.adam
    return optax.chain(
        optax.clip_by_global_norm(settings.clip_norm),
        make(rate, b1=settings.b1, b2=settings.b2, eps=settings.epsilon),
    )


def solver(chosen: Choice, model: DenoiseFn, forward: Process) -> Solver:
    """Build the solver around a model."""
    return _resolve(SOLVERS, chosen, "config.sampling.solver")(model, forward)


def time_grid(chosen: Choice, forward: Process, num_steps: int, *, t_min: float) -> Array:
    """Build the grid ``[num_steps + 1]`` from t = 1 to t_min."""
    reserved = ("t_max", "t_min", "sigma_min", "sigma_max")
    make = _resolve(TIME_GRIDS, chosen, "config.sampling.times", reserved=reserved)
    return make(forward, num_steps, t_min=t_min)


def check(config: Config, forward: Process) -> None:
    """Build what training needs late, so that it is refused before anything is written."""
    weight(config)
    optimizer(config)
    sampling = config.sampling
    grid = time_grid(sampling.times, forward, sampling.num_steps, t_min=sampling.t_min)
    check_times(grid)
    solver(sampling.solver, lambda x, t: Denoised(x, x), forward)


_SET_ELSEWHERE = ("level_scale", "num_classes", "parent", "name")
"""Options of a network that the data and ``config.model`` decide."""


def _resolve(
    table: Mapping[str, Callable[..., Any]],
    chosen: Choice,
    path: str,
    *,
    reserved: Collection[str] = (),
) -> Callable[..., Any]:
    """Look a name up and bind its options, both checked; errors name the field."""
    if chosen.name not in table:
        raise InputError(f"{path}.name takes one of {', '.join(table)}, got {chosen.name!r}")
    make = table[chosen.name]
    parameters = inspect.signature(make).parameters.values()
    signature = {
        p.name: type(p.default)
        for p in parameters
        if p.default is not inspect.Parameter.empty and p.name not in reserved
    }
    options = check_options(signature, dict(chosen.options), path)
    bound = functools.partial(make, **options)

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return bound(*args, **kwargs)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    return call
