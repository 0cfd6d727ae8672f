"""L8: TensorBoard's event files, each record written when it is added.

A record is framed as by TensorFlow: the length, its checksum, the event, its checksum.
"""

import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxdiff.files import errors_naming


class Events:
    """A new event file.

    Args:
        folder: of all event files of a run, made if missing.
        first: the first step that is added; TensorBoard then drops later steps of other files.
    """

    def __init__(self, folder: Path, *, first: int) -> None:
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self._path = folder / name
        with errors_naming(self._path):
            folder.mkdir(parents=True, exist_ok=True)
        self._append(file_version="brain.Event:2")
        self._append(step=first, session_log={"status": "START"})

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Append the figures of a step.

        Raises:
            OSError: naming the file, if it cannot be written.
        """
        values = [{"tag": tag, "simple_value": value} for tag, value in figures.items()]
        self._append(step=step, summary={"value": values})

    def _append(self, **event: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.record_writer import masked_crc32c

        content = Event(wall_time=time.time(), **event).SerializeToString()
        length = struct.pack("<Q", len(content))
        frame = [length, masked_crc32c(length), content, masked_crc32c(content)]
        record = b"".join(
            part if isinstance(part, bytes) else struct.pack("<I", part) for part in frame
        )
        with errors_naming(self._path), open(self._path, "ab") as file:
            file.write(record)
