"""Settings of every test and example: CPU, no silent rank promotion, compiled code shared."""

import gc
import os
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

import compile_cache

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")
# Most of the suite's time is XLA's, which compiles these small programs in a third of it with no
# passes of LLVM, in one module each, and by its older emitters; jaxlib 0.11 no longer has the last.
FLAGS = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
    "--xla_cpu_use_fusion_emitters=false",
]
FLAGS = FLAGS[: 4 if version("jaxlib").startswith("0.10.") else 3]
os.environ["XLA_FLAGS"] = " ".join([*FLAGS, os.environ.get("XLA_FLAGS", "")])
# The same programs are compiled again and again, by workers and by the commands that they start.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(compile_cache.folder()))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax  # noqa: E402 (it reads the environment when it is imported)
import jax.numpy as jnp  # noqa: E402
import shape_checks  # noqa: E402

shape_checks.install()  # before the library is imported

import process_table  # noqa: E402
import pytest  # noqa: E402
import solver_table  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
compile_cache.write_whole()
# Tracing makes many objects and few cycles: a tenth of the time went into looking for these.
gc.freeze()
gc.set_threshold(100_000, 50, 100)


def pytest_sessionstart(session):
    if not hasattr(session.config, "workerinput"):  # once, and not in every worker of pytest-xdist
        compile_cache.expire()


def pytest_sessionfinish():
    gc.freeze()  # pytest looks for cycles five times before it ends, among all that was compiled


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from sharing import ByCompiledCode

    return ByCompiledCode(config, log)


def is_quick(item):
    """Whether a test meets none but the quick processes and solvers, of those of the tables."""
    params = item.callspec.params.values() if hasattr(item, "callspec") else ()
    names = {value for value in params if isinstance(value, str)}
    return all(
        names & table.keys() <= set(quick)
        for table, quick in (
            (process_table.PROCESSES, process_table.QUICK),
            (solver_table.SOLVERS, solver_table.QUICK),
        )
    )


@pytest.hookimpl(tryfirst=True)  # before -m chooses by marks
def pytest_collection_modifyitems(items):
    """Mark tests of further processes and solvers slow; put files with other slow tests first.

    Of what a test tries with many of them ``-m "not slow"`` keeps the quick ones, or the first
    where none is quick; of the examples in docstrings, which tests repeat, none. Files come so that
    none with a long test decides the end.
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
    """Free what was compiled, in time: Linux lets a process map 65,530 pieces of memory."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > 25_000:
        jax.clear_caches()


@pytest.fixture
def nan_where_short(monkeypatch):
    """An adaptive solve that does not arrive gives NaN, by no callback: jax caches no such program.

    ``test_adaptive_edges.py`` tests what it does instead.
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
