"""Image files: pixel types, orientation, bounds and damage; expected pixels come from numpy or the rules of EXIF."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from nas.data import images
from nas.data.images import read_images
from nas.errors import DataError
from tests.data.sources import pixels

Image = pytest.importorskip("PIL.Image", reason="image files need pillow")

LEVELS = np.linspace(0, 65_535, 40 * 40).astype(np.uint16).reshape(40, 40)


def read(path: Path, channels: int | None = None, size: int | None = None) -> npt.NDArray[np.uint8]:
    return read_images([path], size=size, channels=channels)[0]


def tiff(
    path: Path, values: npt.NDArray[np.generic], *, bits: int, sample_format: int = 1, white_is_zero: bool = False
) -> Path:
    """An uncompressed grey TIFF of one strip, written by hand: https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf."""
    height, width = values.shape
    data = values.tobytes() if bits in (8, 16, 32) else pack_12_bits(values)
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, 0 if white_is_zero else 1), (273, 8), (277, 1)]
    tags += [(278, height), (279, len(data)), (339, sample_format)]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + b"\0\0\0\0")
    return path


def pack_12_bits(values: npt.NDArray[np.generic]) -> bytes:
    bits = "".join(f"{int(value):012b}" for value in values.ravel())
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


@pytest.mark.parametrize("channels", [None, 1, 3])
def test_grey_of_16_bits_is_scaled_by_the_range_of_the_type(tmp_path: Path, channels: int | None) -> None:
    expected = np.rint(LEVELS / 257).astype(np.uint8)
    for suffix in ("png", "tif"):
        Image.fromarray(LEVELS).save(tmp_path / f"x.{suffix}")
    (tmp_path / "x.pgm").write_bytes(b"P5 40 40 65535\n" + LEVELS.astype(">u2").tobytes())
    for name in ("x.png", "x.tif", "x.pgm"):
        image = read(tmp_path / name, channels)
        assert len(image) == (channels or 1)
        assert np.abs(image.astype(int) - expected).max() <= (name == "x.pgm"), name
        assert len(np.unique(image)) == 256


def test_tiff_of_12_bits_and_inverted_16_bits(tmp_path: Path) -> None:
    twelve = np.linspace(0, 4095, 1600).astype(np.uint16).reshape(40, 40)
    image = read(tiff(tmp_path / "a.tif", twelve, bits=12))
    assert np.array_equal(image[0], np.rint(twelve / 4095 * 255).astype(np.uint8))
    inverted = read(tiff(tmp_path / "b.tif", LEVELS, bits=16, white_is_zero=True))
    assert np.array_equal(inverted[0], 255 - np.rint(LEVELS / 257).astype(np.uint8))


@pytest.mark.parametrize(
    ("values", "bits", "sample_format", "kind"),
    [
        (np.linspace(0, 1, 1600, dtype=np.float32), 32, 3, "floating-point"),
        (np.arange(1600, dtype=np.int32), 32, 2, "signed or 32-bit"),
        (np.arange(1600, dtype=np.uint32), 32, 1, "signed or 32-bit"),
        (np.arange(1600, dtype=np.int16), 16, 2, "signed or 32-bit"),
        (np.arange(1600).astype(np.int8), 8, 2, "signed or 32-bit"),
    ],
)
def test_pixels_without_a_known_range_are_refused_by_name(
    tmp_path: Path, values: npt.NDArray[np.generic], bits: int, sample_format: int, kind: str
) -> None:
    path = tiff(tmp_path / "face.tif", values.reshape(40, 40), bits=bits, sample_format=sample_format)
    with pytest.raises(DataError, match=rf"face\.tif: pixels must be unsigned .* but are {kind}.*; save it as 8-bit"):
        read(path)


# The stored pixel that a viewer shows at the top left, and the one it shows to its right, by EXIF 2.3, table 6.
SHOWN = {1: "top left, right", 2: "top right, left", 3: "bottom right, left", 4: "bottom left, right",
         5: "top left, down", 6: "bottom left, up", 7: "bottom right, up", 8: "top right, down"}  # fmt: skip


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_orientation_is_applied_as_in_viewers(tmp_path: Path, orientation: int, suffix: str) -> None:
    stored = pixels(1, side=60)[0][:40]  # 40 rows of 60 columns
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(stored).convert("RGB" if suffix == "webp" else "L").save(path, exif=exif, lossless=True)
    image = read(path, 1)[0]
    assert image.shape == ((60, 40) if orientation > 4 else (40, 60))
    corner, direction = SHOWN[orientation].split(", ")
    row, column = 39 * ("bottom" in corner), 59 * ("right" in corner)
    step = {"right": (0, 1), "left": (0, -1), "down": (1, 0), "up": (-1, 0)}[direction]
    assert image[0, 0] == stored[row, column]
    assert image[0, 1] == stored[row + step[0], column + step[1]]


def test_orientation_of_16_bits_and_of_jpeg(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(LEVELS[:20]).save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(read(tmp_path / "x.png")[0], np.rot90(np.rint(LEVELS[:20] / 257), -1))
    halves = np.repeat(np.array([[0], [250]], np.uint8), 20, axis=0) * np.ones((1, 40), np.uint8)
    Image.fromarray(halves).save(tmp_path / "x.jpg", exif=exif)
    image = read(tmp_path / "x.jpg", size=40)[0]
    # The stored upper half is dark; turned by 90 degrees clockwise it is the right half.
    assert image[:, 25:].max() < 50 < 200 < image[:, :15].min()


def test_broken_metadata_does_not_matter(tmp_path: Path) -> None:
    face = pixels(1, side=40)[0]
    Image.fromarray(face).save(tmp_path / "x.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 30)
    assert np.array_equal(read(tmp_path / "x.png")[0], face)


def png(path: Path, width: int, height: int) -> Path:
    """A PNG of a few bytes that claims a size."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0" * 99))]
    content = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in [*chunks, (b"IEND", b"")]
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


@pytest.mark.parametrize(("width", "height"), [(8193, 8192), (10_000, 10_000), (60_000, 60_000), (2**31 - 1, 1)])
def test_too_many_pixels_are_refused_by_name(tmp_path: Path, width: int, height: int) -> None:
    with pytest.raises(DataError, match=r"bomb\.png: an image must have at most|bomb\.png is not a readable image"):
        read(png(tmp_path / "bomb.png", width, height))


def test_bound_of_pixels_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(pixels(1, side=40)[0]).save(tmp_path / "x.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 1600)
    read(tmp_path / "x.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 1599)
    with pytest.raises(DataError, match="at most 1,599 pixels, but has 40x40; reduce or remove it"):
        read(tmp_path / "x.png")


def test_bytes_of_all_images_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(pixels(1, side=40)[0]).save(tmp_path / "x.png")
    files = [tmp_path / "x.png"] * 3
    monkeypatch.setattr(images, "MAX_BYTES", 4799)
    with pytest.raises(DataError, match=r"at most 4,799 bytes, but 3 of 40x40 with 1 channels take 4,800; .* size=48"):
        read_images(files, size=None, channels=None)
    assert len(read_images(files, size=32, channels=None)) == 3


def test_damaged_images_are_named(tmp_path: Path) -> None:
    good = io.BytesIO()
    Image.fromarray(pixels(1, side=40)[0]).save(good, "PNG")
    rng = np.random.default_rng(0)
    contents = [b"", b"\0", good.getvalue()[:30], good.getvalue()[:700], b"P5 -1 4 255\n", b"BM" + bytes(60)]
    contents += [rng.bytes(100) for _ in range(5)] + [b"II*\0\x08\0\0\0" + rng.bytes(200) for _ in range(20)]
    for i, content in enumerate(contents):
        path = tmp_path / f"{i}.png"
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"{i}\.png is not a readable image: [^\n]*; replace or remove the file"):
            read(path)


def test_empty_and_foreign_files_are_told_apart(tmp_path: Path) -> None:
    for content, reason in ((b"", "it is empty"), (b"no picture", "its content is of no known format")):
        (tmp_path / "x.png").write_bytes(content)
        with pytest.raises(DataError, match=rf"x\.png is not a readable image: {reason}; replace or remove the file"):
            read(tmp_path / "x.png")


@pytest.mark.timeout(20)
def test_pipes_devices_and_absent_files_are_refused_unread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "broken.png").symlink_to(tmp_path / "absent")
    reasons = {"pipe": "is a pipe", "zero": "is a device", "broken": "does not exist", "absent": "does not exist"}
    for name, reason in reasons.items():
        with pytest.raises(DataError, match=rf"{name}\.png .*{reason}; restore the file or remove its entry"):
            read(tmp_path / f"{name}.png")


@pytest.mark.parametrize(("highest", "is_read"), [(255, False), (4095, False), (4096, True), (65_535, True)])
def test_sixteen_bits_that_hold_fewer_are_refused(tmp_path: Path, highest: int, is_read: bool) -> None:
    """Twelve bits in sixteen would become almost black, and no file says that it holds them."""
    pillow = pytest.importorskip("PIL.Image", reason="image files need pillow")
    levels = np.linspace(0, highest, 40 * 40).reshape(40, 40).round().astype(np.uint16)
    for name in ("a.png", "b.tif"):
        pillow.fromarray(levels).save(tmp_path / name)
        if is_read:
            assert read_images([tmp_path / name], size=None, channels=1).max() == round(highest / 257)
        else:
            with pytest.raises(DataError, match=f"the highest of all images is {highest:,} of 65,535"):
                read_images([tmp_path / name], size=None, channels=1)
    if not is_read:  # a dark image among others is one
        pillow.fromarray(np.full((40, 40), 65_535, np.uint16)).save(tmp_path / "c.png")
        assert len(read_images([tmp_path / "a.png", tmp_path / "c.png"], size=None, channels=1)) == 2


def test_boxes_cut_a_part_out_and_are_clipped_to_the_picture(tmp_path: Path) -> None:
    picture = pixels(1, side=60)[0][:40]  # 40 high, 60 wide
    path = tmp_path / "a.png"
    Image.fromarray(picture).save(path)
    boxes = {(5, 10, 25, 30): picture[10:30, 5:25], (-9, 30, 20, 99): picture[30:40, 0:20], "square": picture[:, 10:50]}
    for box, expected in boxes.items():
        got = read_images([path], size=None, channels=None, boxes=[box])
        np.testing.assert_array_equal(got[0, 0], expected)
    assert read_images([path, path], size=8, channels=3, boxes=[(0, 0, 8, 8), None]).shape == (2, 3, 8, 8)
    for outside in ((60, 0, 80, 20), (5, 5, 5, 9)):
        with pytest.raises(DataError, match=r"the face's box must lie in the picture of 60x40, but reaches from "):
            read_images([path], size=None, channels=None, boxes=[outside])


@pytest.mark.parametrize("size", [(247, 139), (139, 247), (1, 90), (48, 48)])
def test_the_width_is_resized_first_in_every_version_of_pillow(size: tuple[int, int], tmp_path: Path) -> None:
    """One axis at a time, which no version can do in another order."""
    levels = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    Image.fromarray(levels).save(tmp_path / "face.png")
    narrow = Image.fromarray(levels).resize((48, size[0]), Image.Resampling.BILINEAR)
    expected = np.asarray(narrow.resize((48, 48), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(read_images([tmp_path / "face.png"], size=48, channels=1)[0, 0], expected)
