"""Face crops: a folder of photographs becomes a data set of face crops, whose class folders are kept.

OUT/<class>/PHOTO.1.png    the largest face of PHOTO; .2.png and so on for its other faces
OUT/crops.jsonl            one line a photograph that is done: crops, or why there are none
OUT/crops.json             how the crops were made
OUT/left_out.csv           photographs without a crop, each with the reason

The same call resumes: photographs of crops.jsonl are not read again.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from nas.data.images import IMAGE_SUFFIXES
from nas.data.paths import FolderListing, printable_path
from nas.errors import ConfigError
from nas.files import append_line, read_json, read_text, whole_file, write_atomic
from nas.vision.base import DetectFunction, Pixels
from nas.vision.frames import ReadFault
from nas.vision.framing import Framing, crop, frame_box
from nas.vision.sources import read_picture

JOURNAL, SETTINGS, LEFT_OUT = "crops.jsonl", "crops.json", "left_out.csv"
DEFAULT_SIZE = 96
MIN_SIZE, MAX_SIZE = 32, 1024
LOG_EVERY = 100
"""Photographs between two lines about the progress."""

Faces = Literal["largest", "all"]


@dataclass(frozen=True, kw_only=True)
class CropSettings:
    """How crops are made; a folder holds crops of one kind.

    Attributes:
        detector: name of the face detector.
        framing: data set whose framing is taken.
        size: side of the crops in pixels.
        grey: whether they are grey; RGB otherwise.
        faces: the largest face of each photograph, or all of them.
        min_face: side in pixels of the smallest face to look for.
    """

    detector: str
    framing: str
    size: int = DEFAULT_SIZE
    grey: bool = False
    faces: Faces = "largest"
    min_face: int


@dataclass(kw_only=True)
class CropSummary:
    """What became of the photographs, of earlier calls too.

    Attributes:
        photos: number of photographs.
        crops: crops in the folder.
        classes: crops by the photographs' folder.
        left_out: photographs without a crop, and the reason of each.
        resumed: photographs that an earlier call had done.
        changed: of these, the ones that have changed since.
        notes: what was not looked at, one sentence each.
    """

    photos: int = 0
    crops: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    resumed: int = 0
    changed: list[str] = field(default_factory=list)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Done:
    """A photograph that is done: a line of the journal."""

    photo: str
    bytes: int
    mtime_ns: int
    crops: tuple[str, ...] = ()
    reason: str = ""


def crop_faces(
    photos: Path, out: Path, settings: CropSettings, *, detect: DetectFunction, framing: Framing, force: bool = False,
    log: Callable[[str], None] = lambda _: None,
) -> CropSummary:  # fmt: skip
    """Write the face crops of all photographs below a folder.

    Args:
        photos: folder of photographs; its folders are kept.
        out: folder of the crops; new, empty, or of an earlier call with the same settings.
        settings: how crops are made.
        detect: finds faces.
        framing: how crops lie around them.
        force: begin anew; the crops of an earlier call are removed, other files stay.
        log: called with a line about each photograph without a crop, and about the progress.

    Raises:
        ConfigError: there are no photographs, `out` is among them, holds other files, or crops of other settings.
        OSError: `out` cannot be written.
    """
    _check(photos, out, settings)
    listing = FolderListing(IMAGE_SUFFIXES)
    files = listing.files_below(photos)
    if not files:
        raise ConfigError(f"{printable_path(photos)} must hold photographs, but has none; give another folder")
    done = _begin(out, settings, force=force)
    summary = CropSummary(photos=len(files), notes=listing.notes())
    for index, path in enumerate(files):
        name = printable_path(path.relative_to(photos))
        size, mtime_ns = _stamp(path)
        old = done.get(name)
        if old is None:
            crops, reason = _crop_photo(path, out / path.relative_to(photos), out, settings, detect, framing)
            entry = _Done(photo=name, bytes=size, mtime_ns=mtime_ns, crops=crops, reason=reason)
            append_line(out / JOURNAL, json.dumps(asdict(entry)))
            if entry.reason:
                log(f"{name}: {entry.reason}")
        else:
            entry = old
            summary.resumed += 1
            if (old.bytes, old.mtime_ns) != (size, mtime_ns):
                summary.changed.append(name)
        _count(summary, entry)
        if (index + 1) % LOG_EVERY == 0:
            log(f"{index + 1:,} of {len(files):,} photographs, {summary.crops:,} crops")
    write_atomic(out / LEFT_OUT, _left_out_table(summary))
    return summary


def _check(photos: Path, out: Path, settings: CropSettings) -> None:
    if not photos.is_dir():
        raise ConfigError(
            f"{printable_path(photos)} must be a folder of photographs, but is none; give an existing folder"
        )
    if out.resolve().is_relative_to(photos.resolve()):
        raise ConfigError(
            f"--out must be outside of the photographs, but {printable_path(out)} is in {printable_path(photos)}; its "
            "crops would be read as photographs"
        )
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out must be a folder, but {printable_path(out)} is a file; give another path")
    if not MIN_SIZE <= settings.size <= MAX_SIZE:
        raise ConfigError(f"--size must be {MIN_SIZE} to {MAX_SIZE} pixels, but got {settings.size}")


def _begin(out: Path, settings: CropSettings, *, force: bool) -> dict[str, _Done]:
    """Make the folder ready, and return the photographs that are done.

    Raises:
        ConfigError: the folder holds other files or crops of other settings, and `force` is not given.
    """
    out.mkdir(parents=True, exist_ok=True)
    if force:
        _remove_crops(out)
    elif (out / SETTINGS).is_file():
        if (found := read_json(out / SETTINGS)) != asdict(settings):
            differing = [k for k, v in asdict(settings).items() if not isinstance(found, dict) or found.get(k) != v]
            raise ConfigError(
                f"{printable_path(out)} holds crops that were made with other settings ({', '.join(differing)}); give "
                "another folder, or --force to write over them"
            )
    elif any(out.iterdir()):
        raise ConfigError(
            f"{printable_path(out)} must be a new or empty folder, but holds other files; give another folder, or "
            "--force to write among them"
        )
    write_atomic(out / SETTINGS, json.dumps(asdict(settings), indent=1) + "\n")
    return {entry.photo: entry for entry in _read_journal(out / JOURNAL)}


def _remove_crops(out: Path) -> None:
    """Remove what an earlier call has written: else its crops would stay in the data set beside the new ones."""
    for entry in _read_journal(out / JOURNAL):
        for name in entry.crops:
            file = out / name
            if file.suffix == ".png" and file.resolve().is_relative_to(out.resolve()):  # a journal can be edited
                file.unlink(missing_ok=True)
    (out / JOURNAL).unlink(missing_ok=True)


def _read_journal(path: Path) -> Iterator[_Done]:
    """Lines of the journal; a torn last line of a killed call is passed over, and its photograph cropped again."""
    if not path.is_file():
        return
    for line in read_text(path).splitlines():
        try:
            fields = json.loads(line)
            yield _Done(**(fields | {"crops": tuple(fields["crops"])}))
        except (ValueError, TypeError, KeyError):
            continue


def _crop_photo(
    path: Path, place: Path, out: Path, settings: CropSettings, detect: DetectFunction, framing: Framing
) -> tuple[tuple[str, ...], str]:
    """Write the crops of one photograph.

    Returns:
        Names of the crops, and the reason where there are none.
    """
    picture = read_picture(path)
    if isinstance(picture, ReadFault):
        return (), picture.reason
    boxes = detect(picture.pixels)
    if not boxes:
        return (), "no face"
    shape = (1 if settings.grey else 3, settings.size, settings.size)
    names = []
    for number, box in enumerate(boxes if settings.faces == "all" else boxes[:1], start=1):
        pixels = crop(picture.pixels, frame_box(box, framing), shape)[0]
        file = place.with_name(f"{place.name}.{number}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        _write_png(file, pixels)
        names.append(printable_path(file.relative_to(out)))
    return tuple(names), ""


def _stamp(path: Path) -> tuple[int, int]:
    """Bytes of a file, and when it was written in nanoseconds; zeros where it cannot be told."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _write_png(path: Path, pixels: Pixels) -> None:
    from PIL import Image

    with whole_file(path) as beside:
        Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(
            beside, format="PNG"
        )


def _count(summary: CropSummary, entry: _Done) -> None:
    summary.crops += len(entry.crops)
    if entry.reason:
        summary.left_out[entry.photo] = entry.reason
    else:
        folder = str(Path(entry.photo).parent)
        summary.classes[folder] = summary.classes.get(folder, 0) + len(entry.crops)


def _left_out_table(summary: CropSummary) -> str:
    text = io.StringIO()
    rows: Sequence[tuple[str, str]] = [("photo", "reason"), *summary.left_out.items()]
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
