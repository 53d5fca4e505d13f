"""Data sets of image files: their common options, and the cached conversion of the files to arrays of one size."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from nas.data.base import FaceData
from nas.data.cache import load_cached
from nas.data.labelled_files import NOTHING_PUBLISHED, Item, PublishedForm, build_face_data
from nas.data.options import DatasetOptions
from nas.data.paths import printable_path
from nas.errors import DataError
from nas.files import regular_file_fault


class ImageFileOptions(DatasetOptions):
    """Options of data sets of image files.

    Attributes:
        size: side of the images in pixels; the files' own size if left out.
        channels: 1 (grey) or 3 (RGB); those of the first file if left out.
        val_share: share of the training images that becomes the selection split where the source has none.
    """

    size: int | None = Field(default=None, ge=32, le=256)
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
    notes: tuple[str, ...] = (),
    form: PublishedForm = NOTHING_PUBLISHED,
) -> FaceData:
    """A data set of image files.

    Args:
        items: the files with their labels and other attributes.
        options: how the files are read.
        name: of the data set.
        source: path that the user gave.
        cache_dir: folder of the cache; files are read again when one of them has changed.
        index_files: further files that the items depend on.
        notes: further facts of the source.
        form: what is known of a published set.

    Raises:
        DataError: there are no images for training or for selection, fewer than two classes have training images, or
            an image is missing or broken.
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
            notes=notes,
            form=form,
        )

    for item in items:
        if (fault := regular_file_fault(item.path)) is not None:
            raise DataError(
                f"{item.location}: image {printable_path(item.path)} {fault}; restore the file or remove its entry"
            )
    return load_cached(
        cache_dir,
        read,
        dataset=name,
        settings=options.model_dump(),
        root=source,
        sources=[*index_files, *(item.path for item in items)],
        details=[*items, *notes, *([] if form == NOTHING_PUBLISHED else [form])],
    )
