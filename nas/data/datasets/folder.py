"""Class folders: `ROOT/<class>/*.png`, or `ROOT/{train,val,test}/<class>/*.png`; also .jpg, .bmp, .tif and others.

- Classes are the folders' names; names of expressions are canonicalised ("happiness" is "happy").
- Without a val folder, a tenth of the training images becomes the selection split, the same ones each time.
- Without a test folder, there is no test split.
"""

from collections.abc import Mapping
from pathlib import Path

from nas.data.base import Dataset, FaceData
from nas.data.image_files import ImageFileOptions, load_image_files
from nas.data.images import IMAGE_SUFFIXES
from nas.data.items import SPLIT_ALIASES, Item
from nas.data.options import parse_options
from nas.errors import DataError


class FolderDataset(Dataset):
    """Options: `size` (pixels; the files' own if left out), `channels` (1 or 3; as the first file), `val_share`."""

    name = "folder"

    def load(self, path: Path | None, *, cache: Path, options: Mapping[str, str]) -> FaceData:
        """Read the data set; see `Dataset.load`."""
        checked = parse_options(ImageFileOptions, options, dataset=self.name)
        if path is None or not path.is_dir():
            raise DataError(
                f"folder needs the path of a folder with one folder per class, but got {path}; give an existing folder"
            )
        return load_image_files(_items(path), checked, name=self.name, source=path, cache_dir=cache)


def _items(root: Path) -> list[Item]:
    """All images below class folders, sorted by path.

    Raises:
        DataError: there are none, or the root holds both class folders and split folders.
    """
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    splits = {folder: SPLIT_ALIASES[folder.name.lower()] for folder in folders if folder.name.lower() in SPLIT_ALIASES}
    if splits and len(splits) != len(folders):
        other = next(folder.name for folder in folders if folder not in splits)
        raise DataError(
            f"{root} must hold either split folders or class folders, but has split folders and {other}; move {other} "
            "into a split folder"
        )
    items = [
        item
        for folder in folders
        for item in (_items_of_split(folder, splits[folder]) if splits else _items_of_class(folder, None))
    ]
    if not items:
        raise DataError(
            f"{root} must hold images in class folders, but has none; expected is {root}/<class>/*.png or .jpg"
        )
    return items


def _items_of_split(folder: Path, split: str) -> list[Item]:
    return [item for sub in sorted(folder.iterdir()) if sub.is_dir() for item in _items_of_class(sub, split)]


def _items_of_class(folder: Path, split: str | None) -> list[Item]:
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    return [Item(path=path, location=str(path), label=folder.name, split=split) for path in files]


DATASET = FolderDataset()
