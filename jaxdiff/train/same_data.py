"""L8: the data of a run stay the same from its first step to its last, or it is said."""

import json
from pathlib import Path
from typing import Any

from jaxdiff.data import Dataset
from jaxdiff.data.fingerprint import changes, fingerprint
from jaxdiff.files import atomic_write
from jaxdiff.typing import InputError

DATA_FILE = "data.json"


def check_same_data(workdir: Path, dataset: Dataset) -> None:
    """Write the fingerprint of the data into a new workdir, or hold them to the one there.

    A workdir that has none, as one whose weights came from outside, gets it now.

    Raises:
        InputError: saying what has changed; nothing is overwritten.
    """
    if not (workdir / DATA_FILE).exists():
        stored = json.dumps(fingerprint(dataset), indent=2)
        atomic_write(workdir / DATA_FILE, stored + "\n")
    elif found := data_changes(workdir, dataset):
        raise InputError(
            f"{dataset.name} must be as it was when {workdir} was begun, got {'; '.join(found)}; "
            f"put the data back, or give another workdir, or delete {workdir / DATA_FILE} to go on "
            "with these"
        )


def data_changes(workdir: Path, dataset: Dataset) -> list[str]:
    """Say how data differ from those that a run was trained on; nothing if it kept no fingerprint.

    Raises:
        InputError: if the fingerprint cannot be read.
    """
    try:
        stored: dict[str, Any] = json.loads((workdir / DATA_FILE).read_text())
        return changes(stored, fingerprint(dataset))
    except FileNotFoundError:
        return []
    except (ValueError, AttributeError) as error:  # not JSON, or not that of a fingerprint
        raise InputError(
            f"{workdir / DATA_FILE} must be the fingerprint of a dataset, got {error}"
        ) from error
