"""Write the report of an evaluated run: ``python -m experiments.report --workdir=DIR``.

One HTML file that needs no network: samples, each beside its nearest training example; loss and
other logged quantities over the steps; all measured figures with the protocol that they depend on;
error against evaluations, where ``experiments.sampler_table`` has measured it; the configuration,
and the environment. It is made of the files of the workdir alone, and loads no model.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from experiments.common import cli, evaluating, page
from experiments.common.evaluating import EVALUATION_FILE, NEIGHBOURS_FILE
from experiments.common.figures import Figure
from jaxdiff import plots
from jaxdiff.files import atomic_write, check_writable, read_lines_json
from jaxdiff.train.workdir import METRICS_FILE, SAMPLES_FILE
from jaxdiff.typing import InputError

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run that was evaluated.")
OUT = flags.DEFINE_string("out", None, "File to write; <workdir>/report.html by default.")

LOGGED = {
    "loss": "training loss, each logged mean and its running median",
    "eval_loss": "loss of the averaged model on held-out data",
    "grad_norm": "norm of the gradient before clipping",
}
"""Quantities of the log that are drawn, where it holds them."""


def main() -> None:
    """Read the flags, and write the page."""
    if not WORKDIR.value:
        raise InputError("--workdir must be the folder of a run, got none")
    workdir = Path(WORKDIR.value)
    path = Path(OUT.value or workdir / "report.html")
    found = _read(workdir / EVALUATION_FILE)
    check_writable(path)
    atomic_write(path, report(workdir, found))
    print(f"wrote {path}")


def report(workdir: Path, found: Mapping[str, Any]) -> str:
    """The page, from the record of an evaluation and the other files of its workdir."""
    config = found["config"]
    title = f"{config['process']['name']} on {config['data']['name']}"
    return page.page(
        title,
        [
            page.paragraph(_summary(found)),
            page.key_figures(_key_figures(found)),
            page.section("Samples", _samples(workdir)),
            page.section(
                "Figures", _figures(found), _bits(found), *map(page.paragraph, _notes(found))
            ),
            page.section("Protocol", _protocol(found)),
            page.section("Error against evaluations", *_against_evaluations(workdir)),
            page.section("Training", _training(workdir)),
            page.section(
                "Configuration and environment",
                page.folded("config.json", json.dumps(config, indent=2)),
                _pairs(found["environment"]),
            ),
        ],
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"--workdir must hold {path.name}, got none in {path.parent}; "
            f"make it with python -m experiments.evaluate --workdir={path.parent}"
        ) from None
    except ValueError as error:
        raise InputError(f"{path} must be the record of an evaluation, got {error}") from None
    if "protocol" not in found:
        raise InputError(f"{path} was written by an earlier version; evaluate the run again")
    return found


def _summary(found: Mapping[str, Any]) -> str:
    protocol = found["protocol"]
    return (
        f"{found['step']:,} training steps; {protocol['n']:,} samples by {protocol['solver']} with "
        f"{protocol['evaluations'] or 'adaptively many'} evaluations of the network, parameters "
        f"{protocol['parameters']}, seed {protocol['seed']}."
    )


def _key_figures(found: Mapping[str, Any]) -> dict[str, str]:
    """The Fréchet distance of the first features, and bits per dimension."""
    shown: dict[str, str] = {}
    for figure in map(Figure.from_dict, found["figures"]):
        if figure.of == "samples" and figure.name in ("frechet", "precision", "recall"):
            shown.setdefault(f"{figure.title}, {figure.features}", figure.shown)
    for key, name in (("bits_per_dim", "bits/dim, bound"), ("ode_bits_per_dim", "bits/dim, ODE")):
        if key in found:
            shown[name] = f"{found[key]['bits']:.3f}"
    return shown


def _samples(workdir: Path) -> str:
    """The grid of samples, and each next to its nearest training example."""
    path, cards = workdir / NEIGHBOURS_FILE, []
    if not path.exists():
        return ""
    with np.load(path) as stored:
        samples, nearest = stored["samples"], stored["nearest"]
        distances, value_range = stored["distances"], tuple(stored["value_range"])
    if samples.ndim != 4 or samples.shape[-1] not in (1, 3):
        if (workdir / SAMPLES_FILE).exists():
            drawn = (workdir / SAMPLES_FILE).read_bytes()
            return page.row(page.picture(drawn, "samples and data", "Samples, beside the data."))
        return ""
    columns = 8
    grid = plots.image_grid_png(samples, value_range=value_range, columns=columns)
    cards.append(page.picture(grid, "samples", f"The first {len(samples)} samples, not chosen."))
    order = np.argsort(distances, kind="stable")[: 4 * columns]
    pairs = []
    for start in range(0, len(order), columns):
        part = order[start : start + columns]
        pairs += [*samples[part], *_padded(samples[part], columns)]
        pairs += [*nearest[part], *_padded(samples[part], columns)]
    both = plots.image_grid_png(np.stack(pairs), value_range=value_range, columns=columns)
    caption = (
        "Of these, the samples nearest to the training set, each above its nearest training "
        "example: a copy would show here."
    )
    cards.append(page.picture(both, "samples above their nearest training examples", caption))
    return page.row(*cards)


def _padded(images: np.ndarray, columns: int) -> list[np.ndarray]:
    """Black images that fill a row."""
    return [np.full_like(images[0], images.min())] * (columns - len(images))


def _figures(found: Mapping[str, Any]) -> str:
    """A row for each figure, the samples next to the data themselves."""
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    measured = [Figure.from_dict(stored) for stored in found["figures"]]
    columns = list(dict.fromkeys(figure.of for figure in measured))
    counts = {figure.of: figure.n_of for figure in measured}
    for figure in measured:
        against = "" if figure.against == figure.of else figure.against
        place = rows.setdefault((figure.title, figure.features, against), {})
        error = "" if figure.std_error is None else f" ± {figure.std_error:.4f}"
        place[figure.of] = figure.shown + error
    heads = ["figure", "features", "against", *(f"{of} ({counts[of]:,})" for of in columns)]
    cells = [[*row, *(of.get(column, "") for column in columns)] for row, of in rows.items()]
    return page.table(cells, headings=heads, numbers=range(3, len(heads)))


def _bits(found: Mapping[str, Any]) -> str:
    kinds = {"bits_per_dim": "bound", "ode_bits_per_dim": "likelihood by the ODE"}
    rows = []
    for key, what in kinds.items():
        if key in found:
            bits = found[key]
            error = "" if bits["std_error"] is None else f" ± {bits['std_error']:.4f}"
            how = f"{bits['kind']}; {bits['draws']} draws of each of {bits['n']} examples"
            rows.append((what, f"{bits['bits']:.4f}{error}", how))
    heads = ("bits/dim of the test split", "value", "how")
    return page.table(rows, headings=heads, numbers=(1,), texts=(2,)) if rows else ""


def _notes(found: Mapping[str, Any]) -> list[str]:
    changed = found.get("data_changed") or []
    return [*found["left_out"], *(f"Since training the data changed: {what}" for what in changed)]


def _protocol(found: Mapping[str, Any]) -> str:
    return _pairs(found["protocol"])


def _pairs(values: Mapping[str, Any]) -> str:
    cells = [(key.replace("_", " "), _text(value)) for key, value in values.items()]
    return page.table(cells, texts=(1,))


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(v)}" for key, v in value.items() if v is not None)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_text, value))
    return str(value)


def _against_evaluations(workdir: Path) -> list[str]:
    path = workdir / evaluating.SAMPLER_TABLE
    if not path.exists():
        return []
    table = json.loads(path.read_text(encoding="utf-8"))
    figure = evaluating.sampler_figure(table)
    caption = f"{table['n']:,} samples at each point, seed {table['seed']}."
    return [page.row(page.chart(plots.as_svg(figure), caption))]


def _training(workdir: Path) -> str:
    path, cards = workdir / METRICS_FILE, []
    if not path.exists():
        return ""
    rows = read_lines_json(path)
    for name, caption in LOGGED.items():
        if any(np.isfinite(row.get(name) or np.nan) for row in rows):
            cards.append(page.chart(plots.as_svg(plots.curve_figure(rows, y=name)), caption))
    return page.row(*cards)


if __name__ == "__main__":
    cli.run(main)
