"""Parameters of which ``-m "not slow"`` keeps only the first."""

import pytest


def first_is_quick(values):
    """The same parameters, all but the first of them marked slow."""
    first, *others = values
    return [first, *(pytest.param(value, marks=pytest.mark.slow) for value in others)]
