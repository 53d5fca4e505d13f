"""Class folders: `ROOT/<class>/*.png`, or `ROOT/{train,val,test}/<class>/*.png`; also .jpg, .bmp, .tif and others.

Classes are the folders' names; names of expressions are brought to one spelling ("happiness" is "happy"). Without a
val folder a tenth of the training faces is chosen by, the same ones each time. Without a test folder there is no test
split.
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
        """Read the faces; see `Dataset.load`."""
        checked = parse_options(ImageFileOptions, options, dataset=self.name)
        if path is None or not path.is_dir():
            raise DataError(f"folder needs the path of a folder with one folder per class, but got {path}")
        return load_image_files(_items(path), checked, name=self.name, source=path, cache_dir=cache)


def _items(root: Path) -> list[Item]:
    """Every image below class folders, sorted by path.

    Raises:
        DataError: there are none, or class folders stand beside split folders.
    """
    tops = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    splits = {top: SPLIT_ALIASES[top.name.lower()] for top in tops if top.name.lower() in SPLIT_ALIASES}
    if splits and len(splits) != len(tops):
        odd = next(top.name for top in tops if top not in splits)
        raise DataError(f"{root} must hold either split folders or class folders, but {odd} stands beside both kinds")
    found = [
        item for top in tops for item in (_items_of_split(top, splits[top]) if splits else _items_of_class(top, None))
    ]
    if not found:
        raise DataError(f"{root} holds no images in class folders; expected is {root}/<class>/*.png or .jpg")
    return found


def _items_of_split(top: Path, split: str) -> list[Item]:
    return [item for folder in sorted(top.iterdir()) if folder.is_dir() for item in _items_of_class(folder, split)]


def _items_of_class(folder: Path, split: str | None) -> list[Item]:
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    return [Item(path=path, location=str(path), label=folder.name, split=split) for path in files]


DATASET = FolderDataset()
