"""The modules of the project, run in processes of their own, as a person would from its root."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["jaxdiff.train", "experiments.cli"])


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
        said = [Path(folder, name) for name in ("stdout", "stderr")]
        process = FORKS.Process(target=_as_main, args=(arguments, *said))
        process.start()
        process.join()
        return Forked(process.exitcode, *(path.read_text() for path in said))


def _as_main(arguments, stdout, stderr):
    for path, number in ((stdout, 1), (stderr, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    sys.argv = list(arguments)
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


def start(*arguments):
    """Start a module, and leave it running."""
    line, nowhere = [sys.executable, "-m", *arguments], subprocess.DEVNULL
    return subprocess.Popen(line, cwd=ROOT, env=ENVIRONMENT, stdout=nowhere, stderr=nowhere)
