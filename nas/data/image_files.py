"""Data sets of image files: their options, and how files become arrays of one size that are kept for the next time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from nas.data.base import FaceData
from nas.data.cache import load_cached
from nas.data.items import Item, build_face_data
from nas.data.options import DatasetOptions


class ImageFileOptions(DatasetOptions):
    """`size` (pixels; the files' own if left out), `channels` (1 or 3; as the first file), `val_share`."""

    size: int | None = Field(default=None, ge=32, le=112)
    channels: Literal["1", "3"] | None = None
    val_share: float = Field(default=0.1, gt=0, lt=1)


def load_image_files(
    items: Sequence[Item],
    options: ImageFileOptions,
    *,
    name: str,
    source: Path,
    cache_dir: Path,
    index_files: Sequence[Path] = (),
) -> FaceData:
    """The faces of files.

    Args:
        items: the files, and what is known of each.
        options: how they are read.
        name: of the data set.
        source: where the user says that it is.
        cache_dir: where arrays are kept; they are read anew when a file has changed.
        index_files: further files that the items were read from.

    Raises:
        DataError: there are no faces to learn from or to choose by, or an image is broken.
        MissingPackageError: pillow is not installed.
    """

    def read() -> FaceData:
        return build_face_data(
            items,
            name=name,
            source=source,
            size=options.size,
            channels=int(options.channels) if options.channels else None,
            val_share=options.val_share,
        )

    files = [*index_files, *(item.path for item in items)]
    return load_cached(cache_dir, read, dataset=name, settings=options.model_dump(), sources=files)
