"""Published sets of image files: a folder whose layout is known, with the labels, splits and subjects of the set.

A member names its layout and reads it into items. What all of them share is here: the options, the test of a folder,
and one sentence for a folder that is another level, another set, or none.
"""

import itertools
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from nas.data.base import Dataset, FaceData
from nas.data.folder_layout import is_folder, is_recognised, other_data_set
from nas.data.image_files import ImageFileOptions, load_image_files
from nas.data.labelled_files import NOTHING_PUBLISHED, Item, PublishedForm
from nas.data.options import parse_options
from nas.data.paths import is_hidden, printable_path
from nas.errors import DataError

LEVELS_UP, LEVELS_DOWN = 5, 3
"""How far above and below a wrong folder the right one is looked for."""
MAX_FOLDERS = 200
"""Folders of one level that are looked at."""
DEFAULT_SIZE = 96
"""Side in pixels that pictures of many sizes, or of cameras' sizes, are resized to by default."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a member found in its folder.

    Attributes:
        items: the faces.
        index_files: further files that the items depend on, such as tables of labels.
        notes: facts that a reader of the figures needs.
        form: classes and splits of the set.
    """

    items: Sequence[Item]
    index_files: Sequence[Path] = ()
    notes: tuple[str, ...] = ()
    form: PublishedForm = field(default=NOTHING_PUBLISHED)


class PublishedDataset(Dataset):
    """Reader of one published set. Stateless.

    Life: `load` checks the options, then that the folder is one of this set (`recognises`), then calls `read`. The
    pictures are read, split and cached by `nas.data.image_files`.

    Attributes:
        title: the set's own name, for messages.
        layout: what its folder holds, for messages.
        options: its options; those of all image files by default.
        default_size: side of the images in pixels where the option `size` is left out; None keeps the files' own.
    """

    title: str
    layout: str
    options: type[ImageFileOptions] = ImageFileOptions
    default_size: ClassVar[int | None] = DEFAULT_SIZE

    def load(self, path: Path | None, *, cache: Path, options: Mapping[str, str]) -> FaceData:
        """Read the data set; see `Dataset.load`."""
        checked = parse_options(self.options, options, dataset=self.name)
        if checked.size is None:
            checked = checked.model_copy(update={"size": self.default_size})
        root = self._require_root(path)
        reading = self.read(root, checked)
        if not reading.items:
            raise DataError(
                f"{printable_path(root)} must hold {self.layout}, but has no labelled faces; unpack it again"
            )
        return load_image_files(
            reading.items, checked, name=self.name, source=root, cache_dir=cache, index_files=reading.index_files,
            notes=reading.notes, form=reading.form,
        )  # fmt: skip

    @abstractmethod
    def recognises(self, folder: Path) -> bool:
        """Whether a folder has the layout of this set, at its own level. It looks at few entries only."""

    @abstractmethod
    def read(self, root: Path, options: Any) -> Reading:
        """The labelled faces of a folder that is recognised.

        Raises:
            DataError: a table, a file's name or a label is broken; the message gives file, row and reason.
        """

    def _require_root(self, path: Path | None) -> Path:
        if path is None:
            raise DataError(f"{self.name} needs the path of a folder with {self.layout}, but got none; give its path")
        shown = printable_path(path)
        if not path.is_dir():
            raise DataError(
                f"{self.name} needs the path of a folder with {self.layout}, but {shown} is no folder; check the path"
            )
        if self.recognises(path):
            return path
        below = next((folder for folder in _folders_below(path) if is_recognised(self, folder)), None)
        if below is not None:
            raise DataError(
                f"{shown} is {_levels(path, below)} too high for {self.title}; give {printable_path(below)}"
            )
        parents = itertools.islice(path.absolute().parents, LEVELS_UP)
        if (above := next((folder for folder in parents if is_recognised(self, folder)), None)) is not None:
            levels = _levels(above, path.absolute())
            raise DataError(f"{shown} is {levels} too low for {self.title}; give {printable_path(above)}")
        other = other_data_set(path)
        advice = f"it looks like {other}" if other else "check the path"
        raise DataError(f"{shown} must hold {self.layout}, as {self.title} does, but does not; {advice}")


def _levels(above: Path, below: Path) -> str:
    count = len(below.relative_to(above).parts)
    return "one level" if count == 1 else f"{count} levels"


def first_entries(folder: Path, count: int = MAX_FOLDERS) -> list[Path]:
    """The first visible entries of a folder, in no order; empty where it cannot be listed. Folders may hold 300,000."""
    try:
        return list(itertools.islice((entry for entry in folder.iterdir() if not is_hidden(entry.name)), count))
    except OSError:
        return []


def find_folder(root: Path, *names: str) -> Path | None:
    """The first of these folders, as relative paths, that a root holds; None if it holds none."""
    return next((root / name for name in names if (root / name).is_dir()), None)


def find_file(root: Path, *names: str) -> Path | None:
    """The first of these files, as relative paths, that a root holds; None if it holds none."""
    return next((root / name for name in names if (root / name).is_file()), None)


def _folders_below(root: Path) -> Iterator[Path]:
    """Folders below a root, level by level."""
    level = [root]
    for _ in range(LEVELS_DOWN):
        level = [entry for folder in level for entry in first_entries(folder) if is_folder(entry)]
        level = sorted(entry for entry in level if not entry.is_symlink())[:MAX_FOLDERS]
        yield from level
