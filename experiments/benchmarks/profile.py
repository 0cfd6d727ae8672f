"""Profile of a compiled call by operation."""

import collections
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

PRODUCTS = re.compile(r"conv(?!ert)|dot|gemm|matmul|nvjet|xmma|cutlass|cudnn", re.IGNORECASE)
"""Names of convolutions and matrix products; a fusion around one carries its name on a GPU."""
CONTAINERS = re.compile(r"ThunkExecutor|^while|^call|^conditional|Pjit|^\$|wait", re.IGNORECASE)
"""Events that only last as long as those within them."""


def seconds_by_operation(job: Callable[[], Any]) -> dict[str, float]:
    """Run once under the profiler, and add up the time of each operation.

    Args:
        job: a compiled call, run before.

    Returns:
        Seconds by the name of the operation in the compiled program, over all cores.
    """
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(job())
        (trace,) = Path(folder).rglob("*.xplane.pb")
        profile = jax.profiler.ProfileData.from_file(str(trace))
    seconds: collections.Counter[str] = collections.Counter()
    for plane in profile.planes:
        for line in plane.lines:
            ours = "XLA" in line.name or plane.name.startswith("/device")
            for event in line.events if ours else ():
                if not CONTAINERS.search(event.name):
                    seconds[event.name] += event.duration_ns / 1e9
    return dict(seconds)


def summary(seconds: Mapping[str, float], *, largest: int = 5, complete: bool = True) -> str:
    """Summarise the fraction of convolutions and matrix products, and the largest operations.

    Args:
        seconds: of each operation.
        largest: how many to name.
        complete: whether the trace holds all of their time; XLA's on a CPU omits the work of
            convolutions on other threads, so that the fraction is unknown.

    Example:
        >>> print(summary({"convolution.1": 3.0, "fusion.2": 1.0}, largest=1))
        75% of the time of all operations is in convolutions and matrix products; the largest:
          convolution.1                               3000.0 ms   75%
    """
    total = sum(seconds.values())
    products = sum(t for name, t in seconds.items() if PRODUCTS.search(name))
    share = f"{products / total:.0%} of the time of all operations is in convolutions and matrix "
    partly = "operations, without the work of convolutions on other threads, which is not traced; "
    lines = [f"{share}products; the largest:" if complete else f"{partly}the largest:"]
    ordered = sorted(seconds.items(), key=lambda item: -item[1])
    for name, t in ordered[:largest]:
        lines.append(f"  {name[:40]:<40}{1e3 * t:>10.1f} ms{t / total:>6.0%}")
    return "\n".join(lines)
