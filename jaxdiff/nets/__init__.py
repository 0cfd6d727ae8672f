"""L6: Flax networks ``(x, noise_cond, label=None, *, train=False)``, independent of any process."""

from jaxdiff.nets.architectures import ADM, DDPM, DDPMPP, NCSNPP
from jaxdiff.nets.dit import DiT
from jaxdiff.nets.mlp import MLP
from jaxdiff.nets.unet import UNet

__all__ = ["ADM", "DDPM", "DDPMPP", "MLP", "NCSNPP", "DiT", "UNet"]
