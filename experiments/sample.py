"""Draw samples of a trained run: ``python -m experiments.sample --workdir=DIR``.

Solver, time grid and number of steps are those of the run's configuration unless set by flags:
``--solver=unipc --option=order=3 --times=log_snr --steps=10``. ``--clip`` and
``--dynamic_threshold=0.995`` restrict every estimate of the data to their range.
"""

import ast
import functools
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments.common import cli, drawing
from experiments.common.loading import load_run
from jaxdiff import data, guidance, plots, recipes
from jaxdiff.files import atomic_write_array, check_writable
from jaxdiff.recipes import Run
from jaxdiff.typing import InputError

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a trained run.")
OUT = flags.DEFINE_string("out", None, "Folder to write to; <workdir>/samples by default.")
N = flags.DEFINE_integer("n", 64, "Number of samples.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "Seed of all randomness.", 0, cli.MAX_SEED)
SOLVER = flags.DEFINE_string("solver", None, "Name of a solver.")
TIMES = flags.DEFINE_string("times", None, "Name of a time grid.")
STEPS = flags.DEFINE_integer("steps", None, "Number of solver steps.", lower_bound=1)
T_MIN = flags.DEFINE_float("t_min", None, "Time at which sampling ends, in [0, 1).")
OPTIONS = flags.DEFINE_multi_string("option", [], "NAME=VALUE, an option of the solver.")
TIMES_OPTIONS = flags.DEFINE_multi_string(
    "times_option", [], "NAME=VALUE, an option of the time grid named by --times."
)
LABEL = flags.DEFINE_integer("label", None, "Class, for a class-conditional run.", lower_bound=0)
CLIP = flags.DEFINE_bool("clip", False, "Clip every estimate of the data to their range.")
QUANTILE = flags.DEFINE_float(
    "dynamic_threshold", None, "Scale down estimates of which less than this fraction is in range."
)
TRAJECTORY = flags.DEFINE_bool("trajectory", False, "Also draw the trajectories of ten samples.")


def main() -> None:
    """Read the flags, draw, and write."""
    if not WORKDIR.value:
        raise InputError("--workdir must be the folder of a run, got none")
    run = load_run(WORKDIR.value)
    if TRAJECTORY.value and not (run.is_image and run.shape[-1] in (1, 3)):
        raise InputError(
            f"--trajectory requires images of 1 or 3 channels, got examples of shape {run.shape}"
        )
    if not run.is_image:
        plots.check_backend()
    options = _options() | _guide(run)
    out = Path(OUT.value or Path(WORKDIR.value) / "samples")
    check_writable(*(out / name for name in ("samples.npz", "samples.png", "trajectory.png")))
    x = drawing.draw_samples(run, N.value, seed=SEED.value, options=options)

    atomic_write_array(out / "samples.npz", x=x)
    floats = data.to_floats(x, run.value_range) if x.dtype == np.uint8 else x
    written = [out / "samples.npz", recipes.draw(out / "samples.png", floats, run)]
    if TRAJECTORY.value:
        written.append(_draw_trajectory(run, out / "trajectory.png", options))
    for path in written:
        if path is not None:
            print(f"wrote {path}")


def _options() -> dict[str, Any]:
    """The settings that flags override."""
    if TIMES_OPTIONS.value and TIMES.value is None:
        raise InputError("--times_option requires --times, got none")
    times = TIMES.value and recipes.choice(
        TIMES.value, **_pairs("times_option", TIMES_OPTIONS.value)
    )
    chosen = {
        "solver": SOLVER.value,
        "times": times,
        "num_steps": STEPS.value,
        "t_min": T_MIN.value,
        "label": LABEL.value,
    }
    solver_options = _pairs(
        "option", OPTIONS.value, reserved=(*chosen, "key", "n", "save_fn", "guide")
    )
    return {k: value for k, value in chosen.items() if value is not None} | solver_options


def _guide(run: Run) -> dict[str, Any]:
    """The wrapper of the model that flags choose."""
    if (CLIP.value or QUANTILE.value is not None) and not run.is_image:
        raise InputError(
            f"--clip and --dynamic_threshold require image data, got examples of shape {run.shape}"
        )
    if QUANTILE.value is None:
        low, high = run.value_range
        clip = functools.partial(guidance.clip_denoised, low=low, high=high)
        return {"guide": clip} if CLIP.value else {}
    if CLIP.value or run.value_range[0] != -run.value_range[1]:
        raise InputError(
            "--dynamic_threshold requires data in a range symmetric about 0, and no --clip, got "
            f"data in {list(run.value_range)} and --clip={CLIP.value}"
        )
    bound, quantile = run.value_range[1], QUANTILE.value
    threshold = functools.partial(guidance.dynamic_threshold, quantile=quantile, bound=bound)
    return {"guide": threshold}


def _pairs(flag: str, texts: Sequence[str], reserved: Collection[str] = ()) -> dict[str, Any]:
    """Options from the command line."""
    of = "solver" if flag == "option" else "time grid"
    pairs = {}
    for text in texts:
        name, found, value = text.partition("=")
        if not (found and name.isidentifier()) or name in reserved:
            raise InputError(f"--{flag} must be NAME=VALUE, an option of the {of}, got {text!r}")
        pairs[name] = _literal(value)
    return pairs


def _literal(text: str) -> Any:
    """The Python literal that the text is, such as a number, or else the text itself."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def _draw_trajectory(run: Run, path: Path, options: dict[str, Any]) -> Path:
    """Draw ten samples at about a dozen times between noise and data."""
    x, saved = run.trajectory(jax.random.key(SEED.value), 10, **options)
    saved = jnp.concatenate([saved, x[None]])
    stops = np.unique(np.linspace(0, len(saved) - 1, 12).round().astype(int))
    plots.trajectory_strip(path, saved[stops], value_range=run.value_range)
    return path


if __name__ == "__main__":
    cli.run(main)
