"""The modules of the project, run in processes of their own, as a person would from its root."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def command(*arguments):
    """Run a module to its end."""
    line = [sys.executable, "-m", *arguments]
    return subprocess.run(
        line, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )


def start(*arguments):
    """Start a module, and leave it running."""
    line, nowhere = [sys.executable, "-m", *arguments], subprocess.DEVNULL
    return subprocess.Popen(line, cwd=ROOT, env=ENVIRONMENT, stdout=nowhere, stderr=nowhere)
