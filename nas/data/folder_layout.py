"""Layout of class folders: which known data set, or which wrong level of a folder, a path looks like.

A path one level too high or too low still holds folders with images, whose names would become classes.
"""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.data.base import Dataset
from nas.data.classes import EXPRESSIONS, canonical_class_name
from nas.data.labelled_files import SPLIT_ALIASES
from nas.data.paths import printable_path
from nas.registry import load, names

_RAF_DB_FILE = re.compile(r"(train|test)_\d+(_aligned)?", re.IGNORECASE)
"""File names of RAF-DB's basic part, without suffix; their labels are in a text file."""
_LEVELS_UP = 4
_MAX_FOLDERS = 100
_CONTAINERS = frozenset(
    {"aligned", "original", "image", "images", "img", "imgs", "faces", "data", "dataset", "pictures"}
)
"""Names of folders that hold images of every class."""


def find_layout_fault(root: Path, files: Mapping[Path, Sequence[Path]], loose: Sequence[Path]) -> str | None:
    """Why a path holds no class folders, as one line with the remedy; None if it does.

    Args:
        root: the path that the user gave.
        files: images below each class folder, by folder.
        loose: images in the root or in a split folder, outside class folders.
    """
    used = {folder: images for folder, images in files.items() if images}
    names = {canonical_class_name(printable_path(folder.name)) for folder in used}
    advice = (
        _known_data_set(root, used, loose)
        or _too_high(root, used)
        or (_too_low(root, names, loose) if not names.intersection(EXPRESSIONS) else None)
    )
    where = printable_path(root)
    if not used:
        got = f"{len(loose)} images outside of any" if loose else "none"
        default = f"expected is {where}/<class>/*.png or .jpg"
        return f"{where} must hold images in class folders, but has {got}; {advice or default}"
    if advice is None and len(names) < 2:
        advice = f"expected is {where}/<class>/*.png with a folder for each class; check the path"
    if advice is None:
        return None
    return (
        f"{where} must hold at least two class folders, but has {_quoted(names)}; {advice}"
        if len(names) < 2
        else f"the folders in {where} must be classes, but are {_quoted(names)}; {advice}"
    )


def other_data_set(folder: Path) -> str | None:
    """The published set whose layout a folder has, or a folder above or directly below it, as words; None if none has.

    Every member of the family is asked, see `nas.data.base.Dataset.recognises`.
    """
    below = itertools.islice((entry for entry in folder.iterdir() if is_folder(entry)), _MAX_FOLDERS)
    for place in (folder, *itertools.islice(folder.absolute().parents, _LEVELS_UP), *sorted(below)):
        if (member := recognised_set(place)) is not None:
            return f"{member.title}: use the data set {member.name} with the path {printable_path(place)}"
    return None


def recognised_set(folder: Path) -> Any:
    """The published set whose layout a folder has, at its own level; None if none has."""
    members = (load("dataset", name) for name in names("dataset"))
    return next((member for member in members if is_recognised(member, folder)), None)


def is_recognised(member: Dataset, folder: Path) -> bool:
    """Whether a folder has the layout of a data set; False where it cannot be read."""
    try:
        return member.recognises(folder)
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Whether a path is a folder; False where that cannot be read, as of another user's processes."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _known_data_set(root: Path, used: Mapping[Path, Sequence[Path]], loose: Sequence[Path]) -> str | None:
    flat = not used and len(loose) > 0
    containers = all(folder.name.lower() in _CONTAINERS for folder in used)
    if containers and (other := other_data_set(root)):
        return f"it looks like {other}"
    sample = [path for images in (loose, *used.values()) for path in images[:20]]
    if containers and sample and all(_RAF_DB_FILE.fullmatch(path.stem) for path in sample):
        return (
            "it looks like RAF-DB, whose labels are in EmoLabel/list_patition_label.txt: unpack them beside Image and "
            "use the data set rafdb"
        )
    # The annotations are beside the folder of images, which is a class folder here, or the root itself.
    parents = {folder.parent for folder in used} | ({root.parent, root} if flat else set())
    if containers and any((parent / "annotations").is_dir() for parent in parents):
        return (
            "it looks like AffectNet, whose labels are in annotations/*_exp.npy: use the data set affectnet with the "
            "folder of train_set and val_set"
        )
    return None


def _too_high(root: Path, used: Mapping[Path, Sequence[Path]]) -> str | None:
    nested = {folder: _names_below(folder, images) for folder, images in used.items()}
    for folder, below in nested.items():
        where = printable_path(folder)
        is_class = canonical_class_name(printable_path(folder.name)) in EXPRESSIONS
        if any(name.lower() in SPLIT_ALIASES for name in below):
            if is_class:
                return f"{where} holds split folders: the layout is {printable_path(root)}/train/<class>"
            return f"{printable_path(root)} looks one level too high; give {where}"
        expressions = {canonical_class_name(name) for name in below}.intersection(EXPRESSIONS)
        if len(expressions) > 1 or (len(used) == 1 and len(below) > 1 and not is_class):
            above = printable_path(folder.parent)
            level = f"give {where}" if folder.parent == root else f"move the folders of {where} into {above}"
            return f"{above} looks one level too high; {level}"
    return None


def _too_low(root: Path, names: set[str], loose: Sequence[Path]) -> str | None:
    absolute = root.absolute()
    is_class = canonical_class_name(printable_path(absolute.name)) in EXPRESSIONS
    if is_class or (not names and loose):
        above = f"give the folder above it, {printable_path(absolute.parent)}"
        if is_class:
            return f"{printable_path(root)} is itself named as a class; {above}"
        return f"it looks like one class folder ({above}) or like images with labels in a table (use the data set csv)"
    return None


def _names_below(folder: Path, images: Iterable[Path]) -> set[str]:
    """Names of the folders directly in a folder that hold images."""
    parts = (path.relative_to(folder).parts for path in images)
    return {printable_path(first) for first, *rest in parts if rest}


def _quoted(names: set[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in sorted(names)[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown if len(names) > 1 else f"only {shown}"
