"""L8: progress of training: the bar, ``metrics.jsonl`` and TensorBoard's event files.

Metrics stay on the device and are fetched every ``log_every`` steps, so that no step waits.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdiff.files import append_line, atomic_write, read_lines_json
from jaxdiff.train.events import Events
from jaxdiff.train.output import Output
from jaxdiff.train.settings import TrainingConfig
from jaxdiff.train.workdir import METRICS_FILE, TENSORBOARD
from jaxdiff.typing import Array, InputError


class Progress:
    """A progress bar with loss, rates and time left, which also writes the logs.

    Args:
        workdir: gets ``metrics.jsonl``, without the rows after ``start`` that a killed run left,
            and ``tensorboard/``; None where another process writes them.
        config: of the training.
        start: number of steps already made.
        newest: returns the step of the newest checkpoint, for the error if training fails.

    Attributes:
        skipping: whether the last fetched update was skipped.
    """

    def __init__(
        self,
        workdir: Path | None,
        config: TrainingConfig,
        start: int,
        *,
        newest: Callable[[], int | None],
    ) -> None:
        from tqdm import tqdm

        self._path = workdir and workdir / METRICS_FILE
        self._config, self._newest = config, newest
        self._events: Events | None = None
        self._pending: list[dict[str, Array]] = []
        self._step = self._first = start
        self._before = self._waited = 0.0
        self.skipping = False
        if workdir is not None:
            self._open(workdir, start)
        self._bar = tqdm(
            total=config.num_steps,
            initial=start,
            unit="step",
            smoothing=0.1,
            dynamic_ncols=True,
            disable=workdir is None,
            file=Output(sys.stderr),  # whose errors must not end a run
        )
        self._began = time.perf_counter()

    def _open(self, workdir: Path, start: int) -> None:
        path = workdir / METRICS_FILE
        if path.exists():
            rows = read_lines_json(path, fields=("step", "seconds"))
            rows = [row for row in rows if row["step"] <= start]
            atomic_write(path, "".join(json.dumps(row) + "\n" for row in rows))
            self._before = rows[-1]["seconds"] if rows else 0.0
        self._events = Events(workdir / TENSORBOARD, first=start + 1)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    @property
    def seconds(self) -> float:
        """Time since training started, without compilation."""
        return time.perf_counter() - self._began

    def update(
        self,
        step: int,
        metrics: dict[str, Array],
        *,
        data_wait: float = 0.0,
        also: Mapping[str, float] | None = None,
    ) -> None:
        """Record the metrics of one step.

        Args:
            step: its number.
            metrics: still on the device.
            data_wait: seconds for which the device had no batch to work on.
            also: further metrics of this step, which cause it to be logged.
        """
        self._pending.append(metrics)
        self._step = step
        self._waited += data_wait
        self._bar.update()
        if also or step % self._config.log_every == 0 or step == self._config.num_steps:
            self.flush(also)

    def flush(self, also: Mapping[str, float] | None = None) -> None:
        """Fetch the pending metrics, show them, and append one row.

        Args:
            also: further metrics of this step.

        Raises:
            InputError: if ``max_skipped`` updates in a row were not finite.
        """
        if not self._pending:
            return
        values = jax.device_get(self._pending)
        self._pending = []
        self.skipping = bool(values[-1]["skipped"])
        self._write({"step": self._step, **self._means(values), **(also or {})})
        limit = self._config.max_skipped
        for step, value in enumerate(values, start=self._step - len(values) + 1):
            if value["skipped"] >= limit:
                first = step - int(value["skipped"]) + 1
                raise InputError(
                    f"loss or gradient was not finite for {limit} consecutive steps from step "
                    f"{first}, which reads batch {first - 1}; the last good checkpoint is that of "
                    f"step {self._newest()}; lower config.optimizer.learning_rate, in a new workdir"
                )

    def _means(self, values: list[dict[str, Any]]) -> dict[str, Any]:
        """Means over the steps that were not skipped; None if all were."""
        made = [v for v in values if not v["skipped"]]
        names = sorted(values[-1].keys() - {"skipped"}, key=_loss_first)
        means = {n: float(np.mean([v[n] for v in made])) if made else None for n in names}
        rate = (self._step - self._first) / self.seconds
        shown = [f"{name} {_formatted(name, mean)}" for name, mean in means.items()]
        self._bar.set_postfix_str(
            f"{', '.join(shown)}, {rate * self._config.batch_size:.0f} examples/s".replace(
                "grad_norm", "|∇|"
            )
        )
        return means | {
            "skipped": len(values) - len(made),
            "steps_per_second": rate,
            "examples_per_second": rate * self._config.batch_size,
            "waiting": self._waited / self.seconds,  # for batches, as a fraction of all time
            "seconds": self._before + self.seconds,  # of this run and those it resumed
        }

    def _write(self, row: dict[str, Any]) -> None:
        if self._path is None or self._events is None:
            return
        append_line(self._path, json.dumps(row))
        figures = {k: v for k, v in row.items() if k != "step" and v is not None}
        self._events.add(row["step"], figures)


def _loss_first(name: str) -> tuple[str, bool]:
    """Sort metrics by player, each player's loss before its gradient norm."""
    return name.rpartition("/")[0], name.endswith("grad_norm")


def _formatted(name: str, mean: float | None) -> str:
    """A metric in the short form of the bar: gradient norms in three digits."""
    value = float("nan") if mean is None else mean
    return f"{value:.3g}" if name.endswith("grad_norm") else f"{value:.4f}"
