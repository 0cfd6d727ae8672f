"""Settings of every test: CPU, no silent rank promotion, compiled code shared between processes."""

import os
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")
# Most of the suite's time is XLA's, which compiles in 0.6 of it with fewer passes of LLVM and by
# its older emitters; these jaxlib 0.11 has no longer.
FLAGS = ["--xla_backend_optimization_level=1", "--xla_cpu_use_fusion_emitters=false"]
FLAGS = FLAGS[: 2 if version("jaxlib").startswith("0.10.") else 1]
os.environ["XLA_FLAGS"] = " ".join([*FLAGS, os.environ.get("XLA_FLAGS", "")])
# The same small programs are compiled again and again, by workers and by the commands they start.
CACHE = Path(__file__).parents[1] / ".pytest_cache" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import jax  # noqa: E402 (it reads the environment when it is imported)
import jax.numpy as jnp  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True, scope="module")
def released():
    """Free what was compiled, in time: Linux lets a process map 65,530 pieces of memory."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > 25_000:
        jax.clear_caches()


@pytest.fixture
def x64():
    """Double precision for one test."""
    with jax.enable_x64(True):
        yield
    assert jnp.ones(()).dtype == jnp.float32
