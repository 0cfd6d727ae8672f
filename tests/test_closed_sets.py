"""Every table that a closed set of names indexes has exactly one entry for each name."""

from typing import get_args

import pytest

from jaxdiff import divergence, flow
from jaxdiff.data import inception_input, resizing
from jaxdiff.nets import blocks, inception, layers
from jaxdiff.recipes import config, measures, names

TABLES = {
    "activation": (layers.Activation, layers.ACTIVATIONS),
    "inception_pool": (inception.Pool, inception.POOLS),
    "inception_resize": (inception_input.InceptionResize, inception_input.INCEPTION_RESIZES),
    "loss": (config.LossName, measures.MEASURES),
    "method": (flow.Method, flow.METHODS),
    "noise_cond": (config.NoiseCondName, names.NOISE_CONDS),
    "probe": (divergence.Probe, divergence.PROBES),
    "resample": (blocks.Resample, {"", *blocks.RESAMPLERS}),
    "resize": (resizing.HowToResize, resizing.RESIZES),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_exactly_one_entry_for_each_name(name):
    closed, table = TABLES[name]
    assert set(get_args(closed)) == set(table)
