"""Outputs of a prediction: annotated pictures and videos, a window, JSON lines and CSV.

JSON lines and CSV are written frame by frame, so that another program can follow them. Pictures and videos appear
whole.
"""

import csv
import json
import os
import shutil
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from nas.data.images import IMAGE_SUFFIXES
from nas.errors import ConfigError
from nas.files import whole_file
from nas.vision.base import Pixels
from nas.vision.opencv import import_cv2
from nas.vision.predictor import LabelledFrame
from nas.vision.sources import VIDEO_SUFFIXES

VIDEO_SUFFIX, CODEC = ".mp4", "mp4v"
"""What OpenCV's own FFmpeg encodes everywhere: MPEG-4 part 2 in MP4."""
DEFAULT_RATE = 25.0
MAX_REPEATS = 250
"""Copies of a frame that fill a pause of a camera at most."""
WINDOW_TITLE = "nas predict"
END_KEYS = (ord("q"), 27)
"""Keys that end a window: q and Escape."""
SAME_SUFFIX = frozenset({".png", ".jpg", ".jpeg", ".webp"})
"""Pictures that are written in their own format; others become PNG."""


class Output(ABC):
    """One place that labelled frames go to.

    Life: made, and checked, before the first frame; `write` with each frame; `close` once, also after an error.

    Attributes:
        needs_pixels: whether `write` needs the annotated picture.
    """

    needs_pixels = False

    @abstractmethod
    def write(self, labelled: LabelledFrame, annotated: Pixels | None) -> bool:
        """Take a frame, and say whether the user wants more."""

    def close(self) -> None:  # noqa: B027  # there may be nothing to end
        """End what was written."""


class JsonLines(Output):
    """One JSON object a face: source, frame, time_s, track, box, score, label, probabilities."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            OSError: it cannot be written.
        """
        self._file = path.open("w", encoding="utf-8")

    def write(self, labelled: LabelledFrame, annotated: Pixels | None) -> bool:
        """Write a line for each face."""
        for row in face_rows(labelled):
            self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        return True

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class CsvTable(Output):
    """One row a face, with a column `p_CLASS` for each class."""

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        """Open the file and write the header.

        Raises:
            OSError: it cannot be written.
        """
        self._file = path.open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._file)
        head = ("source", "frame", "time_s", "track", "x", "y", "width", "height", "score", "label")
        self._rows.writerow([*head, *(f"p_{name}" for name in classes)])

    def write(self, labelled: LabelledFrame, annotated: Pixels | None) -> bool:
        """Write a row for each face."""
        for row in face_rows(labelled):
            self._rows.writerow(
                [
                    row["source"], row["frame"], row["time_s"], row["track"], *row["box"], row["score"], row["label"],
                    *row["probabilities"].values(),
                ]
            )  # fmt: skip
        self._file.flush()
        return True

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def face_rows(labelled: LabelledFrame) -> list[dict[str, Any]]:
    """The faces of a frame as plain values; pixels in hundredths, probabilities to six places."""
    frame = labelled.frame
    return [
        {
            "source": frame.source, "frame": frame.index, "time_s": round(frame.time_s, 3), "track": face.track,
            "box": [round(v, 2) for v in (face.box.x, face.box.y, face.box.width, face.box.height)],
            "score": round(face.box.score, 4), "label": face.label,
            "probabilities": {name: round(p, 6) for name, p in face.probabilities.items()},
        }
        for face in labelled.faces
    ]  # fmt: skip


class AnnotatedFiles(Output):
    """Annotated copies: each picture as a picture, each video or camera as an MP4 file.

    In a folder they have the names of their sources; a video of another kind gets the suffix .mp4 beside its own.
    """

    needs_pixels = True

    def __init__(self, out: Path, *, root: Path | None, is_single: bool) -> None:
        """Check the place.

        Args:
            out: a folder, or the file for the only source.
            root: folder of the sources, whose folders are kept below `out`; None for one source.
            is_single: whether there is one source.

        Raises:
            ConfigError: it is a file for several sources or of another kind, or is among the sources.
        """
        if out.suffix.lower() in VIDEO_SUFFIXES - {VIDEO_SUFFIX} and not out.is_dir():
            raise ConfigError(
                f"--out must be a folder, a picture or an .mp4 file, but got {out}; name it {out.stem}.mp4"
            )
        self._is_file = out.suffix.lower() in IMAGE_SUFFIXES | {VIDEO_SUFFIX} and not out.is_dir()
        if self._is_file and not is_single:
            raise ConfigError(f"--out must be a folder for several pictures, but got {out}; leave the suffix out")
        if root is not None and out.resolve().is_relative_to(root.resolve()):
            raise ConfigError(
                f"--out must be outside of the folder of pictures, but {out} is in {root}: the next call would label "
                "its own output; give another folder"
            )
        if not self._is_file and out.exists() and not out.is_dir():
            raise ConfigError(f"--out must be a folder, a picture or an .mp4 file, but {out} is another file")
        self._out, self._root = out, root
        self._video: _VideoFile | None = None

    def write(self, labelled: LabelledFrame, annotated: Pixels | None) -> bool:
        """Write a picture, or a frame of a video.

        Raises:
            ConfigError: it would replace its source, or the kind of file does not fit.
        """
        frame = labelled.frame
        if annotated is None:
            raise ValueError("annotated files need the annotated picture, but got none")
        if not frame.is_video:
            _write_picture(self._path(frame.source, is_video=False), annotated)
            return True
        if self._video is None or self._video.source != frame.source or frame.index == 0:
            self.close()
            path = self._path(frame.source, is_video=True)
            self._video = _VideoFile(path, annotated, source=frame.source, rate=frame.rate or DEFAULT_RATE)
        self._video.write(annotated, frame.time_s)
        return True

    def close(self) -> None:
        """End the video in progress, which then appears."""
        if self._video is not None:
            video, self._video = self._video, None
            video.close()

    def _path(self, source: str, *, is_video: bool) -> Path:
        given = Path(source)
        if self._is_file:
            if (self._out.suffix.lower() == VIDEO_SUFFIX) != is_video:
                kind = "an .mp4 file for a video" if is_video else "a picture for a picture"
                raise ConfigError(f"--out must be a folder, or {kind}, but got {self._out}")
            path = self._out
        else:
            inside = given.relative_to(self._root) if self._root else Path(given.name.replace(" ", "-"))
            keeps = inside.suffix.lower() in ({VIDEO_SUFFIX} if is_video else SAME_SUFFIX)
            suffix = VIDEO_SUFFIX if is_video else ".png"
            path = self._out / (inside if keeps else inside.with_name(inside.name + suffix))
        if path.exists() and given.exists() and path.samefile(given):
            raise ConfigError(f"--out must not be the place of the pictures, but {path} is one of them; give another")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


class Window(Output):
    """A window that shows the frames; q or Escape ends the prediction."""

    needs_pixels = True

    def __init__(self) -> None:
        """Open the window.

        Raises:
            ConfigError: there is no display, or this OpenCV has no windows.
        """
        self._cv2 = import_cv2()
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise ConfigError("--show needs a display, but there is none here; use --out to write pictures")
        try:
            self._cv2.namedWindow(WINDOW_TITLE, self._cv2.WINDOW_NORMAL)
        except self._cv2.error:
            raise ConfigError(
                "--show needs windows, which opencv-python-headless does not have; install opencv-python<5 in its "
                "place, or use --out to write pictures"
            ) from None

    def write(self, labelled: LabelledFrame, annotated: Pixels | None) -> bool:
        """Show a frame: a picture until a key is pressed, a video's frame at once."""
        if annotated is None:
            raise ValueError("a window needs the annotated picture, but got none")
        self._cv2.imshow(WINDOW_TITLE, np.ascontiguousarray(annotated[:, :, ::-1]))
        return (self._cv2.waitKey(1 if labelled.frame.is_video else 0) & 0xFF) not in END_KEYS

    def close(self) -> None:
        """Close the window."""
        self._cv2.destroyWindow(WINDOW_TITLE)


def _write_picture(path: Path, pixels: Pixels) -> None:
    from PIL import Image

    kind = {".png": "PNG", ".webp": "WEBP", ".jpg": "JPEG", ".jpeg": "JPEG"}.get(path.suffix.lower(), "PNG")
    with whole_file(path) as beside:
        Image.fromarray(pixels).save(beside, format=kind, quality=92)


class _VideoFile:
    """An MP4 file in progress, in a folder of its own beside the place where it appears."""

    def __init__(self, path: Path, first: Pixels, *, source: str, rate: float) -> None:
        cv2 = import_cv2()
        self.source, self._path, self._rate, self._count = source, path, rate, 0
        self._cv2: ModuleType = cv2
        self._size = (first.shape[1], first.shape[0])
        self._folder = tempfile.TemporaryDirectory(prefix=".nas-video-", dir=path.parent)
        self._beside = Path(self._folder.name) / f"video{VIDEO_SUFFIX}"
        self._writer = cv2.VideoWriter(
            str(self._beside), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*CODEC), rate, self._size
        )
        if not self._writer.isOpened():
            self._folder.cleanup()
            raise ConfigError(
                f"{path} must be a video that OpenCV can encode, but {self._size[0]}x{self._size[1]} at {rate:g} "
                "frames per second is none; write --json or --csv"
            )

    def write(self, pixels: Pixels, time_s: float) -> None:
        """Add a frame; it is repeated or left out where that keeps the times of the source."""
        if (pixels.shape[1], pixels.shape[0]) != self._size:  # a camera that came back in another mode
            pixels = self._cv2.resize(pixels, self._size, interpolation=self._cv2.INTER_AREA)
        due = round(time_s * self._rate) + 1
        for _ in range(min(max(due - self._count, 0 if self._count else 1), MAX_REPEATS)):
            self._writer.write(np.ascontiguousarray(pixels[:, :, ::-1]))
        self._count = max(due, self._count)

    def close(self) -> None:
        """End the video and put it in its place.

        Raises:
            OSError: nothing was written, as on a full disk.
        """
        self._writer.release()
        try:
            if not self._beside.is_file() or not self._beside.stat().st_size:
                raise OSError(f"the video {self._path} could not be written; free space on that disk")
            with whole_file(self._path) as place:
                shutil.move(self._beside, place)
        finally:
            self._folder.cleanup()
