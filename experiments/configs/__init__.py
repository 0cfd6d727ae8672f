"""Configurations; each file's ``get_config()`` returns one that flags can override."""

from ml_collections import ConfigDict

from jaxdiff.recipes import Config


def overridable(config: Config) -> ConfigDict:
    """Open a typed configuration to ``--config.field=value``; it is checked again when used."""
    return ConfigDict(config.as_dict())
