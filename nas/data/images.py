"""Image reader: files to uint8 arrays. Pillow is an optional extra and imported at use."""

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
    """Pixels [N, C, H, W] uint8 of N >= 1 files.

    Args:
        files: the image files.
        size: height and width to resize to (bilinear, antialiased); None keeps the files' size, which all must share.
        channels: 1 for grey, 3 for RGB, None for the channels of the first file.
        locations: name of each file in error messages; its path if None.

    Raises:
        DataError: a file is missing or broken, or `size` is None and a file has another size than the first.
        MissingPackageError: pillow is not installed.
    """
    locations = locations or [str(path) for path in files]
    first = _read(files[0], locations[0], size, channels)
    images = np.empty((len(files), *first.shape), np.uint8)
    for index, path in enumerate(files):
        image = _read(path, locations[index], size, len(first))
        if image.shape != first.shape:
            (_, h, w), (_, h0, w0) = image.shape, first.shape
            raise DataError(
                f"{locations[index]}: all images must have one size, but this one is {w}x{h} and the first is "
                f"{w0}x{h0}; resize them with the option size=48"
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
        raise DataError(f"{location}: image {path} does not exist; restore the file or remove its entry") from None
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise DataError(
            f"{location}: {path.name} is not a readable image: {error}; replace or remove the file"
        ) from None


def _pixels(image: "Image.Image", size: int | None, channels: int | None) -> npt.NDArray[np.uint8]:
    from PIL import Image

    grey = channels == 1 or (channels is None and image.mode in ("1", "L", "LA"))
    plain = image.convert("L" if grey else "RGB")
    if size is not None and plain.size != (size, size):
        plain = plain.resize((size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(plain, np.uint8)
    return pixels[None] if grey else pixels.transpose(2, 0, 1)
