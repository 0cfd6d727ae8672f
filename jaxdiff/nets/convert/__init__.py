"""Conversion of weights from and to other systems, and storage in a file that any of them can read.

score_sde_network(config), from_score_sde(state, net), load_score_sde(path, net)
diffusers_network(config), from_diffusers(state, net), load_diffusers(folder)
diffusers_config(net, shape), to_diffusers(net, variables)
from_inception(state), load_inception(path)
save(folder, net, variables), load(folder)
"""

from jaxdiff.nets.convert.diffusers import diffusers_network, from_diffusers
from jaxdiff.nets.convert.diffusers_folder import load_diffusers
from jaxdiff.nets.convert.inception import INCEPTION_SHA256, from_inception, load_inception
from jaxdiff.nets.convert.score_sde import from_score_sde, score_sde_network
from jaxdiff.nets.convert.score_sde_checkpoint import ScoreSdeCheckpoint, load_score_sde
from jaxdiff.nets.convert.store import load, save
from jaxdiff.nets.convert.to_diffusers import diffusers_config, to_diffusers

__all__ = [
    "INCEPTION_SHA256",
    "ScoreSdeCheckpoint",
    "diffusers_config",
    "diffusers_network",
    "from_diffusers",
    "from_inception",
    "from_score_sde",
    "load",
    "load_diffusers",
    "load_inception",
    "load_score_sde",
    "save",
    "score_sde_network",
    "to_diffusers",
]
