"""The metrics against other packages on the same features, where those are installed."""

import numpy as np
import pytest

from jaxdiff import metrics

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(100, 6)), 0.4 + 1.2 * RNG.normal(size=(100, 6))


@pytest.fixture(scope="module")
def torch():
    """PyTorch, where torch-fidelity is installed too."""
    pytest.importorskip("torch_fidelity")
    return pytest.importorskip("torch")


def test_fid_of_torch_fidelity(torch):
    from torch_fidelity import metric_fid

    statistics = [metric_fid.fid_features_to_statistics(torch.tensor(z)) for z in (X, Y)]
    expected = metric_fid.fid_statistics_to_metric(*statistics, verbose=False)
    got = metrics.frechet_distance(X, Y)
    assert got == pytest.approx(expected["frechet_inception_distance"], rel=1e-6)


@pytest.mark.parametrize(("blocks", "size"), [(2, 100), (200, 40)])
def test_kid_of_torch_fidelity(torch, blocks, size):
    """Blocks of all examples are the same for both; smaller ones are drawn otherwise."""
    from torch_fidelity import metric_kid

    found = metric_kid.kid_features_to_metric(
        *[torch.tensor(z) for z in (X, Y)], kid_subsets=blocks, kid_subset_size=size, verbose=False
    )
    mean, sd = (found[f"kernel_inception_distance_{name}"] for name in ("mean", "std"))
    got = metrics.kid(X, Y, blocks=blocks, block_size=size, seed=0)
    if size == len(X):
        assert got == pytest.approx((mean, sd), rel=1e-6, abs=1e-12)
    else:
        assert abs(got.mean - mean) < 5 * np.hypot(got.sd, sd) / np.sqrt(blocks)
        assert got.sd == pytest.approx(sd, rel=5 / np.sqrt(blocks))


def test_inception_score_of_torch_fidelity(torch):
    from torch_fidelity import metric_isc

    logits = 2 * RNG.normal(size=(103, 7))
    order = np.random.default_rng(5).permutation(103)  # that of the seed below
    found = metric_isc.isc_features_to_metric(torch.tensor(logits[order]), shuffle=False)
    weights = np.exp(logits)
    got = metrics.inception_score(weights / weights.sum(axis=1, keepdims=True), seed=5)
    assert got.mean == pytest.approx(found["inception_score_mean"], rel=1e-6)
    assert got.sd == pytest.approx(found["inception_score_std"], rel=1e-6)


def test_precision_and_recall_of_torch_fidelity(torch):
    """Since version 0.4 its first set is that of the samples; before, it was that of the data."""
    from torch_fidelity import metric_prc

    found = metric_prc.prc_features_to_metric(torch.tensor(Y), torch.tensor(X), verbose=False)
    assert metrics.precision_recall(X, Y, k=3) == pytest.approx(
        (found["precision"], found["recall"]), rel=1e-6
    )


def test_density_and_coverage_of_prdc():
    prdc = pytest.importorskip("prdc")
    found = prdc.compute_prdc(real_features=X, fake_features=Y, nearest_k=5)
    expected = found["density"], found["coverage"]
    assert metrics.density_coverage(X, Y) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("n", [4, 100])
def test_vendi_of_vendi_score(n):
    vendi_score = pytest.importorskip("vendi_score.vendi")
    assert metrics.vendi(X[:n]) == pytest.approx(vendi_score.score_dual(X[:n]), rel=1e-6)
