"""Settings of all tests and examples: CPU, no silent rank promotion, shared compiled code."""

import gc
import os
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

import compile_cache

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")
# XLA takes most of the suite's time. It compiles these small programs three times faster without
# LLVM passes, in one module each, and with its older emitters, which jaxlib 0.11 no longer has.
FLAGS = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
    "--xla_cpu_use_fusion_emitters=false",
]
FLAGS = FLAGS[: 4 if version("jaxlib").startswith("0.10.") else 3]
os.environ["XLA_FLAGS"] = " ".join([*FLAGS, os.environ.get("XLA_FLAGS", "")])
# Workers, and the commands that they start, compile the same programs again and again.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(compile_cache.folder()))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax  # noqa: E402 (it reads the environment on import)
import jax.numpy as jnp  # noqa: E402
import shape_checks  # noqa: E402

shape_checks.install()  # before the library is imported

import process_table  # noqa: E402
import pytest  # noqa: E402
import solver_table  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
compile_cache.write_whole()
compile_cache.save_time()
# Tracing makes many objects but few cycles; searching for them took a tenth of the time.
gc.freeze()
gc.set_threshold(100_000, 50, 100)


def pytest_sessionstart(session):
    if not hasattr(session.config, "workerinput"):  # once, and not in every worker of pytest-xdist
        compile_cache.expire()


def pytest_sessionfinish():
    gc.freeze()  # pytest runs five garbage collections before it ends, over all compiled code


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from sharing import ByCompiledCode

    return ByCompiledCode(config, log)


def is_quick(item):
    """Whether a test uses only the quick ones among the processes and solvers of the tables."""
    params = item.callspec.params.values() if hasattr(item, "callspec") else ()
    names = {value for value in params if isinstance(value, str)}
    return all(
        names & table.keys() <= set(quick)
        for table, quick in (
            (process_table.PROCESSES, process_table.QUICK),
            (solver_table.SOLVERS, solver_table.QUICK),
        )
    )


@pytest.hookimpl(tryfirst=True)  # before -m selects by marks
def pytest_collection_modifyitems(items):
    """Mark tests of other processes and solvers as slow; run files with other slow tests first.

    Of a test's variants ``-m "not slow"`` keeps the quick ones, or the first where none is quick;
    of the docstring examples, which tests repeat, none. Files with long tests come first, so that
    none of them is still running at the end.
    """
    long = {item.path for item in items if item.get_closest_marker("slow")}
    long -= {item.path for item in items if item.path.name.startswith("test_solver")}
    tests = defaultdict(list)
    for item in items:
        tests[item.nodeid.partition("[")[0]].append(item)
    for variants in tests.values():
        quick = [item for item in variants if is_quick(item)] or variants[:1]
        for item in set(variants).difference(quick):
            item.add_marker(pytest.mark.slow)
        if isinstance(variants[0], pytest.DoctestItem):
            variants[0].add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(autouse=True, scope="module")
def released():
    """Free compiled code in time: Linux limits a process to 65,530 memory maps."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > 25_000:
        jax.clear_caches()


@pytest.fixture
def nan_where_short(monkeypatch):
    """Let an adaptive solve that falls short return NaN instead of calling back to Python.

    JAX does not cache programs with callbacks. ``test_adaptive_edges.py`` tests the real check.
    """

    def spoil(state, too_many, stuck, max_steps):
        return jax.tree.map(lambda leaf: jnp.where(too_many | stuck, jnp.nan, leaf), state)

    monkeypatch.setattr("jaxdiff.flow._check_reached_end", spoil)


@pytest.fixture
def x64():
    """Double precision for one test."""
    with jax.enable_x64(True):
        yield
    assert jnp.ones(()).dtype == jnp.float32
