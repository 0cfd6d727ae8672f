"""Command lines around jaxdiff: flags become a typed config, the config a run in a workdir."""
