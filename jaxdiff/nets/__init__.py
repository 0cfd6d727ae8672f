"""L6: Flax networks ``(x, level, label=None, *, train=False)``; they know no process."""

from jaxdiff.nets.mlp import MLP
from jaxdiff.nets.unet import UNet

__all__ = ["MLP", "UNet"]
