"""Several processes as one: by flags, or by what the cluster says in the environment."""

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
    "HOST:PORT at which process 0 gathers the others, with --num_processes and --process; or "
    "'auto', which asks the cluster (TPU pod, SLURM, Open MPI, Kubernetes).",
)
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many there are.", lower_bound=1)
PROCESS = flags.DEFINE_integer("process", None, "Which of them this is, from 0.", lower_bound=0)
HEARTBEAT_SECONDS = flags.DEFINE_integer(
    "heartbeat_seconds", 30, "After so long without a sign of one process the others end.", 10
)

LOST = 75
"""The exit code, EX_TEMPFAIL, by which a launcher may know that it is worth trying again."""
SIGNS = re.compile(r"gloo|nccl|barrier|coordination|heartbeat|peer|unavailable", re.IGNORECASE)
"""What the libraries below say when a process at the other end is gone."""


@contextlib.contextmanager
def exit_when_peer_lost() -> Iterator[None]:
    """End at once, and say why, when another process of the run is lost."""
    try:
        yield
    except Exception as error:
        told = f"{error} {error.__cause__ or ''}"
        if jax.process_count() == 1 or not SIGNS.search(told):
            raise
        reason = " ".join(told.split())[:200]
        print(
            "error: another process of this run was lost; start all of them again by the same "
            f"commands, and training goes on from its last checkpoint ({reason})",
            file=sys.stderr,
            flush=True,
        )
        os._exit(LOST)  # at an orderly end we would wait for the one that is gone


def initialize_distributed() -> bool:
    """Join the other processes, where there are any; must come before anything is computed.

    Returns:
        Whether this is the process that reports.

    Raises:
        InputError: if the flags do not go together, or the others cannot be reached.
    """
    named = (NUM_PROCESSES.value, PROCESS.value)
    if COORDINATOR.value is None:
        if named != (None, None):
            raise InputError(
                "--num_processes and --process take a --coordinator=HOST:PORT, got none"
            )
        return True
    auto = COORDINATOR.value == "auto"
    if auto != (named == (None, None)) or (None in named and not auto):
        raise InputError(
            "--coordinator takes HOST:PORT with both --num_processes and --process, or auto with "
            f"neither, got {COORDINATOR.value}, {NUM_PROCESSES.value} and {PROCESS.value}"
        )
    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # where there are only CPUs
    try:
        jax.distributed.initialize(
            None if auto else COORDINATOR.value,
            *named,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS.value,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"the processes did not find each other: {reason}") from error
    return bool(jax.process_index() == 0)
