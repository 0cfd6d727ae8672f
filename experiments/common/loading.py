"""Loading of a trained run, with the EMA of its parameters that flags choose."""

from absl import flags

from jaxdiff import recipes
from jaxdiff.recipes import Run

EMA_DECAY = flags.DEFINE_float(
    "ema_decay", None, "Which of the run's EMAs to use, instead of the first."
)
EMA_STD = flags.DEFINE_float(
    "ema_std", None, "Reconstruct the EMA with this standard deviation, as a fraction of the run."
)


def load_run(workdir: str) -> Run:
    """Load the newest checkpoint of a workdir."""
    return recipes.load(workdir, ema_decay=EMA_DECAY.value, ema_std=EMA_STD.value)
