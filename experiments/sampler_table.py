"""Compare samplers of a run at equal cost: ``python -m experiments.sampler_table --workdir=DIR``.

By default these are the samplers of Song et al. 2021, Table 1: ancestral sampling, reverse
diffusion and the probability-flow ODE as predictors, Langevin dynamics as corrector, and each
predictor with the corrector, where a step costs two evaluations and hence half as many are made.
``--solvers=deis,heun,unipc`` compares solvers by name instead. Every figure is kept as soon as it
is there: a command that was killed goes on.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from experiments.common import cli, drawing, evaluating
from experiments.common.counting import evaluations
from experiments.common.features import FEATURES, FeatureSet, feature_sets
from experiments.common.kept import kept_json
from experiments.common.loading import load_run
from experiments.common.text import text_table
from jaxdiff import data, metrics, plots
from jaxdiff.files import atomic_write, check_writable
from jaxdiff.plots import save_figure
from jaxdiff.recipes import Run
from jaxdiff.recipes.names import SOLVERS
from jaxdiff.typing import InputError, out_of

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a trained run.")
N = flags.DEFINE_integer("n", 1024, "Number of samples of each sampler.", lower_bound=8)
SEED = flags.DEFINE_integer("seed", 0, "Seed of the samples.", 0, cli.MAX_SEED)
BUDGETS = flags.DEFINE_list(
    "evaluations", ["20", "50", "100"], "Numbers of evaluations of the network to compare at."
)
CHOSEN = flags.DEFINE_list("solvers", [], "Solvers to compare instead, by name.")
SNR = flags.DEFINE_float("snr", 0.16, "Signal-to-noise ratio of the corrector.", lower_bound=1e-6)

PREDICTORS = {
    "ancestral": "ancestral",
    "reverse diffusion": "reverse_diffusion",
    "probability flow": "ddim",
}
"""Song et al.'s predictors and their solvers; DDIM is the exponential Euler step of the ODE."""


def main() -> None:
    """Read the flags, measure, write and print."""
    if not WORKDIR.value:
        raise InputError("--workdir must be the folder of a run, got none")
    run, folder = load_run(WORKDIR.value), Path(WORKDIR.value)
    budgets = _budgets(BUDGETS.value)
    samplers = _by_name(CHOSEN.value) if CHOSEN.value else _of_song()
    path, picture = folder / evaluating.SAMPLER_TABLE, folder / "sampler_table.png"
    check_writable(path, picture)
    plots.check_backend()
    features = feature_sets(FEATURES.value[:1], run)[0]
    train, test = evaluating.real_data(run)
    if len(test) < 2:
        raise InputError(f"the data must have at least 2 test examples, got {len(test)}")
    real = features.extract(test).features
    rows = [
        _measured(run, folder, sampler, options, steps, budget, features, real)
        for sampler, options, budget, steps in _cells(run, samplers, budgets)
    ]
    equal = evaluating.subset(train, N.value)
    record = {
        "n": N.value,
        "seed": SEED.value,
        "features": features.name,
        "data": metrics.frechet_distance(features.extract(equal).features, real),
        "rows": rows,
    }
    atomic_write(path, json.dumps(record, indent=2) + "\n")
    _draw(picture, record)
    print(_table(record))
    print(f"wrote {path}\nwrote {picture}")


def _budgets(texts: list[str]) -> list[int]:
    if not texts or not all(text.isdigit() and int(text) >= 2 for text in texts):
        raise InputError(
            f"--evaluations must be integers of at least 2, got {','.join(texts) or 'none'}"
        )
    return sorted({int(text) for text in texts})


def _of_song() -> dict[str, dict[str, Any]]:
    """Predictor only, predictor with corrector, and corrector only."""
    found: dict[str, dict[str, Any]] = {}
    for name, solver in PREDICTORS.items():
        found[name] = {"solver": solver}
        found[f"{name} + corrector"] = {
            "solver": "predictor_corrector",
            "predictor": solver,
            "snr": SNR.value,
        }
    return found | {"corrector only": {"solver": "langevin", "snr": SNR.value}}


def _by_name(solvers: list[str]) -> dict[str, dict[str, Any]]:
    for name in solvers:
        if name not in SOLVERS:
            raise InputError(f"--solvers must be of {out_of(name, SOLVERS)}")
    return {name: {"solver": name} for name in solvers}


def _cells(
    run: Run, samplers: Mapping[str, dict[str, Any]], budgets: list[int]
) -> Iterator[tuple[str, dict[str, Any], int, int]]:
    """Every sampler with as many steps as each budget allows."""
    for name, options in samplers.items():
        one, two = (evaluations(run, **options, num_steps=n) for n in (2, 3))
        if one is None or two is None:
            raise InputError(f"--solvers must have a fixed number of evaluations, got {name}")
        each = two - one
        for budget in budgets:
            steps = 2 + (budget - one) // each
            if steps >= 1:
                yield name, options, budget, steps


def _measured(
    run: Run,
    folder: Path,
    sampler: str,
    options: dict[str, Any],
    steps: int,
    budget: int,
    features: FeatureSet,
    real: np.ndarray,
) -> dict[str, Any]:
    """One cell of the table."""

    def measure() -> dict[str, Any]:
        chosen = {**options, "num_steps": steps}
        print(f"{sampler}, {budget} evaluations", flush=True)
        x = drawing.draw_samples(run, N.value, seed=SEED.value, options=chosen)
        samples = data.to_floats(x, run.value_range) if run.is_image else x
        finite = bool(np.isfinite(samples).all())
        distance = (
            metrics.frechet_distance(features.extract(samples).features, real) if finite else None
        )
        return {
            "sampler": sampler,
            "evaluations": evaluations(run, **chosen),
            "num_steps": steps,
            "frechet": distance,
        }

    made_by = [drawing.identity(run), N.value, SEED.value, features.name, features.sha256, options]
    name = f"{sampler}-{budget}.json".replace(" ", "_")
    made_by += [steps, len(real)]
    return kept_json(folder / evaluating.FOLDER / "samplers" / name, str(made_by), measure)


def _table(record: Mapping[str, Any]) -> str:
    rows = [("sampler", "evaluations", "steps", "Fréchet distance")]
    for row in record["rows"]:
        value = "not finite" if row["frechet"] is None else f"{row['frechet']:.4f}"
        rows.append((row["sampler"], str(row["evaluations"]), str(row["num_steps"]), value))
    rows.append((f"data, n = {record['n']}", "", "", f"{record['data']:.4f}"))
    header = f"{record['n']} samples, seed {record['seed']}, features: {record['features']}"
    return f"{header}\n{text_table(rows)}"


def _draw(path: Path, record: Mapping[str, Any]) -> None:
    save_figure(evaluating.sampler_figure(record), path)


if __name__ == "__main__":
    cli.run(main)
