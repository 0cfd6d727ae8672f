"""Distributed processes, set up by flags or by the cluster's environment variables."""

import contextlib
import os
import re
import sys
from collections.abc import Iterator

import jax
from absl import flags

from jaxdiff.typing import InputError

COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "HOST:PORT of process 0, with --num_processes and --process; or 'auto', which queries the "
    "cluster (TPU pod, SLURM, Open MPI, Kubernetes).",
)
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes.", lower_bound=1)
PROCESS = flags.DEFINE_integer("process", None, "Index of this process, from 0.", lower_bound=0)
HEARTBEAT_SECONDS = flags.DEFINE_integer(
    "heartbeat_seconds", 30, "Seconds without a heartbeat of a process after which all exit.", 10
)

LOST = 75
"""The exit code, EX_TEMPFAIL, that tells a launcher to retry."""
SIGNS = re.compile(r"gloo|nccl|barrier|coordination|heartbeat|peer|unavailable", re.IGNORECASE)
"""Words in the errors of the underlying libraries when a peer process is gone."""


@contextlib.contextmanager
def exit_when_peer_lost() -> Iterator[None]:
    """Exit immediately, with the reason, when another process of the run is lost."""
    try:
        yield
    except Exception as error:
        message = f"{error} {error.__cause__ or ''}"
        if jax.process_count() == 1 or not SIGNS.search(message):
            raise
        reason = " ".join(message.split())[:200]
        print(
            "error: another process of this run was lost; restart all of them with the same "
            f"commands to resume from the last checkpoint ({reason})",
            file=sys.stderr,
            flush=True,
        )
        os._exit(LOST)  # an orderly exit would wait for the lost process


def initialize_distributed() -> bool:
    """Connect to the other processes, if any; must be called before any computation.

    Returns:
        Whether this is the process that reports.

    Raises:
        InputError: if the flags are inconsistent, or the others cannot be reached.
    """
    named = (NUM_PROCESSES.value, PROCESS.value)
    if COORDINATOR.value is None:
        if named != (None, None):
            raise InputError(
                "--num_processes and --process require --coordinator=HOST:PORT, got none"
            )
        return True
    auto = COORDINATOR.value == "auto"
    if auto != (named == (None, None)) or (None in named and not auto):
        raise InputError(
            "--coordinator must be HOST:PORT with both --num_processes and --process, or auto with "
            f"neither, got {COORDINATOR.value}, {NUM_PROCESSES.value} and {PROCESS.value}"
        )
    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # only used on CPUs
    try:
        jax.distributed.initialize(
            None if auto else COORDINATOR.value,
            *named,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS.value,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"the processes could not connect to each other: {reason}") from error
    return bool(jax.process_index() == 0)
