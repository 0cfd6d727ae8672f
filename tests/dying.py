"""Training in a process that is killed once the first checkpoint is complete.

Given the flags of ``experiments.train`` it runs that command; given the name of a task of
``toy_tasks`` and a workdir it trains that task.
"""

import os
import runpy
import signal
import sys
import time
from pathlib import Path

import toy_tasks

from jaxdiff import train
from jaxdiff.train.progress import Progress


def die_once_saved(workdir):
    """Kill this process in the first step after a complete checkpoint."""
    update = Progress.update

    def dying(self, step, metrics, **more):
        update(self, step, metrics, **more)
        if step > self._config.checkpoint_every:
            while not any(p.name.isdigit() for p in Path(workdir, "checkpoints").glob("*")):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

    Progress.update = dying


def main():
    flags = [a.removeprefix("--workdir=") for a in sys.argv if a.startswith("--workdir=")]
    if flags:
        die_once_saved(flags[0])
        runpy.run_module("experiments.train", run_name="__main__", alter_sys=True)
    else:
        name, workdir = sys.argv[1:]
        die_once_saved(workdir)
        train.fit(toy_tasks.task(name), workdir, toy_tasks.SETTINGS, say=lambda line: None)


if __name__ == "__main__":
    main()
