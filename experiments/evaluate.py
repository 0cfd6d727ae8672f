"""Evaluate a trained run against its data: ``python -m experiments.evaluate --workdir=DIR``.

Every figure is reported with that of the data themselves, and with n and seed: a Fréchet distance
of few samples is large even between two halves of the data. Bits per dimension of the test split
are reported with their standard error and their kind: the evidence lower bound, and the likelihood
by the probability-flow ODE. Samples and bits per dimension are kept in ``<workdir>/evaluation`` as
soon as they are there, so that a command that was killed goes on to the same result.
``experiments.report`` makes a web page of it.
"""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from experiments.common import cli, drawing, evaluating, figures
from experiments.common.counting import evaluations
from experiments.common.features import FEATURES, FeatureSet, feature_sets
from experiments.common.kept import kept_json
from experiments.common.loading import load_run
from jaxdiff import data, recipes
from jaxdiff.data.fingerprint import fingerprint
from jaxdiff.files import atomic_write, check_writable, clear_partial
from jaxdiff.recipes import BitsPerDim, Run, bounds, build, likelihoods
from jaxdiff.train.same_data import data_changes
from jaxdiff.typing import InputError

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a trained run.")
N = flags.DEFINE_integer("n", 1024, "Number of samples.", lower_bound=8)
SEED = flags.DEFINE_integer("seed", 0, "Seed of the samples.", 0, cli.MAX_SEED)
MAX_REAL = flags.DEFINE_integer(
    "max_real", 10_000, "Use at most this many examples of each split.", lower_bound=8
)
DRAWS = flags.DEFINE_integer(
    "draws", 100, "Noisy draws of each test example for its bits per dimension.", lower_bound=1
)

ODE_DRAWS = flags.DEFINE_integer(
    "ode_draws", 1, "Solutions of the ODE for each test example; 0 leaves them out.", lower_bound=0
)
RTOL = flags.DEFINE_float(
    "rtol", 1e-4, "Tolerance of the ODE's solution.", lower_bound=1e-6, upper_bound=0.1
)
REFERENCE = flags.DEFINE_enum(
    "reference", "test", ["test", "train"], "Split that figures are measured against."
)


def main() -> None:
    """Read the flags, measure, write what was found as JSON and print it as a table."""
    if not WORKDIR.value:
        raise InputError("--workdir must be the folder of a run, got none")
    workdir = Path(WORKDIR.value)
    run = load_run(WORKDIR.value)
    reference: Any = REFERENCE.value
    path, folder = workdir / evaluating.EVALUATION_FILE, workdir / evaluating.FOLDER
    check_writable(path, folder / "bound.json")
    features = feature_sets(FEATURES.value, run)
    dataset = build.dataset(run.config)
    _check_kind(run, dataset)
    changed = data_changes(workdir, dataset)
    if changed:
        print(f"the data differ from those of training: {'; '.join(changed)}")
    real_train, real_test = evaluating.real_data(run, limit=MAX_REAL.value)
    held_out = data.take_all(dataset.test, limit=MAX_REAL.value) if len(dataset.test) else None
    if held_out is not None:
        bounds.check(run, *held_out)
        if ODE_DRAWS.value:
            likelihoods.check(run, *held_out, rtol=RTOL.value)
    folder.mkdir(exist_ok=True)
    clear_partial(folder)
    x = drawing.draw_samples(run, N.value, seed=SEED.value, folder=folder / "samples")
    samples = data.to_floats(x, run.value_range) if dataset.is_image else x
    evaluating.write_neighbours(workdir, run, samples, real_train)
    measured = [
        figure
        for space in features
        for figure in figures.measure(
            samples,
            real_train,
            real_test,
            seed=SEED.value,
            features=space,
            reference=reference,
        )
    ]
    record = {
        "step": run.step,
        "parameters": run.average,
        "config": run.config.as_dict(),
        "protocol": _protocol(run, features, len(real_train), len(real_test)),
        "figures": [f._asdict() for f in measured],
        "left_out": figures.left_out(measured),
        "data_changed": changed,
        "environment": evaluating.environment(),
        **_all_bits(run, folder, held_out, fingerprint(dataset)),
    }
    atomic_write(path, json.dumps(record, indent=2) + "\n")
    _print(record, measured, path)


def _protocol(
    run: Run, features: Sequence[FeatureSet], n_train: int, n_test: int
) -> dict[str, Any]:
    """Everything that the figures depend on, besides the run."""
    sampling = run.config.sampling
    return {
        "n": N.value,
        "seed": SEED.value,
        "reference": f"{REFERENCE.value} split of {run.config.data.name}",
        "training examples": n_train,
        "test examples": n_test,
        "features": [f.protocol() for f in features],
        "k of precision and recall": figures.NEIGHBOURS,
        "k of density and coverage": figures.DENSITY_NEIGHBOURS,
        "KID": "unbiased, all pairs, (<a, b>/d + 1)^3",
        "covariances": "float64, ddof 1",
        "parameters": run.average,
        "solver": evaluating.as_text(sampling.solver),
        "time grid": evaluating.as_text(sampling.times),
        "steps": sampling.num_steps,
        "evaluations": evaluations(run),
        "final denoising": sampling.denoise,
        "matmul precision": (
            f"{run.config.model.matmul_precision} on {jax.devices()[0].device_kind}, of "
            f"likelihoods {bounds.PRECISION}"
        ),
    }


def _all_bits(
    run: Run,
    folder: Path,
    held_out: tuple[np.ndarray, np.ndarray] | None,
    examples: dict[str, Any],
) -> dict[str, Any]:
    """Bits per dimension of the test split, each kept as soon as it is known."""
    if held_out is None:
        return {}
    made_by = [drawing.identity(run), examples, MAX_REAL.value, SEED.value]

    def kept(
        name: str, measure: Callable[..., BitsPerDim], draws: int, *more: Any
    ) -> dict[str, Any]:
        identity = json.dumps([*made_by, draws, *more])
        return kept_json(
            folder / f"{name}.json", identity, lambda: _bits(measure, run, *held_out, draws=draws)
        )

    found = {"bits_per_dim": kept("bound", recipes.bits_per_dim, DRAWS.value)}
    if ODE_DRAWS.value:
        by_ode = functools.partial(recipes.ode_bits_per_dim, rtol=RTOL.value)
        found["ode_bits_per_dim"] = kept("ode", by_ode, ODE_DRAWS.value, RTOL.value)
    return found


def _print(record: Mapping[str, Any], measured: Sequence[figures.Figure], path: Path) -> None:
    protocol = record["protocol"]
    print(
        f"{record['config']['data']['name']}, {record['config']['process']['name']}, step "
        f"{record['step']}, {record['parameters']}, {protocol['solver']}, "
        f"{protocol['evaluations']} evaluations"
    )
    print(figures.as_table(measured))
    for key in ("bits_per_dim", "ode_bits_per_dim"):
        if key in record:
            print(_as_text(record[key]))
    if "bits_per_dim" not in record:
        print("bits/dim are omitted: there are no test examples")
    print(f"wrote {path}")


def _check_kind(run: Run, dataset: data.Dataset) -> None:
    """Refuse data that the run cannot be evaluated on.

    Raises:
        InputError: naming how they differ from the training data.
    """
    if dataset.shape != run.shape:
        raise InputError(
            f"{dataset.name} must have examples of shape {run.shape}, as in training, got "
            f"{dataset.shape}"
        )
    if run.config.model.class_conditional and dataset.num_classes != run.num_classes:
        raise InputError(
            f"{dataset.name} must have {run.num_classes} classes, as in training, got "
            f"{dataset.num_classes}"
        )


def _as_text(found: dict[str, Any]) -> str:
    """A figure and everything that it depends on, as text."""
    error = "" if found["std_error"] is None else f" ± {found['std_error']:.4f}"
    examples = (
        "1 test example, too few for an error" if found["n"] == 1 else f"{found['n']} test examples"
    )
    return (
        f"{found['bits']:.4f}{error} bits/dim of {examples}\n"
        f"  ({found['kind']}; {found['matmul_precision']} matmul precision; {found['draws']} draws "
        f"each, seed {found['seed']})"
    )


def _bits(
    measure: Callable[..., BitsPerDim], run: Run, x: np.ndarray, label: np.ndarray, *, draws: int
) -> dict[str, Any]:
    """Measure bits per dimension with a progress bar; return it with all that it depends on."""
    with tqdm(total=len(x) * draws, unit="draw", dynamic_ncols=True) as bar:
        found = measure(run, x, label, draws=draws, seed=SEED.value, on_batch=bar.update)
    return found._asdict() | {"draws": draws, "seed": SEED.value}


if __name__ == "__main__":
    cli.run(main)
