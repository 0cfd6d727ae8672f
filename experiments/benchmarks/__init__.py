"""Timings of what jaxdiff runs, of objectives and solvers, and of the systems beside it."""
