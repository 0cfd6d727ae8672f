"""Train a model: ``python -m experiments.train --config=FILE --workdir=DIR``.

The same command resumes from the last checkpoint, also after SIGTERM, Ctrl-C or a crash; with a
larger --config.training.num_steps it extends the run, unless its schedule is cosine. Any field of
the configuration can be overridden, as in ``--config.optimizer.learning_rate=1e-4``. All available
devices are used; started once on each of several hosts, they train together (see --coordinator).
"""

import re
import shlex
import sys

from absl import flags
from ml_collections import config_flags

from experiments.common import cli, hosts
from jaxdiff import recipes
from jaxdiff.typing import InputError

CONFIG = config_flags.DEFINE_config_file("config", None, "Config file; see experiments/configs.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run, made if missing.")
FSDP = flags.DEFINE_integer("fsdp", 1, "Devices over which parameters are sharded.", lower_bound=1)
MICROBATCHES = flags.DEFINE_integer(
    "microbatches", 1, "Parts in which a device processes its shard of a batch.", lower_bound=1
)
WORKERS = flags.DEFINE_integer(
    "workers", 0, "Processes that read and decode; 0 for threads.", lower_bound=0
)
PROFILE_STEPS = flags.DEFINE_string(
    "profile_steps", None, "FIRST:LAST, the steps whose trace goes to <workdir>/profile."
)


def main() -> None:
    """Read the flags, and train."""
    if CONFIG.value is None or not WORKDIR.value:
        raise InputError("--config=FILE and --workdir=DIR must both be given, got neither or one")
    config = recipes.from_dict(CONFIG.value.to_dict())
    profile_steps = _steps(PROFILE_STEPS.value)
    first = hosts.initialize_distributed()
    with hosts.exit_when_peer_lost():
        run = recipes.train(
            config,
            WORKDIR.value,
            fsdp=FSDP.value,
            microbatches=MICROBATCHES.value,
            workers=WORKERS.value,
            profile_steps=profile_steps,
            say=print if first else lambda line: None,
        )
    if first and run.step < config.training.num_steps:
        command = shlex.join(["python", "-m", "experiments.train", *sys.argv[1:]])
        print(f"to resume: {command}")


def _steps(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    numbers = re.fullmatch(r"(\d+):(\d+)", text)
    if numbers is None:
        raise InputError(f"--profile_steps must be FIRST:LAST, got {text!r}")
    return int(numbers[1]), int(numbers[2])


if __name__ == "__main__":
    cli.run(main)
