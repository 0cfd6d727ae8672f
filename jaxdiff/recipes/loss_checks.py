"""L9: checks which fields of ``config.loss`` apply to a loss, and which losses to a process."""

from jaxdiff.processes import Process
from jaxdiff.recipes.config import Config, LossConfig
from jaxdiff.recipes.measures import BOUNDS, CHAINS, CONTINUOUS, WEIGHTED
from jaxdiff.typing import InputError


def check_loss(config: Config, forward: Process) -> None:
    """Refuse fields that would be ignored, and a loss that does not apply to the process.

    Raises:
        InputError: naming the field.
    """
    loss, default = config.loss, LossConfig()
    name, chain = loss.name, forward.num_steps is not None
    if name in CHAINS and not chain:
        raise InputError(
            f"config.process must be a chain for the loss {name}, got {config.process.name}"
        )
    if name in CONTINUOUS and chain:
        raise InputError(
            f"config.loss.name must be vlb for the bound of a chain, got {name} with process "
            f"{config.process.name}"
        )
    if config.process.name == "learned_vp" and name != "elbo":
        raise InputError(f"config.loss.name must be elbo for the process learned_vp, got {name}")
    if (name == "hybrid") != (loss.vlb_weight > 0):
        required = "positive for" if name == "hybrid" else "0 for any loss but"
        raise InputError(
            f"config.loss.vlb_weight must be {required} hybrid, got {loss.vlb_weight} with {name}"
        )
    if name == "hybrid" and not config.model.learned_variance:
        raise InputError(
            "config.model.learned_variance must be true for the hybrid loss, got false"
        )
    if name != "denoising" and loss.target != default.target:
        raise InputError(
            f"config.loss.target must be {default.target} for any loss but denoising, got "
            f"{loss.target} with {name}"
        )
    if name not in WEIGHTED and loss.weight != default.weight:
        raise InputError(
            f"config.loss.weight must be {default.weight.name} for the loss {name}, got "
            f"{loss.weight.name}"
        )
    if name in BOUNDS and not loss.importance_weights:
        raise InputError(
            f"config.loss.importance_weights must be true for the bound {name}, got false"
        )
    if name in BOUNDS and loss.times.name == "fixed":
        raise InputError(f"config.loss.times must not be fixed for the bound {name}, got fixed")
