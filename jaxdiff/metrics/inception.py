"""L7: features of images by the Inception-v3 of the FID, with everything that they depend on.

Weights, resizing and layer move a Fréchet distance by more than most models differ. The weights'
hash and the resizing are therefore part of what is returned.
"""

import functools
import os
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import numpy as np

from jaxdiff.checks import check_count, check_one_of
from jaxdiff.compiling import compiler_options
from jaxdiff.data.inception_input import InceptionResize, check_images, inception_input
from jaxdiff.nets.convert import load_inception
from jaxdiff.nets.inception import Activations, Inception
from jaxdiff.tensors import file_sha256
from jaxdiff.typing import ArrayLike, Params

InceptionLayer = Literal["pool", "spatial", "logits"]


class InceptionFeatures(NamedTuple):
    """Features of n images, float32, and what they depend on."""

    pool: np.ndarray
    """``[n, 2048]``: FID, KID, precision and recall."""
    spatial: np.ndarray
    """``[n, 17, 17, 7]``, which a metric flattens to 2023 features: sFID."""
    logits: np.ndarray
    """``[n, 1008]``, without the bias of the last layer, as Inception Scores are computed."""
    resize: InceptionResize
    path: str
    """Of the weights."""
    sha256: str
    """Of that file; that of the published one is ``nets.convert.INCEPTION_SHA256``."""

    def named(self, layer: InceptionLayer = "pool") -> str:
        """The features of one layer as a protocol states them.

        Raises:
            InputError: if the layer is unknown.

        Example:
            >>> empty = np.zeros((0, 1))
            >>> InceptionFeatures(empty, empty, empty, "clean", "weights.pth", "6726…").named()
            'inception-2015-12-05, pool, clean'
        """
        check_one_of(layer=(layer, InceptionLayer))
        return f"inception-2015-12-05, {layer}, {self.resize}"


def inception_features(
    path: str | os.PathLike[str],
    images: ArrayLike,
    *,
    resize: InceptionResize = "clean",
    batch_size: int = 64,
) -> InceptionFeatures:
    """Features of images by the network whose weights a file holds.

    The next batch is resized while the network computes one; it is compiled once for a batch size.

    Args:
        path: of the published ``.pth``, which needs torch, or of the same tensors as
            ``.safetensors``.
        images: uint8 ``[n, h, w, 3]``, or ``[n, h, w, 1]`` for grey ones, n ≥ 1, of any size.
        resize: "clean" as in clean-fid, or the bilinear "legacy_pytorch" or "legacy_tensorflow";
            figures of different ones are not comparable.
        batch_size: images computed at once.

    Returns:
        ``InceptionFeatures(pool, spatial, logits, resize, path, sha256)``.

    Raises:
        InputError: if the images are not uint8 of such a shape, an option is invalid, or the file
            does not hold the weights.

    Reference:
        Heusel et al. 2017, GANs trained by a two time-scale update rule; Nash et al. 2021,
        Generating images with sparse representations (spatial); Salimans et al. 2016, Improved
        techniques for training GANs (logits).
    """
    check_one_of(resize=(resize, InceptionResize))
    check_count("batch_size must be a positive integer", batch_size)
    batch = np.asarray(images)
    check_images(batch)
    sha256, variables = file_sha256(path), load_inception(path)
    size = min(int(batch_size), len(batch))
    outputs: list[Activations] = []
    for start in range(0, len(batch), size):
        x = inception_input(batch[start : start + size], resize)
        missing = size - len(x)  # in the last batch
        outputs.append(_apply()(variables, np.pad(x, ((0, missing), *[(0, 0)] * 3))))
        outputs[-2:-1] = jax.device_get(outputs[-2:-1])  # while the last one is computed
    parts = zip(*jax.device_get(outputs), strict=True)
    pool, spatial, logits = (np.concatenate(arrays)[: len(batch)] for arrays in parts)
    return InceptionFeatures(pool, spatial, logits, resize, os.fspath(path), sha256)


@functools.cache
def _apply() -> Callable[[Params, np.ndarray], Activations]:
    """The compiled network, which the backend's options belong to."""
    return jax.jit(Inception().apply, compiler_options=compiler_options())
