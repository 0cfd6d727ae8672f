"""The configurations with small networks of every kind, which trace and compile in seconds."""

import importlib

from ml_collections import ConfigDict

from jaxdiff import recipes
from jaxdiff.recipes.diffusion import assemble

CIFAR10 = {
    "dit": "cifar10_dit",
    "ddpm": "cifar10_small",
    "ddpmpp": "cifar10_ddpmpp_vp",
    "ncsnpp": "cifar10_ncsnpp_ve",
}
"""One configuration of CIFAR-10 for each kind of network."""
CONFIGS = CIFAR10 | {"unet": "digits_vp", "adm": "digits_vp", "mlp": "toy_vp"}
"""One configuration for each name of a network."""
SHAPES = {"digits": (8, 8, 1), "toy": (2,), "cifar10": (8, 8, 3)}
UNET = {"channels": 8, "blocks_per_level": 1, "groups": 4}
ONE_LEVEL = UNET | {"multipliers": (1,), "attention_levels": (0,)}
TWO_LEVELS = UNET | {"multipliers": (1, 1), "attention_levels": (1,)}
SMALL = {
    "dit": {"features": 16, "depth": 2, "heads": 2},
    "ddpm": ONE_LEVEL,
    "ddpmpp": ONE_LEVEL,
    "ncsnpp": TWO_LEVELS,
    "unet": TWO_LEVELS,
    "adm": ONE_LEVEL,
    "mlp": {"width": 8, "depth": 1},
}


def small(network, *, batch_size=32):
    """Everything built from the configuration of a network, with a small one, for small images."""
    name = CONFIGS[network]
    config = importlib.import_module(f"experiments.configs.{name}").get_config()
    published = {"name": "adm"} if network == "adm" else config.network.to_dict()
    config.network = ConfigDict(published | SMALL[network])
    config.training.batch_size = batch_size
    return assemble(recipes.from_dict(config.to_dict()), SHAPES[name.split("_")[0]], 10)
