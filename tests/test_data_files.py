"""User datasets: npz files and folders of images."""

import zipfile

import numpy as np
import pytest
from PIL import Image

from jaxdiff import data
from jaxdiff.typing import InputError

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (20, 5, 4, 3), np.uint8)
LABELS = np.arange(20) % 3


def save(path, **arrays):
    np.savez(path / "mine.npz", **arrays)
    return data.load("npz:mine.npz", data_dir=path)


def rows(source):
    return np.stack([source[i]["x"] for i in range(len(source))])


def contents(*sources):
    return sorted(row.tobytes() for source in sources for row in rows(source))


def test_npz_images_hold_out_a_tenth(tmp_path):
    mine = save(tmp_path, x=PICTURES, label=LABELS)
    assert (len(mine.train), len(mine.test), mine.shape, mine.num_classes) == (18, 2, (5, 4, 3), 3)
    assert contents(mine.train, mine.test) == sorted(x.tobytes() for x in PICTURES)
    for i in range(18):
        example = mine.train[i]
        original = (example["x"] == PICTURES).all(axis=(1, 2, 3)).argmax()
        assert example["label"] == LABELS[original]
    assert mine.name == "npz:mine.npz"


def test_a_single_example_is_trained_on(tmp_path):
    mine = save(tmp_path, x=PICTURES[:1], label=[2])
    assert (len(mine.train), len(mine.test), mine.num_classes) == (1, 0, 3)
    write(tmp_path / "images", PICTURES[:1])
    mine = data.load("folder:images", data_dir=tmp_path, size=4)
    assert (len(mine.train), len(mine.test), mine.shape) == (1, 0, (4, 4, 3))
    np.testing.assert_array_equal(next(data.batches(mine.train, batch_size=2, seed=0))["label"], 0)


def test_npz_files_may_hold_a_test_split_grey_images_or_vectors(tmp_path):
    grey = save(tmp_path, x=PICTURES[..., 0], x_test=PICTURES[:3, :, :, 1])
    assert (len(grey.train), len(grey.test), grey.shape, grey.num_classes) == (
        20,
        3,
        (5, 4, 1),
        None,
    )
    np.testing.assert_array_equal(rows(grey.test), PICTURES[:3, :, :, 1:2])
    assert grey.train[0]["label"] == 0
    vectors = RNG.normal(size=(7, 3))
    mine = save(tmp_path, x=vectors, label=np.arange(7), x_test=vectors[:2], label_test=[8, 2])
    assert (mine.shape, mine.is_image, mine.num_classes) == ((3,), False, 9)
    np.testing.assert_array_equal(rows(mine.train), vectors.astype(np.float32))
    assert mine.train[0]["x"].dtype == np.float32
    assert mine.test[0]["label"] == 8
    batch = next(data.batches(mine.train, batch_size=7, seed=0))
    np.testing.assert_array_equal(batch["x"], vectors.astype(np.float32)[batch["label"]])


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": PICTURES}, "must hold an array 'x', got images"),
        ({"x": PICTURES.astype(np.int64)}, r"x must be uint8 images .* got int64 \(20, 5, 4, 3\)$"),
        ({"x": PICTURES / 255}, "x must be uint8 images .* got float64"),
        ({"x": np.zeros((0, 5, 4, 3), np.uint8)}, r"got uint8 \(0, 5, 4, 3\)"),
        ({"x": np.full((4, 2), np.nan)}, "x must be finite in float32, got nan"),
        ({"x": np.full((4, 2), 1e39)}, r"x must be finite in float32, got 1e\+39"),
        ({"x": PICTURES, "x_test": PICTURES[:, :4]}, r"x_test must match x, .* got uint8 \(20, 4"),
        ({"x": PICTURES, "label": LABELS[:5]}, r"label must be 20 whole numbers, got shape \(5,"),
        ({"x": PICTURES, "label": LABELS / 2}, "label must be whole numbers from 0 to .*got 0.5"),
        ({"x": PICTURES, "label": LABELS - 1}, "label must be whole numbers from 0 to .*got -1"),
        ({"x": PICTURES, "label": LABELS + 2**31}, "from 0 to 2147483646, got 2147483648"),
        ({"x": PICTURES, "label": np.full(20, 2**40, np.uint64)}, "got 1099511627776"),
        ({"x": PICTURES, "label": np.full(20, np.nan)}, "got nan"),
        ({"x": PICTURES, "label": LABELS > 0}, "whole numbers .* got an array of type bool"),
        ({"x": PICTURES, "label": LABELS, "x_test": PICTURES}, "label_test together, got only"),
    ],
)
def test_invalid_npz_files_are_refused(tmp_path, arrays, words):
    with pytest.raises(InputError, match=words):
        save(tmp_path, **arrays)


def test_whole_float_labels_are_converted_to_integers(tmp_path):
    mine = save(tmp_path, x=PICTURES, label=LABELS.astype(np.float32))
    assert mine.num_classes == 3
    assert mine.train.label.dtype == np.int32
    assert sorted([*mine.train.label, *mine.test.label]) == sorted(LABELS)


def broken(path, how):
    """A valid npz file with one field overwritten."""
    if how == "huge":
        header = np.lib.format.header_data_from_array_1_0(PICTURES) | {"shape": (10**15, 4, 3)}
        with zipfile.ZipFile(path, "w") as file, file.open("x.npy", "w") as member:
            np.lib.format.write_array_header_1_0(member, header)
        return
    np.savez_compressed(path, x=PICTURES)
    content = bytearray(path.read_bytes())
    places = {  # of the central directory's entry: flags, compression method
        "encrypted": (8, 1),
        "unknown compression": (10, 99),
    }
    if how == "bad bytes":
        content[200:220] = bytes(20)
    else:
        offset, value = places[how]
        content[content.index(b"PK\1\2") + offset] = value
        content[content.index(b"PK\3\4") + offset - 2] = value
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["huge", "encrypted", "unknown compression", "bad bytes"])
def test_a_broken_npz_file_is_reported_in_one_line(tmp_path, how):
    path = tmp_path / "mine.npz"
    broken(path, how)
    with pytest.raises(InputError, match=f"{path} is not an npz file of plain arrays: ") as caught:
        data.load(f"npz:{path}")
    assert "\n" not in str(caught.value)


def test_arrays_larger_than_memory_are_not_unpacked(tmp_path, monkeypatch):
    zeros = np.zeros((2048, 64, 64), np.uint8)  # 8 MiB, in a file of 8 KiB
    np.savez_compressed(tmp_path / "mine.npz", x=zeros)
    assert (tmp_path / "mine.npz").stat().st_size < 2**15
    monkeypatch.setattr("jaxdiff.data.npz.host_memory", lambda: 2**22)
    with pytest.raises(InputError, match=r"in the 0\.00391 GiB of memory, got arrays of 0\.00781"):
        data.load(f"npz:{tmp_path / 'mine.npz'}")


def test_a_file_that_is_not_npz_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"there is no file .*absent\.npz"):
        data.load("npz:absent.npz", data_dir=tmp_path)
    (tmp_path / "text.npz").write_text("not a zip")
    (tmp_path / "empty.npz").write_text("")
    np.save(tmp_path / "one.npy", PICTURES)
    np.savez(tmp_path / "objects.npz", x=np.array([{}, None]))
    for name in ("text.npz", "empty.npz", "one.npy", "objects.npz"):
        with pytest.raises(InputError, match=f"{name} is not an npz file of plain arrays"):
            data.load(f"npz:{tmp_path / name}")


def write(folder, pictures=PICTURES, name="{i:02d}.png", mode="RGB"):
    for i, picture in enumerate(pictures):
        path = folder / name.format(i=i, c="abc"[i % 3])
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).convert(mode).save(path)


def test_folder_is_its_images_with_a_tenth_held_out(tmp_path):
    write(tmp_path)
    (tmp_path / ".hidden").write_text("passed over")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("ignored too")
    mine = data.load(f"folder:{tmp_path}")
    assert (len(mine.train), len(mine.test), mine.shape, mine.num_classes) == (
        18,
        2,
        (5, 4, 3),
        None,
    )
    assert contents(mine.train, mine.test) == sorted(x.tobytes() for x in PICTURES)
    assert mine.train[0]["label"] == 0
    again = data.load(tmp_path.name.join(["folder:", ""]), data_dir=tmp_path.parent)
    np.testing.assert_array_equal(rows(again.test), rows(mine.test))


def test_sub_folders_are_classes(tmp_path):
    write(tmp_path, name="{c}/deeper/{i:02d}.png")
    mine = data.load(f"folder:{tmp_path}")
    assert mine.num_classes == 3
    for i in range(len(mine.train)):
        original = (mine.train[i]["x"] == PICTURES).all(axis=(1, 2, 3)).argmax()
        assert mine.train[i]["label"] == original % 3
    batch = next(data.batches(mine.train, batch_size=18, seed=0))
    x, label = data.take_all(mine.train)
    assert sorted(zip(batch["x"].sum((1, 2, 3)), batch["label"], strict=True)) == sorted(
        zip(x.sum((1, 2, 3)), label, strict=True)
    )


def test_all_grey_folders_stay_grey_and_mixed_ones_turn_rgb(tmp_path):
    grey = np.repeat(PICTURES[..., :1], 3, axis=3)
    write(tmp_path, grey, mode="L")
    mine = data.load(f"folder:{tmp_path}")
    assert mine.shape == (5, 4, 1)
    assert contents(mine.train, mine.test) == sorted(x.tobytes() for x in grey[..., :1])
    write(tmp_path, PICTURES[:1], name="colour{i}.png")
    mixed = data.load(f"folder:{tmp_path}")
    assert mixed.shape == (5, 4, 3)
    both = [x.tobytes() for x in grey] + [PICTURES[0].tobytes()]
    assert contents(mixed.train, mixed.test) == sorted(both)


def test_invalid_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"there is no folder .*absent"):
        data.load(f"folder:{tmp_path / 'absent'}")
    with pytest.raises(InputError, match="must contain image files, got none"):
        data.load(f"folder:{tmp_path}")
    write(tmp_path, PICTURES[:1])
    write(tmp_path, PICTURES[1:3, :4], name="small{i}.png")
    with pytest.raises(InputError, match=r"got 4x4 \(2, .*small0.png\), 4x5 \(1, .*00.png"):
        data.load(f"folder:{tmp_path}")


def test_files_that_are_not_images_are_named(tmp_path):
    write(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match=r"notes\.txt is not an image"):
        data.load(f"folder:{tmp_path}")
    (tmp_path / "notes.txt").unlink()
    Image.fromarray(np.zeros((5, 4), np.uint16)).save(tmp_path / "wide.png")
    with pytest.raises(InputError, match=r"wide\.png must have 8 bits .* PIL mode I;16"):
        data.load(f"folder:{tmp_path}")
    (tmp_path / "wide.png").unlink()
    write(tmp_path, PICTURES[:1], name="sub/{i}.png")
    with pytest.raises(
        InputError, match=r"must all lie in sub-folders.*00.png next to sub-folders"
    ):
        data.load(f"folder:{tmp_path}")


def test_a_damaged_image_is_named_on_reading(tmp_path):
    noise = RNG.integers(0, 256, (4, 64, 64, 3), np.uint8)
    write(tmp_path, noise)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:2000])
    mine = data.load(f"folder:{tmp_path}")
    with pytest.raises(InputError, match=r"the image .*\.png is damaged"):
        mine.train[0]
