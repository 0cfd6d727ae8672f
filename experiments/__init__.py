"""Command lines for jaxdiff: flags become a typed config, and a config a run in a workdir."""

import sys

from jaxdiff.extras import EXTRAS, require
from jaxdiff.typing import InputError

try:  # here, since a command imports them before it can report anything
    require(*EXTRAS["train"], *EXTRAS["experiments"], purpose="every command")
except InputError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)
