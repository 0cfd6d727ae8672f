"""The record of what a figure was measured on, and figures over several seeds."""

import dataclasses
import json

import numpy as np
import pytest
from metric_tools import assert_refused_in_one_line

from jaxdiff import metrics

STATED = {
    "n": 50_000,
    "reference": "cifar10 train",
    "n_reference": 50_000,
    "features": "Inception-v3, pool",
    "resize": "bilinear",
}
EVERYTHING = metrics.Protocol(
    **STATED,
    features_sha256="0123456789abcdef" * 4,
    ddof=1,
    dtype="float64",
    k=3,
    average="EMA 0.9999",
    solver="heun",
    evaluations=35,
    seed=7,
)


def test_the_text_of_a_protocol_is_one_line_with_every_field_that_is_known():
    text = str(EVERYTHING)
    assert "\n" not in text
    for field in dataclasses.fields(EVERYTHING):
        assert f"{field.name} {getattr(EVERYTHING, field.name)}" in text
    short = str(metrics.Protocol(**STATED))
    assert "None" not in short
    assert "solver" not in short


def test_a_result_carries_its_protocol_into_text_and_json():
    result = metrics.Result("FID", 2.345678, EVERYTHING, error=0.0312)
    assert str(result) == f"FID 2.346 ± 0.031 ({EVERYTHING})"
    assert str(metrics.Result("FID", 2.0, EVERYTHING)) == f"FID 2 ({EVERYTHING})"
    stored = json.loads(json.dumps(result.as_dict()))
    assert stored["value"] == 2.345678
    assert metrics.Protocol(**stored["protocol"]) == EVERYTHING


def test_seeds_are_averaged():
    values = [1.98, 2.10, 2.04, 1.91]
    mean, sd, n = metrics.over_seeds(values)
    assert (mean, sd, n) == (
        pytest.approx(sum(values) / 4),
        pytest.approx(np.sqrt(sum((v - 2.0075) ** 2 for v in values) / 3)),
        4,
    )


# Invalid arguments


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.over_seeds([1.0]), r"at least 2 numbers, one per seed, got shape \(1,\)"),
        (lambda: metrics.over_seeds([1.0, np.inf]), "values must be finite"),
        (lambda: metrics.over_seeds(["a", "b"]), "values must be an array of real numbers"),
        (lambda: metrics.Protocol(**{**STATED, "n": 0}), "n must be a positive integer, got 0"),
        (
            lambda: metrics.Protocol(**{**STATED, "n_reference": None}),
            "n_reference must be a posit",
        ),
        (lambda: metrics.Protocol(**STATED, k=0), "k must be a positive integer, got 0"),
        (lambda: metrics.Protocol(**STATED, evaluations=1.5), "evaluations must be .* got 1.5"),
        (lambda: metrics.Protocol(**{**STATED, "resize": " "}), "resize must be a line of text"),
        (lambda: metrics.Protocol(**STATED, dtype="a\nb"), "dtype must be a line of text, got"),
        (lambda: metrics.Protocol(**{**STATED, "features": None}), "features must be a line of"),
        (
            lambda: metrics.Protocol(**STATED, features_sha256="12"),
            "64 hexadecimal digits, got '12'",
        ),
    ],
)
def test_invalid_arguments_are_reported_in_one_line(call, message):
    assert_refused_in_one_line(call, message)
