"""SFEW 2.0 and AFEW (Dhall et al., "Static facial expression analysis in tough conditions", ICCV workshops 2011;
"Collecting large, richly annotated facial-expression databases from movies", IEEE MultiMedia 2012): faces in films.

Layouts, each with the path of the folder that holds Train and Val:
- SFEW: `Train/Angry/Airheads_000519240_00000005.png`, also in `Train/Train_Aligned_Faces/Angry` or
  `Train_Aligned_Faces/Angry`, which are preferred; `Val` likewise;
- frames of AFEW: `Train_AFEW/AlignedFaces_LBPTOP_Points/Faces/000046280/*.jpg`, whose classes are the folders of the
  videos, `Train_AFEW/Angry/000046280.avi`; or frames in `.../Angry/000046280/`; `Val_AFEW` likewise.

Labels of the test split were never published, so that the figure of Val is reported: it is the test split here, and the
selection split is carved out of Train. Persons are not named; the film (SFEW) or the video (AFEW) stands for the
person. Figures on AFEW are of single frames, not of videos.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydantic import Field

from nas.data.classes import canonical_class_name
from nas.data.image_files import ImageFileOptions
from nas.data.images import IMAGE_SUFFIXES, SQUARE
from nas.data.labelled_files import Item, PublishedForm
from nas.data.paths import FolderListing, printable_path
from nas.data.published_set import PublishedDataset, Reading, find_folder, first_entries
from nas.errors import DataError

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
_STILL = re.compile(r"(?P<film>.+?)_\d{6,9}_\d{8}")
"""Stem of a still's name: film, time, frame."""
_VIDEOS = frozenset({".avi", ".mp4"})
_PARTS = {
    "train": ("Train_AFEW", "Train", "."),
    "test": ("Val_AFEW", "Val", "."),
}
_FACES = {
    "train": ("Train_Aligned_Faces", "AlignedFaces_LBPTOP_Points/Faces", "AlignedFaces_LBPTOP_Points"),
    "test": (
        "Val_Aligned_Faces", "Val_Aligned_Faces_new", "AlignedFaces_LBPTOP_Points_Val/Faces",
        "AlignedFaces_LBPTOP_Points_Val",
    ),
}  # fmt: skip


class _Options(ImageFileOptions):
    frames: int = Field(default=4, ge=1)


class SfewDataset(PublishedDataset):
    """Options: `frames` of each video of AFEW, evenly spread (4), and those of `folder`."""

    name = "sfew"
    title = "SFEW or AFEW"
    layout = "Train and Val with aligned faces or stills of films in class folders"
    options = _Options

    def recognises(self, folder: Path) -> bool:
        """See `PublishedDataset.recognises`."""
        return all(_faces_folder(folder, split) is not None for split in _PARTS)

    def read(self, root: Path, options: _Options) -> Reading:
        """See `PublishedDataset.read`."""
        listing = FolderListing(IMAGE_SUFFIXES)
        _check_same_kind(root)
        items = [item for split in _PARTS for item in _split_items(root, split, listing, options)]
        units = "films" if any(_STILL.fullmatch(item.path.stem) for item in items[:1]) else "videos"
        return Reading(
            items=items,
            notes=(f"persons are not named: {units} stand for subjects", *listing.notes()),
            form=PublishedForm(classes=CLASSES, test_name="Val, whose figure is reported"),
        )


def _faces_folder(root: Path, split: str) -> Path | None:
    """The folder of a split that holds aligned faces, else the one with class folders of stills."""
    for part in (root / name for name in _PARTS[split]):
        if (faces := find_folder(part, *_FACES[split])) is not None:
            return faces
        if part != root and part.is_dir() and _holds_stills(part):
            return part
    return None


def _check_same_kind(root: Path) -> None:
    """Refuse aligned faces in one split and whole stills in the other.

    Raises:
        DataError: they are of two kinds.
    """
    parts = {name for names in _PARTS.values() for name in names}
    folders = {split: _faces_folder(root, split) for split in _PARTS}
    aligned = {split for split, folder in folders.items() if folder and folder.name not in parts}
    if len(aligned) == 1:
        (split,) = aligned
        raise DataError(
            f"{printable_path(root)} must hold aligned faces in both Train and Val or in neither, but has them only in "
            f"{printable_path(folders[split] or root)}; unpack those of the other one, or move these away"
        )


def _holds_stills(folder: Path) -> bool:
    classes = [entry for entry in first_entries(folder) if canonical_class_name(printable_path(entry.name)) in CLASSES]
    files = [file for entry in classes for file in first_entries(entry, 5)]
    return any(_STILL.fullmatch(file.stem) and file.suffix.lower() in IMAGE_SUFFIXES for file in files)


def _split_items(root: Path, split: str, listing: FolderListing, options: _Options) -> Iterator[Item]:
    faces = _faces_folder(root, split)
    for folder in listing.folders(faces) if faces else ():
        label = canonical_class_name(printable_path(folder.name))
        if label in CLASSES:
            for path in listing.files(folder):
                yield _still(path, label, split)
            for video in listing.folders(folder):
                yield from _frames(video, label, split, listing, options)
        elif faces:
            yield from _frames(folder, _video_class(folder, faces, root), split, listing, options)


def _still(path: Path, label: str, split: str) -> Item:
    match = _STILL.fullmatch(path.stem)
    if match is None:
        raise DataError(
            f"{printable_path(path)} must be named as Airheads_000519240_00000005.png, by film, time and frame, but is "
            "not; use the data set folder, which needs no such names"
        )
    return Item(
        path=path, location=printable_path(path), label=label, split=split, subject=match["film"].lower(), box=SQUARE
    )


def _frames(video: Path, label: str, split: str, listing: FolderListing, options: _Options) -> Iterator[Item]:
    files = listing.files(video)
    rows = np.unique(np.linspace(0, len(files) - 1, min(options.frames, len(files))).round().astype(int))
    for path in (files[row] for row in rows):
        subject = f"{split} {printable_path(video.name)}"
        yield Item(path=path, location=printable_path(path), label=label, split=split, subject=subject, box=SQUARE)


def _video_class(video: Path, faces: Path, root: Path) -> str:
    """The class of a video: the folder that holds its file, beside the aligned faces."""
    above = [folder for folder in faces.parents if folder == root or root in folder.parents]
    for place in above:
        for folder in (entry for entry in first_entries(place) if entry.is_dir()):
            label = canonical_class_name(printable_path(folder.name))
            if label in CLASSES and any((folder / f"{video.name}{suffix}").exists() for suffix in _VIDEOS):
                return label
    raise DataError(
        f"{printable_path(video)} must be the frames of a video {printable_path(video.name)}.avi in a class folder "
        "beside them, but there is none; unpack the videos too, whose folders are the labels"
    )


DATASET = SfewDataset()
