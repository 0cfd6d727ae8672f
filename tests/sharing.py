"""Which tests one worker of pytest-xdist runs together: those that share compiled code.

What a file compiles, its tests share; what a solver compiles, all files that test it.
"""

import published_multistep  # noqa: F401 (it enters its solvers in the table, and the others)
from solver_table import SOLVERS
from xdist.scheduler import LoadScopeScheduling


def group(nodeid: str) -> str:
    """``file::test[solver-...]`` belongs to its solver, and what names none to its file."""
    path, _, test = nodeid.partition("::")
    options = test.partition("[")[2].rstrip("]").split("-")
    solvers = [option for option in options if option in SOLVERS]
    return f"solver {solvers[0]}" if solvers and "/test_s" in path else path


class ByCompiledCode(LoadScopeScheduling):
    """Deals out whole groups, in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)
