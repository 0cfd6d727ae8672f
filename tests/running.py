"""Run the project's modules as a user would from its root, in this process or in others.

A command runs in the process of the tests, unless its startup or its death is tested, so that
imported libraries and compiled code also serve the next one.
"""

import contextlib
import io
import multiprocessing
import os
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import compile_cache
import jax
from absl import app, flags

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["jaxdiff.train", "experiments.common.cli", "orbax.checkpoint", "grain", "tensorboardX",
     "matplotlib.figure", "sklearn.datasets"]
)  # fmt: skip
UNSEEN = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
"""Warnings that Python hides by default."""


class Ended(NamedTuple):
    """The result of a command, with the names of ``subprocess``."""

    returncode: int | None
    stdout: str
    stderr: str


@contextlib.contextmanager
def files_of_at_most(size):
    """Limit the size of files in bytes, so that writes fail half way as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def run(module, *arguments, encoding="utf-8"):
    """Run a module to its end as ``python -m module arguments`` would, in this process.

    Its output must be encodable, as in a terminal of that encoding.
    """
    stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    stderr = io.StringIO()
    _forget_flags()
    with (
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
        contextlib.chdir(ROOT),
        _as_users_have_it(),
        mock.patch.object(sys, "argv", [module, *arguments]),
        mock.patch.object(app, "run", _parse_and_run),
        mock.patch.object(sys, "unraisablehook", sys.unraisablehook),
    ):
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
            code = 1
        finally:
            _forget_flags()
    stdout.flush()
    return Ended(code, stdout.buffer.getvalue().decode(encoding), stderr.getvalue())


def _parse_and_run(main, flags_parser):
    """Stand in for ``absl.app.run``, which also sets up its process for a single program."""
    sys.exit(main(flags_parser(sys.argv)))


def _forget_flags():
    """Delete the flags of commands, and reset those of other modules to their defaults.

    Commands that tests imported have defined their flags as well; config.seed and the like belong
    to the command whose configuration they override.
    """
    for name in list(flags.FLAGS):
        module = flags.FLAGS.find_module_defining_flag(name.partition(".")[0])
        if module not in sys.modules or _is_command(module):
            delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()


def _is_command(module):
    return module.startswith("experiments.") and hasattr(sys.modules[module], "main")


@contextlib.contextmanager
def _as_users_have_it():
    """Promote ranks and show warnings as jax and Python do outside of a test run."""

    def show(message, category, filename, lineno, file=None, line=None):
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))

    with jax.numpy_rank_promotion("allow"), warnings.catch_warnings():
        warnings.showwarning = show
        for category in UNSEEN:
            warnings.simplefilter("ignore", category)
        # raised for a command whose module another test has imported
        warnings.filterwarnings("ignore", ".* found in sys.modules", RuntimeWarning)
        yield


def command(*arguments):
    """Run a module to its end in a new process."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


def forked(*arguments, devices=1):
    """Run a module to its end in a process that has already imported the libraries."""
    with tempfile.TemporaryDirectory() as folder:
        return start(*arguments, folder=folder, devices=devices).end()


class Started:
    """A running command, in a process that had already imported the libraries."""

    def __init__(self, process, logs):
        self.process, self.logs = process, logs

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.alive:  # a failing test leaves nothing running
            self.process.kill()

    @property
    def alive(self):
        return self.process.is_alive()

    def signal(self, number):
        os.kill(self.process.pid, number)

    def end(self):
        self.process.join()
        return Ended(self.process.exitcode, *(path.read_text() for path in self.logs))


def _as_main(arguments, stdout, stderr, devices):
    compile_cache.write_whole()
    compile_cache.save_time()
    jax.config.update("jax_num_cpu_devices", devices)
    for path, number in ((stdout, 1), (stderr, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout.reconfigure(line_buffering=True)  # for tests that wait for a line
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    sys.argv = list(arguments)
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


def start(*arguments, folder, devices=1):
    """Start a module and leave it running; its output goes to files in ``folder``.

    Its processor simulates ``devices`` devices, whose number is fixed when jax starts.
    """
    logs = [Path(folder, name) for name in ("stdout", "stderr")]
    for path in logs:
        path.touch()
    process = FORKS.Process(target=_as_main, args=(arguments, *logs, devices))
    process.start()
    return Started(process, logs)
