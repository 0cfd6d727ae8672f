"""A trained run with the average of its parameters that flags ask for."""

from absl import flags

from jaxdiff import recipes
from jaxdiff.recipes import Run

EMA_DECAY = flags.DEFINE_float(
    "ema_decay", None, "Which of the run's moving averages to take, instead of the first."
)
EMA_STD = flags.DEFINE_float(
    "ema_std", None, "Put together the average whose memory has this share of the run."
)


def load_run(workdir: str) -> Run:
    """Load the newest checkpoint of a workdir."""
    return recipes.load(workdir, ema_decay=EMA_DECAY.value, ema_std=EMA_STD.value)
