"""Published results on CIFAR-10, the commands that reproduce them, and the comparison."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.common.text import text_table


class Row(NamedTuple):
    """A published result and how close a reproduction should come.

    Args:
        config: name of the config file.
        fid: published, of the best snapshot in Song et al., of 50,000 samples against the training
            split.
        fid_tolerance: within which it counts as reproduced: seeds and snapshots differ by about
            0.1, and these tolerances leave room for two such differences.
        bits: published bits per dimension by the ODE; None if there are none.
        bits_tolerance: within which they count.
        source: where it is published.
    """

    config: str
    fid: float | None
    fid_tolerance: float
    bits: float | None
    bits_tolerance: float
    source: str


SONG, HO, EDM = "Song et al. 2021, Tables 2 and 3", "Ho et al. 2020, Table 1", "Karras et al. 2022"
ROWS = {
    "vp_ddpmpp": Row("cifar10_ddpmpp_vp", 2.55, 0.2, 3.16, 0.03, SONG),
    "vp_ddpmpp_deep": Row("cifar10_ddpmpp_deep_vp", 2.41, 0.2, 3.13, 0.03, SONG),
    "subvp_ddpmpp": Row("cifar10_ddpmpp_subvp", 2.61, 0.2, 3.02, 0.03, SONG),
    "subvp_ddpmpp_deep": Row("cifar10_ddpmpp_deep_subvp", 2.41, 0.2, 2.99, 0.03, SONG),
    "ve_ncsnpp": Row("cifar10_ncsnpp_ve", 2.38, 0.2, None, 0.0, SONG),
    "ve_ncsnpp_deep": Row("cifar10_ncsnpp_deep_ve", 2.20, 0.2, None, 0.0, SONG),
    "ddpm": Row("cifar10_ddpm", 3.17, 0.2, None, 0.0, HO),
    "edm": Row("cifar10_edm_vp", 1.97, 0.1, None, 0.0, EDM),
}
TINY_TRAINING = [
    "--config.data.name=digits",
    "--config.data.flip=false",
    "--config.network.channels=16",
    "--config.network.multipliers=(1,2)",
    "--config.network.blocks_per_level=1",
    "--config.network.attention_levels=()",
    "--config.optimizer.learning_rate=2e-3",
    "--config.optimizer.warmup_steps=20",
    "--config.training.num_steps=200",
    "--config.training.batch_size=64",
    "--config.training.ema_decay=0.98",
    "--config.training.checkpoint_every=50",
    "--config.training.sample_every=1000000",
    "--config.training.log_every=10",
    "--config.sampling.num_steps=20",
    "--config.sampling.num_images=16",
]
PUBLISHED_N = 50_000
FID_FEATURES = "inception-2015-12-05, pool, legacy_tensorflow"
"""As score_sde and EDM extract them."""


def commands(
    row: Row, workdir: Path, *, tiny: bool, inception: str = "", data_dir: str = ""
) -> list[list[str]]:
    """The arguments of ``python`` that train, evaluate and report.

    Args:
        row: what is reproduced.
        workdir: of the run.
        tiny: whether with a small network on digits.
        inception: file of the weights of the FID's Inception-v3; for a tiny one, none.
        data_dir: folder of the prepared dataset, if it is not the default one.
    """
    at = f"--workdir={workdir}"
    config = Path(__file__).parents[1] / "configs" / f"{row.config}.py"
    train = ["-m", "experiments.train", f"--config={config}", at]
    evaluate = ["-m", "experiments.evaluate", at, "--reference=train"]
    if tiny:
        train += TINY_TRAINING
        if row.config == "cifar10_ddpm":
            train += ["--config.process.num_steps=20", "--config.network.groups=4"]
        evaluate += ["--n=64", "--draws=1", "--rtol=0.01"]
    else:
        train += [f"--config.data.data_dir={data_dir}"] if data_dir else []
        evaluate += [f"--n={PUBLISHED_N}", f"--max_real={PUBLISHED_N}", "--rtol=1e-5"]
        evaluate += ["--ode_draws=5", f"--features=inception:{inception}"]
        evaluate += ["--resize=legacy_tensorflow"]
    return [train, evaluate, ["-m", "experiments.report", at]]


def verdicts(row: Row, record: Mapping[str, Any]) -> list[str]:
    """What was measured beside what is published, and whether the difference is within tolerance.

    Example:
        >>> fid = {"name": "frechet", "of": "samples", "features": FID_FEATURES, "value": 2.5}
        >>> record = {"figures": [fid], "ode_bits_per_dim": {"bits": 3.3}}
        >>> for line in verdicts(ROWS["vp_ddpmpp"], record):
        ...     print(line)
        FID 2.50, published 2.55 ± 0.2 (Song et al. 2021, Tables 2 and 3): reproduced
        bits/dim 3.300, published 3.16 ± 0.03 (Song et al. 2021, Tables 2 and 3): not reproduced
    """
    found = []
    values = {(f["name"], f["of"], f["features"]): f["value"] for f in record["figures"]}
    if row.fid is not None:
        fid = values["frechet", "samples", FID_FEATURES]
        close = abs(fid - row.fid) <= row.fid_tolerance or fid < row.fid
        found.append(f"FID {fid:.2f}, {_published(row.fid, row.fid_tolerance, row, close=close)}")
    if row.bits is not None:
        bits = record["ode_bits_per_dim"]["bits"]
        close = abs(bits - row.bits) <= row.bits_tolerance or bits < row.bits
        found.append(
            f"bits/dim {bits:.3f}, {_published(row.bits, row.bits_tolerance, row, close=close)}"
        )
    return found


def _published(value: float, tolerance: float, row: Row, *, close: bool) -> str:
    verdict = "reproduced" if close else "not reproduced"
    return f"published {value} ± {tolerance:g} ({row.source}): {verdict}"


def as_table() -> str:
    """All rows and what is published, as text."""
    rows = [("row", "config", "FID", "bits/dim", "source")]
    for name, row in ROWS.items():
        rows.append((name, row.config, _cell(row.fid), _cell(row.bits), row.source))
    return text_table(rows)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
