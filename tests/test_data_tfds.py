"""Prepared TensorFlow Datasets, read without TensorFlow.

A tiny dataset is written here record by record, in the format that TFDS documents: PNG bytes in
``tf.train.Example`` protos in an ArrayRecord file, and two JSON files.
"""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxdiff import data
from jaxdiff.typing import InputError

RNG = np.random.default_rng(0)
PICTURES = {
    "train": RNG.integers(0, 256, (6, 4, 5, 1), np.uint8),
    "test": RNG.integers(0, 256, (3, 4, 5, 1), np.uint8),
}


def prepare(root, *, version="1.0.0", pictures=PICTURES, shape=(4, 5, 1), key="image", **info):
    """Write the dataset ``tiny`` under ``root``; labels count 0, 1, 2, 0, ..."""
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.proto import tf_example_generated_pb2 as proto

    folder = root / "tiny" / version
    folder.mkdir(parents=True)
    image, label = tfds.features.Image(shape=shape), tfds.features.ClassLabel(num_classes=3)
    tfds.features.FeaturesDict({key: image, "label": label}).save_config(folder)
    splits = []
    for split, images in pictures.items():
        template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        path = folder / f"tiny-{split}.array_record-00000-of-00001"
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for i, x in enumerate(images):
            png = io.BytesIO()
            Image.fromarray(x[..., 0] if x.shape[-1] == 1 else x).save(png, "png")
            example = proto.Example()
            example.features.feature[key].bytes_list.value.append(png.getvalue())
            example.features.feature["label"].int64_list.value.append(i % 3)
            writer.write(example.SerializeToString())
        writer.close()
        shards = {"shardLengths": [str(len(images))], "numBytes": "1", "filepathTemplate": template}
        splits.append({"name": split, **shards})
    meta = {"name": "tiny", "version": version, "fileFormat": "array_record", "splits": splits}
    (folder / "dataset_info.json").write_text(json.dumps(meta | info))


def test_tiny_round_trip(tmp_path):
    prepare(tmp_path)
    tiny = data.load("tfds:tiny", data_dir=tmp_path)
    assert (tiny.name, tiny.shape, tiny.num_classes) == ("tfds:tiny", (4, 5, 1), 3)
    for split, source in (("train", tiny.train), ("test", tiny.test)):
        x, label = data.stack(source)
        np.testing.assert_array_equal(data.to_uint8(x), PICTURES[split])
        np.testing.assert_array_equal(label, np.arange(len(x)) % 3)
    example = tiny.train[4]
    assert (example["x"].dtype, example["label"].dtype, example["label"]) == (np.uint8, np.int32, 1)


def test_batches_of_tiny_do_not_depend_on_threads_or_start(tmp_path):
    prepare(tmp_path)
    options = {"batch_size": 4, "seed": 0}
    straight = data.batches(data.load("tfds:tiny", data_dir=tmp_path).train, **options)
    expected = [next(straight) for _ in range(5)]
    resumed = data.batches(data.load("tfds:tiny", data_dir=tmp_path).train, start_step=3, **options)
    for batch in expected[3:]:
        np.testing.assert_array_equal(next(resumed)["x"], batch["x"])


def test_the_newest_version_is_the_default_and_one_can_be_named(tmp_path, monkeypatch):
    prepare(
        tmp_path, version="9.0.0", pictures={"train": PICTURES["test"], "test": PICTURES["test"]}
    )
    prepare(tmp_path, version="10.0.0")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert len(data.load("tfds:tiny").train) == 6
    assert len(data.load("tfds:tiny:9.0.0").train) == 3


def test_images_of_several_sizes_are_resized(tmp_path):
    pictures = [np.full((4, 5, 1), 60, np.uint8), np.full((9, 3, 1), 70, np.uint8)]
    prepare(tmp_path, shape=(None, None, 1), pictures={"train": pictures, "test": pictures})
    tiny = data.load("tfds:tiny", data_dir=tmp_path, size=3)
    assert tiny.shape == (3, 3, 1)
    x, label = data.take_all(tiny.train)
    np.testing.assert_array_equal(x, np.full((2, 3, 3, 1), [[[[60]]], [[[70]]]]))
    assert label.tolist() == [0, 1]


def test_validation_replaces_a_missing_test_split(tmp_path):
    prepare(tmp_path, pictures={"train": PICTURES["train"], "validation": PICTURES["test"]})
    assert len(data.load("tfds:tiny", data_dir=tmp_path).test) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"shape": (None, None, 1)},
            r"one size, got shape \(None, None, 1\).*config.data.size",
        ),
        ({"key": "picture"}, "a feature 'image', got label, picture"),
        ({"pictures": {"train": PICTURES["train"]}}, "must have the splits .* got train$"),
        ({"pictures": {"test": PICTURES["test"]}}, "must have the splits .* got test$"),
        ({"fileFormat": "tfrecord"}, "not prepared as ArrayRecord"),
    ],
)
def test_invalid_prepared_data_is_refused(tmp_path, options, words):
    prepare(tmp_path, **options)
    with pytest.raises(InputError, match=words):
        data.load("tfds:tiny", data_dir=tmp_path)


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json", "tiny-train*", None])
def test_damaged_files_are_reported_in_one_line(tmp_path, name):
    prepare(tmp_path)
    if name is not None:
        next((tmp_path / "tiny" / "1.0.0").glob(name)).write_bytes(b"{")
    else:  # a byte of an image, which is detected on reading
        path = next((tmp_path / "tiny" / "1.0.0").glob("tiny-train*"))
        path.write_bytes(path.read_bytes().replace(b"IDAT", b"IDOT", 1))
    with pytest.raises(InputError, match="tfds:tiny is damaged: ") as caught:
        data.load("tfds:tiny", data_dir=tmp_path).train[0]
    assert "\n" not in str(caught.value)


def test_unprepared_data_is_refused_with_instructions(tmp_path):
    words = rf"pip install 'jaxdiff\[tfds\]'.*tfds.builder\('mnist', data_dir='{tmp_path}'"
    with pytest.raises(InputError, match=words):
        data.load("tfds:mnist", data_dir=tmp_path)


@pytest.mark.slow
def test_reading_imports_no_tensorflow(tmp_path):
    prepare(tmp_path)
    code = f"""
import sys
from jaxdiff import data
tiny = data.load("tfds:tiny", data_dir={str(tmp_path)!r})
x = next(data.batches(tiny.train, batch_size=2, seed=0))["x"]
assert "tensorflow" not in sys.modules
print(x.shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(2, 4, 5, 1)\n"


@pytest.mark.parametrize(
    ("name", "shape", "num_train"),
    [("mnist", (28, 28, 1), 60_000), ("cifar10", (32, 32, 3), 50_000)],
)
def test_real_data(name, shape, num_train):
    default = Path(__file__).parents[2] / "shared" / "tfds"
    data_dir = Path(os.environ.get("JAXDIFF_TFDS_DIR", default))
    if not (data_dir / name).is_dir():
        pytest.skip(f"{name} is not prepared: set JAXDIFF_TFDS_DIR to its folder")
    dataset = data.load(f"tfds:{name}", data_dir=data_dir)
    assert (dataset.shape, dataset.num_classes) == (shape, 10)
    assert len(dataset.train) == num_train
    assert len(dataset.test) >= 1000  # whoever prepares the data may keep less of the test split
    x, label = data.stack(dataset.test, limit=1000)
    assert x.shape == (1000, *shape)
    assert set(label.tolist()) == set(range(10))
    assert x.min() == -1.0
    assert x.max() == 1.0
