"""Class folders: `ROOT/<class>/*.png`, or `ROOT/{train,val,test}/<class>/*.png`; also .jpg, .bmp, .tif and others.

- Classes are the folders' names; names of expressions are canonicalised ("happiness" is "happy").
- Without a val folder, a tenth of the training images becomes the selection split, the same ones each time.
- Without a test folder, there is no test split.
- Hidden files and folders (".ipynb_checkpoints"), system files ("Thumbs.db") and files that are no images are left out
  at every level, and a note says how many.
- Folders that are no classes are refused: RAF-DB, AffectNet, and folders one level too high or too low.
"""

from collections.abc import Mapping
from pathlib import Path

from nas.data.base import Dataset, FaceData
from nas.data.folder_layout import find_layout_fault, recognised_set
from nas.data.image_files import ImageFileOptions, load_image_files
from nas.data.images import IMAGE_SUFFIXES
from nas.data.labelled_files import SPLIT_ALIASES, Item
from nas.data.options import parse_options
from nas.data.paths import FolderListing, decode_name, printable_path
from nas.errors import DataError


class FolderDataset(Dataset):
    """Options: `size` (pixels; the files' own if left out), `channels` (1 or 3; as the first file), `val_share`."""

    name = "folder"

    def load(self, path: Path | None, *, cache: Path, options: Mapping[str, str]) -> FaceData:
        """Read the data set; see `Dataset.load`."""
        checked = parse_options(ImageFileOptions, options, dataset=self.name)
        if path is None or not path.is_dir():
            got = None if path is None else printable_path(path)
            raise DataError(
                f"folder needs the path of a folder with one folder per class, but got {got}; give an existing folder"
            )
        listing = FolderListing(IMAGE_SUFFIXES)
        items, notes = _items(path, listing)
        return load_image_files(
            items, checked, name=self.name, source=path, cache_dir=cache, notes=(*notes, *listing.notes())
        )


def _items(root: Path, listing: FolderListing) -> tuple[list[Item], tuple[str, ...]]:
    """All images below class folders, sorted by path, and what was left out.

    Raises:
        DataError: there are none, the root holds both class folders and split folders, or its folders are no classes.
    """
    folders, loose = listing.folders(root), listing.files(root)
    splits = {folder: SPLIT_ALIASES[folder.name.lower()] for folder in folders if folder.name.lower() in SPLIT_ALIASES}
    if splits and len(splits) != len(folders):
        other = next(printable_path(folder.name) for folder in folders if folder not in splits)
        raise DataError(
            f"{printable_path(root)} must hold either split folders or class folders, but has split folders and "
            f"{other}; move {other} into a split folder"
        )
    classes: list[tuple[Path, str | None]] = [(folder, None) for folder in folders]
    if splits:
        classes = [(sub, split) for folder, split in splits.items() for sub in listing.folders(folder)]
        loose += [file for folder in splits for file in listing.files(folder)]
    files = {folder: listing.files_below(folder) for folder, _ in classes}
    if fault := find_layout_fault(root, files, loose):
        raise DataError(fault)
    items = [
        Item(path=path, location=printable_path(path), label=decode_name(folder), split=split)
        for folder, split in classes
        for path in files[folder]
    ]
    notes = [f"images outside class folders were left out: {len(loose)}"] if loose else []
    if (known := recognised_set(root)) is not None:
        notes.append(f"the folder looks like {known.title}: the data set {known.name} knows its labels and subjects")
    return items, tuple(notes)


DATASET = FolderDataset()
