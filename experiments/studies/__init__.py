"""Comparisons that the README tells of, each a command of its own."""
