"""Image files as data: upright, opaque, of one size, and none left out."""

import os

import numpy as np
import pytest
from PIL import Image

from jaxdiff import data
from jaxdiff.data.resizing import Resize
from jaxdiff.typing import InputError

STORED = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
UPRIGHT = {  # where the first row and column belong, by EXIF's tag 0x0112
    1: STORED,
    2: STORED[:, ::-1],
    3: STORED[::-1, ::-1],
    4: STORED[::-1],
    5: STORED.swapaxes(0, 1),
    6: STORED[::-1].swapaxes(0, 1),
    7: STORED[::-1, ::-1].swapaxes(0, 1),
    8: STORED[:, ::-1].swapaxes(0, 1),
}


def load_images(folder, **options):
    """All images of a folder, in the order of their paths."""
    mine = data.load(f"folder:{folder}", **options)
    order = np.random.default_rng(0).permutation(len(mine.train) + len(mine.test))
    x = np.concatenate([data.take_all(split)[0] for split in (mine.train, mine.test)])
    return x[np.argsort(order)]


def rotated(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
def test_images_are_rotated_by_their_exif_orientation(tmp_path, suffix):
    for folder, orientations in (("wide", (1, 2, 3, 4)), ("tall", (5, 6, 7, 8))):
        (tmp_path / folder).mkdir()
        for orientation in orientations:
            lossless = {"lossless": True} if suffix == "webp" else {}
            path = tmp_path / folder / f"{orientation}.{suffix}"
            Image.fromarray(STORED).save(path, exif=rotated(orientation), **lossless)
        expected = np.stack([UPRIGHT[orientation] for orientation in orientations])
        np.testing.assert_array_equal(load_images(tmp_path / folder), expected)


def test_a_phone_photo_is_loaded_upright(tmp_path):
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:, :16] = 200  # the left half, which is the upper half of the photo
    for name in "ab":
        Image.fromarray(stored).save(tmp_path / f"{name}.jpg", exif=rotated(6))
    x = load_images(tmp_path)
    assert x.shape == (2, 32, 16, 3)
    assert x[:, :16].min() > 190
    assert x[:, 16:].max() < 10


def test_transparent_pixels_are_white_whatever_colour_they_hide(tmp_path):
    colour = Image.new("RGBA", (3, 1))
    for i, alpha in enumerate((255, 0, 51)):  # 51 is a fifth: 4/5 of 255, and 1/5 of the colour
        colour.putpixel((i, 0), (100, 50, 0, alpha))
    colour.save(tmp_path / "0_rgba.png")
    palette = Image.new("P", (3, 1))
    palette.putpalette([100, 50, 0, 9, 9, 9])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "1_palette.png", transparency=1)
    key = Image.new("RGB", (3, 1), (100, 50, 0))
    key.putpixel((1, 0), (7, 7, 7))
    key.save(tmp_path / "2_key.png", transparency=(7, 7, 7))
    opaque, white = [100, 50, 0], [255, 255, 255]
    x = load_images(tmp_path)[:, 0]
    assert x.tolist() == [
        [opaque, white, [224, 214, 204]],
        [opaque, white, opaque],
        [opaque, white, opaque],
    ]


def test_grey_images_with_transparent_pixels_stay_grey(tmp_path):
    for name in "ab":
        image = Image.new("LA", (2, 1), (40, 255))
        image.putpixel((1, 0), (40, 0))
        image.save(tmp_path / f"{name}.png")
    assert load_images(tmp_path).tolist() == [[[[40], [255]]]] * 2


def test_every_resize_mode_is_centred_and_matches_its_name():
    ramp = np.zeros((2, 6, 1), np.uint8)
    ramp[..., 0] = [0, 50, 100, 150, 200, 250]
    assert Resize(2, "crop")(ramp)[0, :, 0].tolist() == [100, 150]  # of the same size: exact
    middle = Resize(6, "pad")(ramp)[..., 0]
    np.testing.assert_array_equal(middle[2:4], ramp[..., 0])
    assert set(middle[[0, 1, 4, 5]].ravel()) == {255}
    halves = np.zeros((8, 40, 1), np.uint8)
    halves[:, 20:] = 255
    stretched = Resize(8, "stretch")(halves)[0, :, 0]
    assert stretched[:3].max() < 10
    assert stretched[-3:].min() > 245
    tall = np.ascontiguousarray(halves.swapaxes(0, 1))
    for how in ("crop", "stretch", "pad"):
        for image in (halves, tall):
            found = Resize(5, how)(image)
            np.testing.assert_array_equal(found[::-1], Resize(5, how)(image[::-1]))
            np.testing.assert_array_equal(found[:, ::-1], Resize(5, how)(image[:, ::-1]))


def test_resizing_averages_what_is_finer_than_a_pixel():
    chequered = np.uint8(255 * (np.indices((64, 64)).sum(axis=0) % 2))[..., None]
    small = Resize(8, "stretch")(chequered)
    assert small.shape == (8, 8, 1)
    assert np.abs(small.astype(int) - 127.5).max() < 8  # every eighth pixel alone is black


def test_images_of_several_sizes_become_one(tmp_path):
    shapes = [(4, 9), (4, 9), (12, 5), (7, 7)]
    for i, shape in enumerate(shapes):
        Image.fromarray(np.full((*shape, 3), 10 * i, np.uint8)).save(tmp_path / f"{i}.png")
    sizes = r"got 9x4 \(2, such as 0.png\), 5x12 \(1, such as 2.png\), 7x7 \(1.*config.data.size=N"
    with pytest.raises(InputError, match=sizes):
        data.load(f"folder:{tmp_path}")
    for how in ("crop", "stretch"):
        x = load_images(tmp_path, size=6, resize=how)
        np.testing.assert_array_equal(
            x, np.arange(0, 40, 10)[:, None, None, None] + np.zeros((6, 6, 3))
        )
    padded = load_images(tmp_path, size=6, resize="pad")
    assert [np.count_nonzero((x != 255).all(axis=2).any(axis=1)) for x in padded] == [3, 3, 6, 6]


def test_datasets_of_one_size_are_resized_too(tmp_path):
    x = np.stack([np.full((4, 8, 2), i, np.uint8) for i in range(4)])
    np.savez(tmp_path / "mine.npz", x=x, label=np.arange(4), x_test=x[:1], label_test=[3])
    mine = data.load(f"npz:{tmp_path / 'mine.npz'}", size=2)
    assert (mine.shape, mine.num_classes, len(mine.train)) == ((2, 2, 2), 4, 4)
    found, label = data.take_all(mine.train)
    np.testing.assert_array_equal(found, x[:, :2, :2])
    assert label.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("digits", {"size": 4, "resize": "fit"}, "one of crop, stretch, pad, got 'fit'"),
        ("digits", {"size": 0}, "size must be a positive integer, or None, got 0"),
        ("toy:moons", {"size": 4}, "size must be None .* got 4 for toy:moons"),
    ],
)
def test_invalid_resizing_is_refused(name, options, words):
    with pytest.raises(InputError, match=words):
        data.load(name, **options)


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(STORED).save(path)


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    for name in ("cats/0.png", "cats/1.png", "dogs/0.png"):
        write(tmp_path / name)
    scandir = os.scandir

    def locked(path):  # root can read everything
        if os.fspath(path).endswith("dogs"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(InputError, match="dogs must be readable, got Permission denied"):
        data.load(f"folder:{tmp_path}")


def test_links_are_followed_and_broken_ones_named(tmp_path):
    mine, elsewhere = tmp_path / "mine", tmp_path / "elsewhere"
    for path in (mine / "cats" / "0.png", mine / "cats" / "1.png", elsewhere / "0.png"):
        write(path)
    (mine / "dogs").symlink_to(elsewhere)
    (mine / "cats" / "round").symlink_to(mine)  # adds nothing
    found = data.load(f"folder:{mine}")
    assert (len(found.train) + len(found.test), found.num_classes) == (3, 2)
    (mine / "cats" / "2.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(InputError, match=r"2\.png must be an image file, got a broken"):
        data.load(f"folder:{mine}")


def test_a_decompression_bomb_is_named(tmp_path, monkeypatch):
    write(tmp_path / "0.png")
    write(tmp_path / "1.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(InputError, match=r"0\.png is not an image that Pillow can read: .*bomb"):
        data.load(f"folder:{tmp_path}")
