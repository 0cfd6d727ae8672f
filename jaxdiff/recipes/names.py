"""L9: the names that a configuration may use, and what each of them builds.

Each table maps a name to a function; its keyword arguments are the options that the configuration
may set, and their defaults determine the types.
"""

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from jaxdiff import denoisers, losses, nets, processes, schedules, solvers
from jaxdiff.nets import embeddings
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process
from jaxdiff.recipes.config import Choice, NoiseCondName, choice, frozen
from jaxdiff.recipes.parsing import check_finite, check_options
from jaxdiff.solvers import Solver
from jaxdiff.solvers.langevin import Norms
from jaxdiff.solvers.predictor_corrector import Order
from jaxdiff.train import memory
from jaxdiff.typing import Array, InputError, out_of


def _ddpm(
    *,
    num_steps: int = 1000,
    betas: Literal["linear", "quadratic", "sigmoid"] = "linear",
    beta_start: float = 1e-4,
    beta_end: float = 0.02,
    zero_terminal_snr: bool = False,
) -> Process:
    """DDPM's chain, with one of the schedules that rise from one β to another."""
    tables = {
        "linear": schedules.linear_betas,
        "quadratic": schedules.quadratic_betas,
        "sigmoid": schedules.sigmoid_betas,
    }
    _check_length(num_steps)
    chosen = tables[betas](num_steps, beta_start=beta_start, beta_end=beta_end)
    return processes.DiscreteVP.from_betas(
        schedules.zero_terminal_snr(chosen) if zero_terminal_snr else chosen
    )


def _ddpm_cosine(*, num_steps: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> Process:
    """The chain of improved DDPM."""
    _check_length(num_steps)
    return processes.DiscreteVP.from_betas(
        schedules.cosine_betas(num_steps, s=s, max_beta=max_beta)
    )


def _ncsn(*, num_steps: int = 232, sigma_min: float = 0.01, sigma_max: float = 50.0) -> Process:
    """NCSN's geometric sequence of noise levels."""
    _check_length(num_steps)
    return processes.DiscreteVE.from_sigmas(
        schedules.geometric_sigmas(num_steps, sigma_min=sigma_min, sigma_max=sigma_max)
    )


def _check_length(num_steps: int) -> None:
    memory.check_fits("num_steps", num_steps, num_steps * memory.STEP)


PROCESSES: Mapping[str, Callable[..., Process]] = {
    "vp": processes.VP,
    "subvp": processes.SubVP,
    "ve": processes.VE,
    "cosine_vp": processes.CosineVP,
    "ddpm": _ddpm,
    "ddpm_cosine": _ddpm_cosine,
    "ncsn": _ncsn,
    "learned_vp": processes.LearnedVP.create,
}
NETWORKS: Mapping[str, Callable[..., nn.Module]] = {
    "unet": nets.UNet,
    "ddpm": nets.DDPM,
    "ddpmpp": nets.DDPMPP,
    "ncsnpp": nets.NCSNPP,
    "adm": nets.ADM,
    "dit": nets.DiT,
    "mlp": nets.MLP,
}
SET_ELSEWHERE = ("noise_cond_scale", "embedding", "num_classes", "num_outputs", "parent", "name")
"""Options of a network that are determined by the data and ``config.model``."""


class NoiseCond(NamedTuple):
    """The quantity that tells a network the noise level, its scale, and its embedding."""

    fn: denoisers.NoiseCondFn
    scale: float
    embedding: embeddings.OptionalEmbedding = "sinusoidal"


NOISE_CONDS: Mapping[NoiseCondName, NoiseCond] = {
    "time": NoiseCond(denoisers.time, embeddings.TIME_SCALE),
    "log_sigma": NoiseCond(denoisers.log_sigma, embeddings.LOG_SIGMA_SCALE),
    "log_snr": NoiseCond(denoisers.log_snr, embeddings.LOG_SNR_SCALE),
    "index": NoiseCond(denoisers.chain_index, 1.0),  # DDPM, NCSN
    "none": NoiseCond(denoisers.time, 1.0, "none"),  # ignored by a U-Net
    "fourier": NoiseCond(denoisers.log_sigma, 16.0, "fourier"),  # NCSN++
    "edm": NoiseCond(denoisers.log_sigma, 0.25),
}
WEIGHTS: Mapping[str, Callable[..., Array]] = {
    "eps": losses.weights.eps,
    "sigma2": losses.weights.eps,  # λ = σ² on the score is 1 on ε
    "x0": losses.weights.x0,
    "likelihood": losses.weights.likelihood,
    "likelihood_weighting": losses.weights.likelihood_weighting,
    "min_snr": losses.weights.min_snr,
    "edm": losses.weights.edm,
    "p2": losses.weights.p2,
}


class LossAware(NamedTuple):
    """Number of recent losses kept per step of a chain, and the fraction of uniform draws."""

    length: int = 10
    uniform_share: float = 1e-3


TIME_SAMPLERS: Mapping[str, Callable[..., Any]] = {
    "uniform": lambda key, n, process, weight_fn, **ends: losses.times.uniform(key, n, **ends),
    "stratified": lambda key, n, process, weight_fn, **ends: losses.times.stratified(
        key, n, **ends
    ),
    "importance": lambda key, n, process, weight_fn, *, uniform_share=1e-3, **ends: (
        losses.times.importance(key, n, process, weight_fn, uniform_share=uniform_share, **ends)
    ),
    "log_normal": lambda key, n, process, weight_fn, *, mean=-1.2, std=1.2, **ends: (
        losses.times.log_normal(key, n, process, mean=mean, std=std, **ends)
    ),
    "fixed": lambda key, n, process, weight_fn, *, t_min, num_steps: losses.times.TimeSample(
        jnp.full(n, t_min), jnp.ones(n)
    ),  # one noise level, that of t_min
    "loss_aware": LossAware,
}
STEPS: Mapping[str, Callable[..., Solver]] = {
    "ancestral": solvers.ancestral,
    "ddim": solvers.ddim,
    "deis": lambda denoise_fn, process, *, order=0: solvers.deis(
        denoise_fn, process, order=order or 4
    ),
    "dpm_2": solvers.dpm_2,
    "dpm_3": solvers.dpm_3,
    "dpmpp_1": solvers.dpmpp_1,
    "dpmpp_2m": solvers.dpmpp_2m,
    "dpmpp_2s": solvers.dpmpp_2s,
    "dpmpp_3m": solvers.dpmpp_3m,
    "dpmpp_3s": solvers.dpmpp_3s,
    "euler_maruyama": solvers.euler_maruyama,
    "heun": solvers.heun,
    "rk4": solvers.rk4,
    "sde_dpmpp_1": functools.partial(solvers.dpmpp_1, eta=1.0),
    "sde_dpmpp_2m": functools.partial(solvers.dpmpp_2m, eta=1.0),
    "sde_dpmpp_3m": functools.partial(solvers.dpmpp_3m, eta=1.0),
    "stochastic_heun": solvers.stochastic_heun,
    "unipc": solvers.unipc,
    "reverse_diffusion": solvers.reverse_diffusion,
    "langevin": solvers.langevin,
    "annealed_langevin": solvers.annealed_langevin,
    "adaptive": solvers.adaptive,
}


def _predictor_corrector(
    denoise_fn: DenoiseFn,
    process: Process,
    *,
    predictor: str = "reverse_diffusion",
    order: Order = "predictor_first",
    snr: float = 0.16,
    num_corrections: int = 1,
    norms: Norms = "example",
    correct_last: bool = False,
) -> Solver:
    """Any solver by name, with Langevin corrections."""
    if predictor not in STEPS:
        raise InputError(f"predictor must be one of {out_of(predictor, STEPS)}")
    corrector = functools.partial(solvers.langevin, snr=snr, num_steps=num_corrections, norms=norms)
    return solvers.predictor_corrector(
        denoise_fn,
        process,
        predictor=STEPS[predictor],
        corrector=corrector,
        order=order,
        correct_last=correct_last,
    )


SOLVERS: Mapping[str, Callable[..., Solver]] = {
    **STEPS,
    "predictor_corrector": _predictor_corrector,
}


def _chain(times: Callable[..., Array]) -> Callable[..., Array]:
    """A spacing of the nodes of a chain, of 1000 steps if the process is continuous."""

    def grid(process: Process, num_steps: int, *, t_min: float, **options: Any) -> Array:
        if t_min != 0:
            raise InputError(f"t_min must be 0 for the spacings of a chain, got {t_min}")
        return times(num_steps, chain_steps=process.num_steps or 1000, **options)

    return grid


def _leading(process: Process, num_steps: int, *, t_min: float, offset: int = 0) -> Array:
    return _chain(schedules.leading_times)(process, num_steps, t_min=t_min, offset=offset)


TIME_GRIDS: Mapping[str, Callable[..., Array]] = {
    "uniform": lambda process, num_steps, **ends: schedules.uniform_times(num_steps, **ends),
    "quadratic": lambda process, num_steps, **ends: schedules.quadratic_times(num_steps, **ends),
    "log_snr": schedules.log_snr_times,
    "karras": schedules.karras_times,
    "logistic": schedules.logistic_times,
    "leading": _leading,
    "trailing": _chain(schedules.trailing_times),
    "linspace": _chain(schedules.linspace_times),
}


def resolve(
    table: Mapping[str, Callable[..., Any]],
    chosen: Choice,
    path: str,
    *,
    reserved: Collection[str] = (),
) -> Callable[..., Any]:
    """Look up a name and bind its options, checking both; errors name the field."""
    if chosen.name not in table:
        raise InputError(f"{path}.name must be one of {out_of(chosen.name, table)}")
    make = table[chosen.name]
    parameters = inspect.signature(make).parameters.values()
    accepted = {
        p.name: p
        for p in parameters
        if p.default is not inspect.Parameter.empty and p.name not in reserved
    }
    signature = {
        name: hint if typing.get_origin(hint) in (Literal, types.UnionType) else type(p.default)
        for name, p in accepted.items()
        for hint in [p.annotation]
    }
    options = check_options(signature, dict(chosen.options), path)
    for name, value in options.items():
        if value != accepted[name].default:  # which may be infinite, for no limit
            check_finite(value, f"{path}.{name}")
    bound = functools.partial(make, **options)

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return bound(*args, **kwargs)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    return call


def choice_of_network(net: nn.Module) -> Choice:
    """The name that needs the fewest options to make a network, with those options.

    Example:
        >>> choice_of_network(nets.DDPM(dropout=0.2)).as_dict()
        {'name': 'ddpm', 'dropout': 0.2}
    """

    def options(base: nn.Module) -> dict[str, Any]:
        own = [f.name for f in dataclasses.fields(net) if f.name not in SET_ELSEWHERE]
        pairs = [(name, getattr(net, name), getattr(base, name)) for name in own]
        return {name: value for name, value, usual in pairs if frozen(value) != frozen(usual)}

    named = {name: make() for name, make in NETWORKS.items()}
    fitting = {name: options(base) for name, base in named.items() if type(base) is type(net)}
    least = min(fitting, key=lambda name: len(fitting[name]))
    return choice(least, **fitting[least])
