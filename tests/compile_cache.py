"""A persistent XLA compilation cache, shared by all checkouts and all workers.

It lies outside the clone, so that a fresh one starts warm, with a folder for each version of jax
and jaxlib and each kind of processor. Entries expire after two weeks.
"""

import contextlib
import hashlib
import os
import platform
import threading
import time
import zlib
from importlib.metadata import version
from pathlib import Path

TWO_WEEKS = 14 * 24 * 3600.0


def folder() -> Path:
    """The folder of the entries for this jax on this processor."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    processor = platform.machine() + platform.processor()
    described = Path("/proc/cpuinfo")
    if described.exists():  # its instruction set, for which XLA compiles
        lines = described.read_text().splitlines()
        processor += next((line for line in lines if line.startswith("flags")), "")
    kind = hashlib.sha256(processor.encode()).hexdigest()[:8]
    return Path(base, "jaxdiff-tests", f"jax{version('jax')}-jaxlib{version('jaxlib')}-{kind}")


def expire() -> None:
    """Delete entries that are two weeks old, in this folder and its siblings."""
    limit = time.time() - TWO_WEEKS
    for path in folder().parent.glob("*/*"):
        with contextlib.suppress(FileNotFoundError):  # another run renames its files
            if path.stat().st_mtime < limit:
                path.unlink()


def write_whole() -> None:
    """Make jax write entries atomically.

    It writes them in place, so that another worker may read half an entry, and a process that is
    killed, as in some tests, may leave half an entry behind for good.
    """
    from jax._src.lru_cache import LRUCache

    def put(self, key, value):
        target = self.path / f"{key}-cache"
        partial = self.path / f"{key}-{os.getpid()}.partial"
        partial.write_bytes(value)
        partial.replace(target)

    LRUCache.put = put


def save_time() -> None:
    """Let jax compress entries less, and share one context among all that a thread lowers.

    Making a context takes 3 ms, a third of the time in which a small function is lowered, and
    compressing an entry by zlib's default 1 ms more than by its fastest.
    """
    from jax._src import compilation_cache
    from jax._src.interpreters import mlir

    if not (compilation_cache.zstd or compilation_cache.zstandard):  # which are fast
        compilation_cache.compress_executable = lambda executable: zlib.compress(executable, 1)
    make, of_thread = mlir.make_ir_context, threading.local()

    def shared():
        if not hasattr(of_thread, "context"):
            of_thread.context = make()
        return of_thread.context

    mlir.make_ir_context = shared
