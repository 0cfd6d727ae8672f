"""TensorFlow Datasets, read without TensorFlow: prepared ArrayRecord files, by random access."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff.data.resizing import Resize
from jaxdiff.data.sources import Dataset, Decoded
from jaxdiff.extras import require
from jaxdiff.typing import InputError, one_line

READERS = ("tensorflow_datasets", "importlib_resources", "array_record", "PIL")
VERSION = re.compile(r"\d+\.\d+\.\d+")


def load_tfds(name: str, data_dir: Path | None = None, resize: Resize | None = None) -> Dataset:
    """Load any prepared TFDS dataset of images: train, and test or else validation.

    Args:
        name: as TFDS spells it, ``"mnist"``, ``"name/config"``, ``"name:1.0.0"``; without a version
            the newest prepared one is used.
        data_dir: where datasets were prepared; ``$TFDS_DATA_DIR``, or else
            ``~/tensorflow_datasets``, by default.
        resize: how images are resized; without it they must all be of one size.

    Returns:
        A dataset of shape ``(H, W, C)``; a grey image without a channel axis gets one.

    Raises:
        InputError: the dataset is not prepared here as ArrayRecord files, lacks the splits or an
            ``image`` of bytes, its images differ in size, or a file of it is damaged.
    """
    data_dir = data_dir or Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets"))
    builder = _builder(name, data_dir.expanduser())
    shape = _image_shape(name, builder.info.features, resize)
    num_classes = _num_classes(builder.info.features)
    splits = builder.info.splits
    held_out = "test" if "test" in splits else "validation"
    for split in ("train", held_out):
        if split not in splits:
            raise InputError(
                f"tfds:{name} must have the splits train, and test or validation, got "
                f"{', '.join(splits)}"
            )

    def source(split: str) -> Decoded:
        with _refusing_damage(name):
            rows = builder.as_data_source(split)
            size = len(rows)

        def decode(indices: list[int]) -> tuple[np.ndarray, np.ndarray]:
            with _refusing_damage(name):
                examples = rows.__getitems__(indices)
            stored = [example["image"] for example in examples]
            stored = [x[..., None] if x.ndim == 2 else x for x in stored]
            images = np.stack(stored if resize is None else [resize(x) for x in stored])
            labels = [0 if num_classes is None else example["label"] for example in examples]
            return images, np.array(labels)

        return Decoded(decode, size, shape)

    return Dataset(f"tfds:{name}", source("train"), source(held_out), shape, num_classes)


def _builder(name: str, data_dir: Path) -> Any:
    """Return a builder that only reads; the class that made the dataset need not be importable."""
    folder = data_dir / name.replace(":", "/")
    versions = [path for path in folder.glob("*/") if VERSION.fullmatch(path.name)]
    if versions:
        folder = max(versions, key=lambda path: [int(part) for part in path.name.split(".")])
    if (folder / "dataset_info.json").is_file() and (folder / "features.json").is_file():
        require(*READERS, purpose=f"reading tfds:{name}")
        import tensorflow_datasets as tfds

        with _refusing_damage(name):
            builder = tfds.builder_from_directory(folder)
        if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
            return builder
    raise InputError(
        f"tfds:{name} is not prepared as ArrayRecord files in {data_dir}; to prepare it, run: "
        "pip install 'jaxdiff[tfds]' && python -c \"import tensorflow_datasets as tfds; "
        f"tfds.builder('{name}', data_dir='{data_dir}', file_format='array_record')"
        '.download_and_prepare()"'
    )


@contextlib.contextmanager
def _refusing_damage(name: str) -> Iterator[None]:
    """Reraise any error of TFDS about a broken file as an InputError."""
    try:
        yield
    except Exception as error:
        raise InputError(f"tfds:{name} is damaged: {one_line(error)}") from error


def _image_shape(name: str, features: Any, resize: Resize | None) -> tuple[int, ...]:
    if "image" not in features:
        raise InputError(
            f"tfds:{name} must have a feature 'image', got {', '.join(sorted(features))}"
        )
    image = features["image"]
    shape = tuple(image.shape)
    if len(shape) == 2:
        shape = (*shape, 1)
    if len(shape) != 3 or shape[2] is None or image.np_dtype != np.uint8:
        raise InputError(
            f"images of tfds:{name} must be uint8 with a known number of channels, got shape "
            f"{tuple(image.shape)} and type {np.dtype(image.np_dtype)}"
        )
    if resize is not None:
        return (resize.size, resize.size, shape[2])
    if None in shape:
        raise InputError(
            f"images of tfds:{name} must be of one size, got shape {tuple(image.shape)}; "
            "config.data.size=N resizes them (config.data.resize: crop, stretch or pad)"
        )
    return shape


def _num_classes(features: Any) -> int | None:
    """Return how many classes ``label`` has; None if there is no label, or it is not a class."""
    return getattr(features["label"], "num_classes", None) if "label" in features else None
