"""Every solver of the library on problems with exact answers; ``python -m`` runs it."""
