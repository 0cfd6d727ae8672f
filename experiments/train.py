"""Train a model: ``python -m experiments.train --config=FILE --workdir=DIR``.

Run again, the same command goes on from the last checkpoint. Any field of the configuration is
overridden as ``--config.optimizer.learning_rate=1e-4``.
"""

from absl import flags
from ml_collections import config_flags

from experiments import cli
from jaxdiff import train
from jaxdiff.typing import InputError

CONFIG = config_flags.DEFINE_config_file("config", None, "Config file; see experiments/configs.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run, made if missing.")


def main() -> None:
    """Read the flags, and train."""
    if CONFIG.value is None or not WORKDIR.value:
        raise InputError("training takes --config=FILE and --workdir=DIR, got neither or one")
    train.train(train.from_dict(CONFIG.value.to_dict()), WORKDIR.value)


if __name__ == "__main__":
    cli.run(main)
