"""Measure where each test file spends its time: ``python tests/cost.py [options of pytest]``.

Prints, after the usual report, one line per file with seconds of

  importing   collecting the file, including modules that no earlier file imported
  tracing     Python functions into jaxprs
  lowering    jaxprs into StableHLO
  compiling   XLA, or reading its result from the persistent cache
  the rest    running what was compiled, numpy, pytest, and waiting for other processes
  own CPU     processor time of the worker, all threads
  processes   processor time of the processes that the file's tests started

The first five add up to the time that workers spent on the file. A compilation counts as wall time
of the thread that waits for it, without the compilations nested in it.
"""

import os
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest

PHASES = {
    "/jax/core/compile/jaxpr_trace_duration": "tracing",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lowering",
    "/jax/core/compile/backend_compile_duration": "compiling",
}
COLUMNS = ("seconds", "importing", *PHASES.values(), "the rest", "own CPU", "processes")
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_of_processes():
    """Processor seconds of all processes that this one has started, running or ended (Linux)."""
    mine = os.times()
    total = mine.children_user + mine.children_system
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in children.read_text().split():
            try:
                fields = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has just ended
                continue
            total += sum(map(int, fields[11:15])) / TICKS
    return total


class Costs:
    """Pytest plugin: adds up the cost of each file's tests, in every worker."""

    def __init__(self):
        self.of_file = defaultdict(Counter)
        self.phases = Counter()
        self.nested = []  # (start, duration) of compilations that a later one may enclose

    def listen(self, event, duration, **_):
        if event not in PHASES:
            return
        start, inner = time.perf_counter() - duration, 0.0
        while self.nested and self.nested[-1][0] >= start:
            inner += self.nested.pop()[1]
        self.nested.append((start, duration))
        self.phases[PHASES[event]] += duration - inner

    def readings(self):
        return Counter(
            {
                "seconds": time.perf_counter(),
                "own CPU": time.process_time(),
                "processes": cpu_of_processes(),
                **self.phases,
            }
        )

    def add(self, path, before):
        after = self.readings()
        after.subtract(before)
        self.of_file[Path(path).name].update(after)
        self.nested.clear()

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector):
        before = self.readings()
        report = yield
        if isinstance(collector, pytest.Module):
            self.add(collector.path, before)
            spent = time.perf_counter() - before["seconds"]
            self.of_file[collector.path.name]["importing"] += spent
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        before = self.readings()
        result = yield
        self.add(item.path, before)
        self.of_file[item.path.name]["tests"] += 1
        return result

    def pytest_sessionfinish(self, session):
        if hasattr(session.config, "workeroutput"):  # a worker of pytest-xdist
            session.config.workeroutput["costs"] = {k: dict(v) for k, v in self.of_file.items()}

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node):
        for name, costs in getattr(node, "workeroutput", {}).get("costs", {}).items():
            self.of_file[name].update(costs)

    def pytest_terminal_summary(self, terminalreporter):
        if hasattr(terminalreporter.config, "workeroutput"):
            return
        whole = Counter()
        for costs in self.of_file.values():
            accounted = ("importing", *PHASES.values())
            costs["the rest"] = costs["seconds"] - sum(costs[name] for name in accounted)
            whole.update(costs)
        rows = sorted(self.of_file.items(), key=lambda row: -row[1]["seconds"])
        terminalreporter.section("cost of each file, in seconds")
        head = "".join(f"{name:>11}" for name in ("tests", *COLUMNS))
        terminalreporter.write_line(f"{'':34}{head}")
        for name, costs in [*rows, ("all", whole)]:
            cells = "".join(f"{costs[column]:11.1f}" for column in COLUMNS)
            terminalreporter.write_line(f"{name:34}{costs['tests']:11d}{cells}")


def pytest_configure(config):
    import jax

    costs = Costs()
    config.pluginmanager.register(costs, "costs")
    jax.monitoring.register_event_duration_secs_listener(costs.listen)


if __name__ == "__main__":
    # Every worker is a separate process and loads the plugin by name.
    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    sys.path.insert(0, here)
    sys.exit(pytest.main(["-p", "cost", *sys.argv[1:]]))
