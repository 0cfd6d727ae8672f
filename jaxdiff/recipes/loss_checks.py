"""L9: which fields of ``config.loss`` go with which loss, and which loss with which process."""

from jaxdiff.processes import Process
from jaxdiff.recipes.config import Config, LossConfig
from jaxdiff.recipes.measures import BOUNDS, CHAINS, CONTINUOUS, WEIGHTED
from jaxdiff.typing import InputError


def check_loss(config: Config, forward: Process) -> None:
    """Refuse what would be ignored, and a loss that the process does not have.

    Raises:
        InputError: naming the field.
    """
    loss, default = config.loss, LossConfig()
    name, chain = loss.name, forward.num_steps is not None
    if name in CHAINS and not chain:
        raise InputError(
            f"config.loss.name must be other than {name} unless the process is a chain, got {name} "
            f"with process {config.process.name}"
        )
    if name in CONTINUOUS and chain:
        raise InputError(
            f"config.loss.name must be vlb, not {name}, for the bound of a chain, got {name} with "
            f"process {config.process.name}"
        )
    if config.process.name == "learned_vp" and name != "elbo":
        raise InputError(
            f"config.loss.name must be elbo, by which process learned_vp is learned, got {name}"
        )
    if (name == "hybrid") != (loss.vlb_weight > 0):
        takes = "above 0 for" if name == "hybrid" else "0 for any loss but"
        raise InputError(
            f"config.loss.vlb_weight must be {takes} hybrid, got {loss.vlb_weight} with {name}"
        )
    if name == "hybrid" and not config.model.learned_variance:
        raise InputError(
            "config.model.learned_variance must be true for the hybrid loss, which trains it"
        )
    if name != "denoising" and loss.target != default.target:
        raise InputError(
            f"config.loss.target must be {default.target} for any loss but denoising, got "
            f"{loss.target} with {name}"
        )
    if name not in WEIGHTED and loss.weight != default.weight:
        raise InputError(
            f"config.loss.weight must be {default.weight.name} for {name}, which has no other, got "
            f"{loss.weight.name}"
        )
    if name in BOUNDS and not loss.importance_weights:
        raise InputError(
            f"config.loss.importance_weights must be true for {name}, which is no bound without"
        )
    if name in BOUNDS and loss.times.name == "fixed":
        raise InputError(f"config.loss.times must be other than fixed for {name}, got fixed")
