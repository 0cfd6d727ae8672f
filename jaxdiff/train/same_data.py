"""L8: checks that the data of a run have not changed since it was started."""

import json
from pathlib import Path
from typing import Any

from jaxdiff.data import Dataset
from jaxdiff.data.fingerprint import changes, fingerprint
from jaxdiff.files import atomic_write
from jaxdiff.typing import InputError

DATA_FILE = "data.json"


def check_same_data(workdir: Path, dataset: Dataset) -> None:
    """Write the fingerprint of the data into a new workdir, or compare it with the one there.

    A workdir without one, such as one with imported weights, gets it now.

    Raises:
        InputError: naming what has changed; nothing is overwritten.
    """
    if not (workdir / DATA_FILE).exists():
        stored = json.dumps(fingerprint(dataset), indent=2)
        atomic_write(workdir / DATA_FILE, stored + "\n")
    elif found := data_changes(workdir, dataset):
        raise InputError(
            f"{dataset.name} must be unchanged since {workdir} was started, got "
            f"{'; '.join(found)}; restore the data, or use another workdir, or delete "
            f"{workdir / DATA_FILE} to continue with these"
        )


def data_changes(workdir: Path, dataset: Dataset) -> list[str]:
    """Describe how data differ from those of a run; empty if it stored no fingerprint.

    Raises:
        InputError: if the fingerprint cannot be read.
    """
    try:
        stored: dict[str, Any] = json.loads((workdir / DATA_FILE).read_text())
        return changes(stored, fingerprint(dataset))
    except FileNotFoundError:
        return []
    except (ValueError, AttributeError) as error:  # not JSON, or not a fingerprint
        raise InputError(
            f"{workdir / DATA_FILE} must be the fingerprint of a dataset, got {error}"
        ) from error
