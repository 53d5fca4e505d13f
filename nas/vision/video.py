"""Videos and cameras, read by OpenCV within limits of time and size.

- A file that opens or delivers a frame too slowly is given up after a time limit, which FFmpeg keeps.
- A frame larger than the largest picture (`nas.data.images.MAX_PIXELS`) is refused before it is decoded.
- A video that ends before its last frame says how many were read.
- A camera that stops delivering is opened again for some seconds.
"""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nas.data.images import MAX_PIXELS
from nas.data.paths import printable_path
from nas.vision.frames import CAMERA, Frame, ReadFault
from nas.vision.opencv import import_cv2

TIME_LIMIT_MS = 10_000
"""Limit of opening a file and of reading a frame."""
CAMERA_PATIENCE_S = 5.0
"""Seconds in which a camera that stopped is opened again."""
_RETRY_S = 0.25
MAX_RATE = 1000.0
"""Frames per second above which a file's own figure is not believed."""


def video_frames(path: Path) -> Iterator[Frame | ReadFault]:
    """Frames of a video file, and a fault where it cannot be opened or ends early."""
    source = printable_path(path)
    capture = open_file(path)
    try:
        if not capture.isOpened():
            yield ReadFault(source=source, reason=_closed_reason(path))
            return
        if (fault := _size_fault(capture)) is not None:
            yield ReadFault(source=source, reason=fault)
            return
        cv2 = import_cv2()
        rate = _rate(capture)
        index = 0
        last_s = -math.inf
        while (pixels := _read(capture)) is not None:
            time_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if not last_s < time_s < math.inf:  # some containers have no times
                time_s = last_s + 1 / (rate or 25.0) if index else 0.0
            last_s = time_s
            yield Frame(source=source, index=index, time_s=time_s, pixels=pixels, is_video=True, rate=rate)
            index += 1
        expected = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        if index == 0:
            yield ReadFault(source=source, reason="it is a video, but no frame of it can be decoded; record it again")
        elif math.isfinite(expected) and index < 0.98 * expected - 1:  # containers estimate the count
            yield ReadFault(
                source=source,
                reason=f"the video ends after {index:,} of {int(expected):,} frames: the rest is missing or damaged",
            )
    finally:
        capture.release()


def camera_frames(number: int) -> Iterator[Frame | ReadFault]:
    """Frames of a camera until it is lost, with times since the first one."""
    source = f"{CAMERA} {number}"
    capture = open_camera(number)
    try:
        if not capture.isOpened():
            yield ReadFault(
                source=source,
                reason="it cannot be opened; check that it is plugged in, that no other program uses it and that you "
                "may read it, or give another number",
            )
            return
        begin, index = time.monotonic(), 0
        while True:
            pixels = _read(capture)
            if pixels is None:
                yield ReadFault(source=source, reason=f"it stopped after {index:,} frames; trying to open it again")
                capture, pixels = _reopened(capture, number)
            if pixels is None:
                yield ReadFault(source=source, reason=f"it was lost after {index:,} frames; check its cable and power")
                return
            yield Frame(
                source=source, index=index, time_s=time.monotonic() - begin, pixels=pixels, is_video=True,
                rate=_rate(capture),
            )  # fmt: skip
            index += 1
    finally:
        capture.release()


def open_file(path: Path) -> Any:
    """OpenCV's capture of a file; it may not be open."""
    cv2 = import_cv2()
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIME_LIMIT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIME_LIMIT_MS]
    # An absolute path: FFmpeg takes what precedes a colon for a protocol.
    return cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG, limits)


def open_camera(number: int) -> Any:
    """OpenCV's capture of a camera; it may not be open."""
    return import_cv2().VideoCapture(number)


def _reopened(capture: Any, number: int) -> tuple[Any, Any]:
    """The camera opened again, with its first frame; None where it stays away for `CAMERA_PATIENCE_S`."""
    end = time.monotonic() + CAMERA_PATIENCE_S
    while time.monotonic() < end:
        capture.release()
        time.sleep(_RETRY_S)
        capture = open_camera(number)
        if capture.isOpened() and (pixels := _read(capture)) is not None:
            return capture, pixels
    return capture, None


def _read(capture: Any) -> Any:
    """The next frame [H, W, 3] RGB, or None: the end, or nothing that can be decoded any more."""
    cv2 = import_cv2()
    try:
        is_read, frame = capture.read()
    except cv2.error:
        return None
    if not is_read or frame is None or frame.ndim != 3 or 0 in frame.shape:
        return None
    return np.ascontiguousarray(frame[:, :, ::-1])


def _rate(capture: Any) -> float:
    rate = float(capture.get(import_cv2().CAP_PROP_FPS))
    return rate if 0 < rate <= MAX_RATE else 0.0


def _size_fault(capture: Any) -> str | None:
    cv2 = import_cv2()
    width, height = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    if width * height > MAX_PIXELS:
        return f"a frame must have at most {MAX_PIXELS:,} pixels, but has {width}x{height}; reduce the video"
    return None


def _closed_reason(path: Path) -> str:
    size = path.stat().st_size if path.is_file() else 0
    what = "it is empty (0 bytes)" if not size else "it is neither a picture nor a video that can be read"
    return f"{what}; replace or remove the file"
