"""Timings of what jaxdiff runs, beside the systems that it is measured against."""
