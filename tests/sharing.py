"""Group tests that share compiled code, so that one worker of pytest-xdist runs them together.

The tests of a file share its compiled code; a solver's code is shared by all files that test it.
"""

import published_multistep  # noqa: F401 (it registers all solvers in the table)
from solver_table import SOLVERS
from xdist.scheduler import LoadScopeScheduling


def group(nodeid: str) -> str:
    """``file::test[solver-...]`` belongs to its solver; other tests belong to their file."""
    path, _, test = nodeid.partition("::")
    options = test.partition("[")[2].rstrip("]").split("-")
    solvers = [option for option in options if option in SOLVERS]
    return f"solver {solvers[0]}" if solvers and "/test_s" in path else path


class ByCompiledCode(LoadScopeScheduling):
    """Assigns whole groups to workers, in the order of collection."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)
