"""L7: what a person sees of training, and the rows of ``metrics.jsonl``.

Metrics stay on the device and come to the host every ``log_every`` steps, so that no step waits.
"""

import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from jaxdiff.files import append_line, atomic_write, read_lines_json
from jaxdiff.train.config import TrainingConfig
from jaxdiff.typing import Array, InputError


class Progress:
    """A progress bar with loss, rates and time left, which also writes the log.

    Args:
        path: of ``metrics.jsonl``; rows after ``start``, left by a killed run, are dropped.
        config: of the training.
        start: number of steps already made.
    """

    def __init__(self, path: Path, config: TrainingConfig, start: int) -> None:
        self._path, self._config = path, config
        self._pending: list[dict[str, Array]] = []
        self._step = self._first = start
        self._before = 0.0
        if path.exists():
            rows = [row for row in read_lines_json(path) if row["step"] <= start]
            atomic_write(path, "".join(json.dumps(row) + "\n" for row in rows))
            self._before = rows[-1]["seconds"] if rows else 0.0
        self._bar = tqdm(
            total=config.num_steps, initial=start, unit="step", smoothing=0.1, dynamic_ncols=True
        )
        self._began = time.perf_counter()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    @property
    def seconds(self) -> float:
        """Time since training began, compilation not counted."""
        return time.perf_counter() - self._began

    def update(self, step: int, metrics: dict[str, Array]) -> None:
        """Take in the metrics of one step, still on the device."""
        self._pending.append(metrics)
        self._step = step
        self._bar.update()
        if step % self._config.log_every == 0 or step == self._config.num_steps:
            self.flush()

    def flush(self) -> None:
        """Fetch what is pending, show it, and append one row.

        Raises:
            InputError: if a loss is not finite; nothing is saved after that.
        """
        if not self._pending:
            return
        values = jax.device_get(self._pending)
        self._pending = []
        means = {name: float(np.mean([v[name] for v in values])) for name in values[0]}
        rate = (self._step - self._first) / self.seconds
        row: dict[str, Any] = {
            "step": self._step,
            **means,
            "steps_per_second": rate,
            "examples_per_second": rate * self._config.batch_size,
            "seconds": self._before + self.seconds,  # of all the runs that led here
        }
        if not all(np.isfinite(value) for value in means.values()):
            raise InputError(
                f"the loss stopped being finite by step {self._step}; take a lower "
                "config.optimizer.learning_rate, in a new workdir"
            )
        append_line(self._path, json.dumps(row))
        self._bar.set_postfix_str(
            f"loss {means['loss']:.4f}, {rate * self._config.batch_size:.0f} examples/s"
        )
