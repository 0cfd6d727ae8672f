"""Reproduce a published row: ``python -m experiments.reproduce --row=ve_ncsnpp --workdir=DIR``.

Trains the row's configuration, evaluates it by the protocol of its paper and writes the report, by
the commands that it prints, each of which resumes: run it again after any interruption. With
``--scale=tiny`` the same process, objective and sampler are trained with a small network on digits,
which takes about two minutes and shows that every part works. ``--list`` prints all rows.

With published weights instead of training: ``experiments.weights --read=FILE --score_sde_config=…
--workdir=DIR`` before it, and nothing is left to train.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path

from absl import flags

from experiments.common import cli
from experiments.common.evaluating import EVALUATION_FILE
from experiments.common.published import ROWS, as_table, commands, verdicts
from jaxdiff.typing import InputError, out_of

ROW = flags.DEFINE_string("row", None, "Name of a published row; see --list.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; runs/<row> by default.")
SCALE = flags.DEFINE_enum(
    "scale", "full", ["full", "tiny"], "The published settings, or a small network on digits."
)
INCEPTION = flags.DEFINE_string("inception", None, "Weights of the FID's Inception-v3.")
DATA_DIR = flags.DEFINE_string("data_dir", "", "Folder of the prepared TFDS dataset.")
LIST = flags.DEFINE_bool("list", False, "Print the rows and what is published, and end.")


def main() -> None:
    """Read the flags, run the commands, and compare with what is published."""
    if LIST.value:
        print(as_table())
        return
    if ROW.value not in ROWS:
        raise InputError(f"--row must be one of {out_of(ROW.value, ROWS)}")
    tiny = SCALE.value == "tiny"
    if INCEPTION.value is None and not tiny:
        raise InputError("--inception must be the file of the FID's Inception-v3, got none")
    row = ROWS[ROW.value]
    workdir = Path(WORKDIR.value or f"runs/{ROW.value}")
    made = commands(
        row, workdir, tiny=tiny, inception=INCEPTION.value or "", data_dir=DATA_DIR.value
    )
    for command in made:
        print(f"$ {shlex.join(['python', *command])}", flush=True)
        ended = subprocess.run([sys.executable, *command], check=False)
        if ended.returncode:
            print(f"error: the command above ended with status {ended.returncode}", file=sys.stderr)
            sys.exit(ended.returncode)
    if tiny:
        print("every part works; the figures of --scale=tiny are not those of the paper")
        return
    record = json.loads((workdir / EVALUATION_FILE).read_text(encoding="utf-8"))
    for line in verdicts(row, record):
        print(line)


if __name__ == "__main__":
    cli.run(main)
