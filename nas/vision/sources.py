"""Sources of frames: a picture, a folder of pictures and videos, a video, or a camera.

What cannot be read becomes a `ReadFault` in the stream of frames, and the rest goes on. What a file is, is told by its
content: where its suffix says picture and it is a video, or the other way round, it is read as what it is.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nas.data.images import IMAGE_SUFFIXES, read_images
from nas.data.paths import FolderListing, printable_path
from nas.errors import ConfigError, DataError, printable
from nas.files import regular_file_fault
from nas.vision.frames import Frame, ReadFault
from nas.vision.video import camera_frames, video_frames

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv", ".ts", ".gif"}
)
"""An animated GIF is read as a video; other animated pictures show their first frame."""
_NUMBER = re.compile(r"[0-9]{1,3}")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A checked source.

    Attributes:
        files: pictures and videos, in order; empty for a camera.
        camera: number of the camera; None for files.
        root: folder that the files are in, or None.
        notes: what was left out, one sentence each.
    """

    files: tuple[Path, ...] = ()
    camera: int | None = None
    root: Path | None = None
    notes: tuple[str, ...] = ()

    def frames(self) -> Iterator[Frame | ReadFault]:
        """Frames in order, with what cannot be read in between.

        Raises:
            MissingPackageError: pillow or OpenCV is not installed.
        """
        if self.camera is not None:
            yield from camera_frames(self.camera)
        for path in self.files:
            yield from file_frames(path)


def open_source(word: str | Path) -> Source:
    """The source that a word of the command line names.

    Args:
        word: a file, a folder, or the number of a camera.

    Raises:
        ConfigError: there is no such file, it is no regular file or folder, or the folder has no pictures.
    """
    path = Path(word)
    if not path.exists() and _NUMBER.fullmatch(str(word)):
        return Source(camera=int(str(word)))
    if path.is_dir():
        listing = FolderListing(IMAGE_SUFFIXES | VIDEO_SUFFIXES)
        files = tuple(listing.files_below(path))
        if not files:
            raise ConfigError(
                f"{printable_path(path)} must hold pictures or videos, but has none; give another folder "
                f"({', '.join(listing.notes()) or 'it is empty'})"
            )
        return Source(files=files, root=path, notes=listing.notes())
    if (fault := regular_file_fault(path)) is not None:
        raise ConfigError(
            f"{printable_path(path)} {fault}; give a picture, a folder of pictures, a video file or the number of a "
            "camera"
        )
    return Source(files=(path,))


def file_frames(path: Path) -> Iterator[Frame | ReadFault]:
    """The frame of a picture, or the frames of a video, or the reason why it has none."""
    if (fault := regular_file_fault(path)) is not None:
        yield ReadFault(source=printable_path(path), reason=f"{fault}; restore the file, or leave it out")
        return
    if path.suffix.lower() in VIDEO_SUFFIXES:
        yield from _first_that_reads(video_frames(path), _picture_frames(path))
    else:
        yield from _first_that_reads(_picture_frames(path), video_frames(path))


def read_picture(path: Path) -> Frame | ReadFault:
    """A picture as a viewer shows it: EXIF's orientation, 16 bits, grey and transparency as in `nas.data.images`."""
    try:
        images = read_images([path], size=None, channels=3, locations=[printable_path(path.name)])
    except DataError as error:
        return ReadFault(source=printable_path(path), reason=_without_location(str(error), path))
    return Frame(source=printable_path(path), pixels=images[0].transpose(1, 2, 0))


def _picture_frames(path: Path) -> Iterator[Frame | ReadFault]:
    """The picture as a stream of one, which is read when it is asked for."""
    yield read_picture(path)


def _first_that_reads(
    expected: Iterator[Frame | ReadFault], other: Iterator[Frame | ReadFault]
) -> Iterator[Frame | ReadFault]:
    """The expected stream; the other one where that begins with a fault and the other one with a frame."""
    first = next(expected, None)
    if isinstance(first, ReadFault):
        second = next(other, None)
        if isinstance(second, Frame):
            yield second
            yield from other
            return
    if first is not None:
        yield first
        yield from expected


def _without_location(message: str, path: Path) -> str:
    """A message of the picture reader without the file's name, which a fault has already."""
    name = printable_path(path.name)
    return printable(message.removeprefix(f"{name}: ").removeprefix(f"{name}: ").removeprefix(f"{name} "))
