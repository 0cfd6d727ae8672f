"""Timings that are robust on a noisy machine: alternating runs, of which the best counts."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

ONCE = 20.0
"""Runs that take longer, in seconds, are timed only once."""


def best_times(runs: Mapping[str, Callable[[int], Any]], *, rounds: int) -> dict[str, float]:
    """Best time of each run, in seconds; runs alternate, so that slow phases affect all equally.

    Args:
        runs: functions of the number of the round, compiled before.
        rounds: timings of each.

    Returns:
        Seconds by name, in the order of ``runs``.
    """
    best = dict.fromkeys(runs, math.inf)
    for index in range(rounds):
        for name, run in runs.items():
            if best[name] > ONCE and index:
                continue
            started = time.perf_counter()
            jax.block_until_ready(run(index))
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def timed(job: Callable[[], Any]) -> tuple[Any, float]:
    """The result of a job, and its seconds."""
    started = time.perf_counter()
    return job(), time.perf_counter() - started
