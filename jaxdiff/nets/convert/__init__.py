"""Weights of other systems as ours, and ours as a file that any system can read.

score_sde_network(config), from_score_sde(state, net), load_score_sde(path, net)
diffusers_network(config), from_diffusers(state, net), load_diffusers(folder)
save(folder, net, variables), load(folder)
"""

from jaxdiff.nets.convert.diffusers import diffusers_network, from_diffusers
from jaxdiff.nets.convert.diffusers_folder import load_diffusers
from jaxdiff.nets.convert.score_sde import from_score_sde, score_sde_network
from jaxdiff.nets.convert.score_sde_checkpoint import ScoreSdeCheckpoint, load_score_sde
from jaxdiff.nets.convert.store import load, save

__all__ = [
    "ScoreSdeCheckpoint",
    "diffusers_network",
    "from_diffusers",
    "from_score_sde",
    "load",
    "load_diffusers",
    "load_score_sde",
    "save",
    "score_sde_network",
]
