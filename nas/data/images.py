"""Image reader: files to uint8 arrays, as a viewer shows them. Pillow is an optional extra and imported at use.

- EXIF's orientation is applied.
- Grey levels of 16 bits, and of 12 in TIFF, are scaled by the type's range.
- Images of which none uses more than a sixteenth of that range are refused: they hold fewer bits than they say.
- Floating-point and 32-bit pixels are refused, because files do not say their range.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from nas.data.base import Images
from nas.data.paths import printable_path
from nas.errors import DataError, MissingPackageError, one_line
from nas.files import regular_file_fault

if TYPE_CHECKING:
    from PIL import Image

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".jfif"})
SQUARE: Literal["square"] = "square"
"""The largest square in the middle of a picture, as a box."""
Box = tuple[int, int, int, int] | Literal["square"]
"""Part of a picture: left, top, right and bottom edge in pixels, the last two outside of it, or `SQUARE`."""
MAX_PIXELS = 2**26
"""Bound of one image, 67 million pixels: more than a camera's, and below pillow's own of 89 million."""
MAX_BYTES = 2**33
"""Bound of all images as bytes, 8 GiB: AffectNet's 291,651 faces at 96x96 in colour."""


def read_images(
    files: Sequence[Path],
    *,
    size: int | None,
    channels: int | None,
    locations: Sequence[str] | None = None,
    boxes: Sequence[Box | None] | None = None,
) -> Images:
    """Pixels [N, C, H, W] uint8 of N >= 1 files.

    Args:
        files: the image files.
        size: height and width to resize to (bilinear, antialiased); None keeps the files' size, which all must share.
        channels: 1 for grey, 3 for RGB, None for the channels of the first file.
        locations: name of each file in error messages; its path if None.
        boxes: part of each picture to read; None for all of it.

    Raises:
        DataError: a file is missing, broken, too large or of an unsupported pixel type, all images of more than 8 bits
            use the lowest levels only, or `size` is None and a file
            has another size than the first; or all images together are too large.
        MissingPackageError: pillow is not installed.
    """
    locations = locations or [printable_path(path) for path in files]
    boxes = boxes or [None] * len(files)
    levels = _DeepLevels()
    first = _read(files[0], locations[0], size, channels, levels, boxes[0])
    if (total := len(files) * first.size) > MAX_BYTES:
        c, h, w = first.shape
        raise DataError(
            f"{locations[0]}: all images must take at most {MAX_BYTES:,} bytes, but {len(files):,} of {w}x{h} with {c} "
            f"channels take {total:,}; resize them with the option size=48"
        )
    images = np.empty((len(files), *first.shape), np.uint8)
    for index, path in enumerate(files):
        image = _read(path, locations[index], size, len(first), levels, boxes[index])
        if image.shape != first.shape:
            (_, h, w), (_, h0, w0) = image.shape, first.shape
            raise DataError(
                f"{locations[index]}: all images must have one size, but this one is {w}x{h} and the first is "
                f"{w0}x{h0}; resize them with the option size=48"
            )
        images[index] = image
    if levels.are_too_low:
        raise DataError(
            f"{locations[0]}: grey levels of more than 8 bits must use their range, but the highest of all images is "
            f"{levels.highest:,} of {levels.limit:,}, which would be almost black; save them as 8-bit images"
        )
    return images


@dataclass
class _DeepLevels:
    """Grey levels of the images of more than 8 bits: the highest that occurs, and the highest that could.

    Scanners and cameras store 8, 10 or 12 bits in 16, and no file says so.
    """

    highest: int = 0
    limit: int = 0

    @property
    def are_too_low(self) -> bool:
        """Whether all are in the lowest sixteenth of the range, as 12 bits in 16 are."""
        return 16 * self.highest < self.limit


def _read(
    path: Path, location: str, size: int | None, channels: int | None, levels: _DeepLevels, box: Box | None
) -> npt.NDArray[np.uint8]:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise MissingPackageError("image files need pillow: pip install 'fer-nas[images]'") from None
    name = printable_path(path.name)
    if (reason := regular_file_fault(path)) is not None:
        raise DataError(f"{location}: image {printable_path(path)} {reason}; restore the file or remove its entry")
    try:
        with warnings.catch_warnings():
            # Pillow warns of metadata that it skips, and of sizes that `_pixels` refuses.
            warnings.simplefilter("ignore")
            # Given a path, pillow maps TIFF into memory with height and width exchanged where they are to be turned.
            with path.open("rb") as file, Image.open(file) as image:
                return _pixels(image, size, channels, levels, box)
    except MemoryError:
        raise
    except _UnsupportedPixelsError as error:
        raise DataError(f"{location}: {name}: {error}") from None
    except UnidentifiedImageError:
        reason = "its content is of no known format" if path.stat().st_size else "it is empty"
    except Exception as error:  # pillow's readers raise errors of any kind on broken files
        reason = one_line(error)
    raise DataError(f"{location}: {name} is not a readable image: {reason}; replace or remove the file")


class _UnsupportedPixelsError(Exception):
    """An image is readable, but its pixels cannot become bytes without a guess, or are too many."""


def _pixels(
    image: "Image.Image", size: int | None, channels: int | None, levels: _DeepLevels, box: Box | None
) -> npt.NDArray[np.uint8]:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _UnsupportedPixelsError(
            f"an image must have at most {MAX_PIXELS:,} pixels, but has {width}x{height}; reduce or remove it"
        )
    depth = _grey_levels(image)
    image.load()
    # Orientation is read after loading, because PNG files may have it behind the pixels. Pillow turns TIFF itself.
    turn = _turn(image)
    if depth is not None:
        image = _to_bytes(image, *depth, levels)
    if turn is not None:
        image = image.transpose(turn)
    grey = channels == 1 or (channels is None and image.mode in ("1", "L", "LA", "La"))
    part = image if box is None else image.crop(_corners(box, image.size))
    return fit_picture(part, size=None if size is None else (size, size), grey=grey)


def fit_picture(image: "Image.Image", *, size: tuple[int, int] | None, grey: bool) -> npt.NDArray[np.uint8]:
    """Pixels [C, H, W] of a picture: to grey or RGB first, then resized (bilinear, antialiased), the width first.

    Pillow rounds to bytes after each of the two passes. From version 13 on it begins with the height of tall pictures
    (python-pillow/Pillow#9549), which changes one byte in seven by one. Two calls keep the order of all versions the
    same, and that of exported files that take any size (`nas.onnx_export.pillow_resize`).

    Args:
        image: of 8 bits.
        size: (H, W) in pixels; None keeps the picture's own.
        grey: whether C is 1, of the luma of ITU-R BT.601; else 3.
    """
    from PIL import Image

    plain = image.convert("L" if grey else "RGB")
    if size is not None:
        height, width = size
        for step in ((width, plain.height), (width, height)):
            if plain.size != step:
                plain = plain.resize(step, Image.Resampling.BILINEAR)
    pixels = np.asarray(plain, np.uint8)
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


def _corners(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a box within a picture of this width and height.

    Raises:
        _UnsupportedPixelsError: nothing of the box is in the picture.
    """
    width, height = size
    if isinstance(box, str):
        side = min(size)
        left, top = (width - side) // 2, (height - side) // 2
        return left, top, left + side, top + side
    left, top, right, bottom = (int(edge) for edge in box)
    inside = max(0, left), max(0, top), min(width, right), min(height, bottom)
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        raise _UnsupportedPixelsError(
            f"the face's box must lie in the picture of {width}x{height}, but reaches from ({left}, {top}) to "
            f"({right}, {bottom}); correct the box or remove its entry"
        )
    return inside


def _grey_levels(image: "Image.Image") -> tuple[int, bool] | None:
    """The highest level of a grey image of more than 8 bits, and whether it means black; None for 8 bits and less.

    Pillow's own conversion to 8 bits clips at 255: of 16-bit images it leaves white.

    Raises:
        _UnsupportedPixelsError: the pixels are floating-point or 32-bit numbers, whose range the file does not say.
    """
    tags = getattr(image, "tag_v2", {})  # of TIFF: 258 BitsPerSample, 262 PhotometricInterpretation (0: inverted)
    if image.mode.startswith("I;16"):
        bits = tags.get(258, (16,))
        return 2 ** (bits[0] if isinstance(bits, tuple) else int(bits)) - 1, tags.get(262, 1) == 0
    if image.mode == "I" and image.format in ("PNG", "PPM"):  # 16 bits there; pillow scales PPM to 65,535
        return 65_535, False
    sample_format = tags.get(339, 1)  # 2: signed, which pillow reads as unsigned where they have 8 bits
    if image.mode in ("I", "F") or 2 in (sample_format if isinstance(sample_format, tuple) else (sample_format,)):
        kind = "floating-point" if image.mode == "F" else "signed or 32-bit"
        raise _UnsupportedPixelsError(
            f"pixels must be unsigned numbers of 8 or 16 bits, but are {kind} (pillow's mode {image.mode}), whose "
            "range the file does not say; save it as 8-bit or 16-bit PNG"
        )
    return None


def _to_bytes(image: "Image.Image", highest: int, inverted: bool, seen: _DeepLevels) -> "Image.Image":
    from PIL import Image

    levels = np.asarray(image).astype(np.int64).clip(0, highest)
    seen.highest, seen.limit = max(seen.highest, int(levels.max(initial=0))), max(seen.limit, highest)
    if inverted:
        levels = highest - levels
    return Image.fromarray(((levels * 255 + highest // 2) // highest).astype(np.uint8))


_ORIENTATION_TAG = 0x0112
"""Tag of EXIF and TIFF: how a viewer turns the stored pixels, 1 (not at all) to 8."""


def _orientation(image: "Image.Image") -> int:
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # metadata that pillow cannot read says nothing, as in every viewer
        return 1
    return value if isinstance(value, int) else 1


def _turn(image: "Image.Image") -> "Image.Transpose | None":
    from PIL import Image

    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    return turns.get(_orientation(image))
