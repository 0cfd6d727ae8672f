"""The published U-Nets, for CIFAR-10's 32 × 32 pixels, where level 1 has 16 × 16.

Each is a :class:`~jaxdiff.nets.UNet` with fields set; every field can be set otherwise.
"""

import functools
import math

from jaxdiff.nets.resampling import BINOMIAL
from jaxdiff.nets.unet import UNet

DDPM = functools.partial(
    UNet,
    channels=128,
    multipliers=(1, 2, 2, 2),
    blocks_per_level=2,
    attention_levels=(1,),
    head_dim=None,
    modulation="shift",
    dropout=0.1,
)
"""Ho et al. 2020, appendix B: 35,746,307 parameters; with ``attention_up="last"``, as in score_sde,
35,218,947."""

DDPMPP = functools.partial(
    DDPM,
    blocks_per_level=4,
    attention_up="last",
    resampling="block",
    project=True,
    skip_scale=math.sqrt(0.5),
)
"""DDPM++ of Song et al. 2021, appendix H: 61,804,419 parameters; deep, with 8 blocks a level,
106,632,579."""

NCSNPP = functools.partial(
    DDPMPP,
    filter=BINOMIAL,
    progressive_input="residual",
    embedding="fourier",
    noise_cond_scale=16.0,
)
"""NCSN++ of Song et al. 2021, appendix H, for continuous times: 62,758,787 parameters and 128 fixed
frequencies; deep, with 8 blocks a level, 107,586,947. For data in [0, 1], set ``recenter``."""

ADM = functools.partial(
    UNet,
    channels=128,
    multipliers=(1, 2, 2, 2),
    blocks_per_level=3,
    attention_levels=(1, 2),
    head_dim=64,
    modulation="scale_shift",
    resampling="block",
    epsilon=1e-5,
    dropout=0.1,
)
"""ADM of Dhariwal & Nichol 2021, section 3, at the size of improved DDPM for small images."""
