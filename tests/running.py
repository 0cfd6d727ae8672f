"""The modules of the project, run in processes of their own, as a person would from its root."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import jax

ROOT = Path(__file__).parents[1]
# What runs for a moment spends it compiling, and the next one compiles what this one did.
QUICKLY = {"jax_disable_most_optimizations": 1, "jax_persistent_cache_min_compile_time_secs": 0}
ENVIRONMENT = {
    **os.environ,
    **{name.upper(): str(value) for name, value in QUICKLY.items()},
    "PYTHONPATH": str(ROOT),
}
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["jaxdiff.train", "experiments.cli", "orbax.checkpoint", "grain", "tensorboardX",
     "matplotlib.figure", "sklearn.datasets"]
)  # fmt: skip


class Forked(NamedTuple):
    """What a command left, under the names of ``subprocess``."""

    returncode: int | None
    stdout: str
    stderr: str


def command(*arguments):
    """Run a module to its end."""
    line = [sys.executable, "-m", *arguments]
    return subprocess.run(
        line, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )


def forked(*arguments):
    """Run a module to its end in a process that has imported the libraries already."""
    with tempfile.TemporaryDirectory() as folder:
        return start(*arguments, folder=folder).end()


class Started:
    """A command at work, in a process that had imported the libraries already."""

    def __init__(self, process, said):
        self.process, self.said = process, said

    @property
    def alive(self):
        return self.process.is_alive()

    def signal(self, number):
        os.kill(self.process.pid, number)

    def end(self):
        self.process.join()
        return Forked(self.process.exitcode, *(path.read_text() for path in self.said))


def _as_main(arguments, stdout, stderr):
    for name, value in QUICKLY.items():
        jax.config.update(name, value)
    for path, number in ((stdout, 1), (stderr, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    sys.argv = list(arguments)
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


def start(*arguments, folder):
    """Start a module, and leave it running; what it says goes to files in ``folder``."""
    said = [Path(folder, name) for name in ("stdout", "stderr")]
    for path in said:
        path.touch()
    process = FORKS.Process(target=_as_main, args=(arguments, *said))
    process.start()
    return Started(process, said)
