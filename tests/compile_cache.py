"""One persistent cache of what XLA compiles, for every checkout and for all workers at once.

It lies outside the clone, so that a fresh one starts warm, in a folder of its own for each version
of jax and jaxlib and each kind of processor. Entries that are two weeks old are compiled again.
"""

import contextlib
import hashlib
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

TWO_WEEKS = 14 * 24 * 3600.0


def folder() -> Path:
    """Where the entries for this jax on this processor lie."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    processor = platform.machine() + platform.processor()
    described = Path("/proc/cpuinfo")
    if described.exists():  # its instruction set, for which XLA compiles
        lines = described.read_text().splitlines()
        processor += next((line for line in lines if line.startswith("flags")), "")
    kind = hashlib.sha256(processor.encode()).hexdigest()[:8]
    return Path(base, "jaxdiff-tests", f"jax{version('jax')}-jaxlib{version('jaxlib')}-{kind}")


def expire() -> None:
    """Delete what is two weeks old, in all folders beside this one."""
    limit = time.time() - TWO_WEEKS
    for path in folder().parent.glob("*/*"):
        with contextlib.suppress(FileNotFoundError):  # another run renames what it has written
            if path.stat().st_mtime < limit:
                path.unlink()


def write_whole() -> None:
    """Let jax write entries whole or not at all.

    It writes them in place: another worker would read half of one, and one that is killed, as some
    tests do, would leave half of one behind for good.
    """
    from jax._src.lru_cache import LRUCache

    def put(self, key, value):
        target = self.path / f"{key}-cache"
        partial = self.path / f"{key}-{os.getpid()}.partial"
        partial.write_bytes(value)
        partial.replace(target)

    LRUCache.put = put
