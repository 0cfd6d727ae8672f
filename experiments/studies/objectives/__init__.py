"""Every objective of the library on one small problem; ``python -m`` runs it."""
