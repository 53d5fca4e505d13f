"""Image files to uint8 arrays. Pillow is an optional extra, imported at use."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nas.data.base import Images
from nas.errors import DataError, MissingPackageError

if TYPE_CHECKING:
    from PIL import Image

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm"})


def read_images(
    files: Sequence[Path],
    *,
    size: int | None,
    channels: int | None,
    locations: Sequence[str] | None = None,
) -> Images:
    """[N, C, H, W] uint8 pixels of N >= 1 files.

    Args:
        files: the image files.
        size: height and width to resize to (bilinear, antialiased); None keeps the own size, which all must share.
        channels: 1 grey, 3 RGB, None takes what the first file has.
        where: how errors call each file; its path if None.

    Raises:
        DataError: a file is missing or broken, or has another size than the first while `size` is None.
        MissingPackageError: pillow is not installed.
    """
    called = locations or [str(path) for path in files]
    first = _read(files[0], called[0], size, channels)
    images = np.empty((len(files), *first.shape), np.uint8)
    for index, path in enumerate(files):
        image = _read(path, called[index], size, len(first))
        if image.shape != first.shape:
            (_, h, w), (_, h0, w0) = image.shape, first.shape
            raise DataError(
                f"{called[index]}: the image is {w}x{h}, but the first is {w0}x{h0}; size=48 brings all to one size"
            )
        images[index] = image
    return images


def _read(path: Path, location: str, size: int | None, channels: int | None) -> npt.NDArray[np.uint8]:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise MissingPackageError("image files need pillow: pip install 'fer-nas[images]'") from None
    try:
        with Image.open(path) as image:
            return _pixels(image, size, channels)
    except FileNotFoundError:
        raise DataError(f"{location}: {path} does not exist") from None
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{location}: {path.name} is not a readable image: {error}") from None


def _pixels(image: "Image.Image", size: int | None, channels: int | None) -> npt.NDArray[np.uint8]:
    from PIL import Image

    grey = channels == 1 or (channels is None and image.mode in ("1", "L", "LA"))
    plain = image.convert("L" if grey else "RGB")
    if size is not None and plain.size != (size, size):
        plain = plain.resize((size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(plain, np.uint8)
    return pixels[None] if grey else pixels.transpose(2, 0, 1)
