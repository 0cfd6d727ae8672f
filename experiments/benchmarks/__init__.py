"""Timings of jaxdiff, of its objectives and solvers, and of comparable systems."""
