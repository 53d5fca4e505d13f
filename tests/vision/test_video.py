"""Videos and cameras: times, ends, damage, and a camera that goes and comes back."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

from nas.vision import video
from nas.vision.frames import Frame, ReadFault
from nas.vision.video import camera_frames, video_frames
from tests.vision.pictures import write_video

SHADES = [np.full((48, 64, 3), (shade, 255 - shade, 30), np.uint8) for shade in range(0, 250, 25)]


class Camera:
    """A stand-in for cv2.VideoCapture: gives frames of a script, in which None is a failed read."""

    script: ClassVar[list[Any]] = []
    opened: ClassVar[list[int]] = []
    can_open: ClassVar[Iterator[bool]] = iter(())

    def __init__(self, number: int) -> None:
        self.opened.append(number)
        self._is_open = next(type(self).can_open, True)

    def isOpened(self) -> bool:  # noqa: N802
        return self._is_open

    def read(self) -> tuple[bool, Any]:
        frame = self.script.pop(0) if self.script else None
        return frame is not None, frame

    def get(self, _: int) -> float:
        return 30.0

    def release(self) -> None:
        self._is_open = False


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> type[Camera]:
    monkeypatch.setattr(video, "open_camera", Camera)
    monkeypatch.setattr(video, "_RETRY_S", 0.001)
    monkeypatch.setattr(video, "CAMERA_PATIENCE_S", 0.05)
    Camera.script, Camera.opened, Camera.can_open = [], [], iter(())
    return Camera


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mp4v"), ("a.avi", "MJPG"), ("a.mov", "mp4v")])
def test_frames_come_in_order_with_times_and_colours(tmp_path: Path, name: str, codec: str) -> None:
    frames = list(video_frames(write_video(tmp_path / name, SHADES, rate=10, codec=codec)))
    assert [frame.index for frame in frames] == list(range(10))
    assert [frame.time_s for frame in frames] == pytest.approx([0.1 * i for i in range(10)], abs=1e-6)
    assert all(frame.is_video and frame.rate == pytest.approx(10) for frame in frames)
    for frame, shade in zip(frames, SHADES, strict=True):
        assert np.abs(frame.pixels.astype(int) - shade).max() < 30  # RGB in order: red grows, green falls


def test_a_video_that_is_cut_off_says_how_much_is_left(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (10, 96, 96, 3)).astype(np.uint8)
    whole = write_video(tmp_path / "a.avi", list(noise), codec="MJPG").read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole[: len(whole) * 6 // 10])
    *frames, fault = video_frames(cut)
    assert 1 < len(frames) < 10
    assert isinstance(fault, ReadFault)
    assert fault.reason.startswith(f"the video ends after {len(frames)} of 10 frames")


def test_a_frame_that_is_too_large_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "MAX_PIXELS", 100)
    (fault,) = video_frames(write_video(tmp_path / "a.mp4", SHADES))
    assert fault.reason == "a frame must have at most 100 pixels, but has 64x48; reduce the video"


def test_a_playlist_is_not_followed(tmp_path: Path) -> None:
    """FFmpeg would open every file and address that it names."""
    write_video(tmp_path / "a.mp4", SHADES)
    for name, text in (
        ("hls.mp4", f"#EXTM3U\n#EXTINF:10,\n{tmp_path}/a.mp4\n#EXT-X-ENDLIST\n"),
        ("concat.mp4", f"ffconcat version 1.0\nfile '{tmp_path}/a.mp4'\n"),
    ):
        (tmp_path / name).write_text(text)
        (fault,) = video_frames(tmp_path / name)
        assert "neither a picture nor a video" in fault.reason


def test_a_name_with_a_colon_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a.mp4", SHADES).rename(tmp_path / "http:a.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(list(video_frames(Path("http:a.mp4")))) == 10


def test_a_camera_gives_frames_until_it_is_lost(camera: type[Camera]) -> None:
    camera.script = [SHADES[0], SHADES[1]]
    first, second, stopped, lost = camera_frames(3)
    assert camera.opened[0] == 3
    assert isinstance(first, Frame)
    assert (first.source, first.index, first.is_video) == ("camera 3", 0, True)
    assert first.pixels[0, 0].tolist() == SHADES[0][0, 0, ::-1].tolist()
    assert second.time_s >= first.time_s >= 0
    assert stopped.reason == "it stopped after 2 frames; trying to open it again"
    assert lost.reason == "it was lost after 2 frames; check its cable and power"


def test_a_camera_that_comes_back_goes_on(camera: type[Camera], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "CAMERA_PATIENCE_S", 60.0)  # a busy machine may take its time
    camera.script = [SHADES[0], None, SHADES[1]]
    camera.can_open = iter([True, False, True])
    first, stopped, second = islice(camera_frames(0), 3)
    assert (first.index, second.index) == (0, 1)
    assert "stopped after 1 frames" in stopped.reason
    assert len(camera.opened) == 3


def test_a_camera_that_cannot_be_opened_says_what_to_check(camera: type[Camera]) -> None:
    camera.can_open = iter([False])
    (fault,) = camera_frames(9)
    assert fault.source == "camera 9"
    assert "cannot be opened; check that it is plugged in" in fault.reason


def test_the_real_opencv_refuses_a_camera_that_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    (fault,) = camera_frames(97)
    assert "cannot be opened" in fault.reason
    assert capfd.readouterr() == ("", "")


def test_an_error_of_opencv_while_reading_is_the_end(camera: type[Camera], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Any) -> tuple[bool, Any]:
        raise cv2.error("bad packet")

    monkeypatch.setattr(Camera, "read", fails)
    assert [fault.reason.split(" after")[0] for fault in camera_frames(0)] == ["it stopped", "it was lost"]
