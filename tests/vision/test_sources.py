"""Sources: what a word names, pictures as viewers show them, and files that are not what they say."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.errors import ConfigError
from nas.vision import sources
from nas.vision.frames import Frame, ReadFault
from nas.vision.sources import file_frames, open_source, read_picture
from tests.vision.pictures import bright_quadrant, write_picture, write_video

FRAMES = [bright_quadrant(i % 4, size=64) for i in range(5)]


def test_a_folder_gives_its_pictures_and_videos_in_order_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    write_picture(tmp_path / "b" / "2.png", bright_quadrant(1))
    write_picture(tmp_path / "a.jpg", bright_quadrant(0))
    write_video(tmp_path / "c.mp4", FRAMES)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "x.png").mkdir()
    source = open_source(tmp_path)
    assert source.root == tmp_path
    assert [path.name for path in source.files] == ["a.jpg", "2.png", "c.mp4"]
    assert source.notes == ("entries that are no images were left out: .txt (1)",)
    frames = list(source.frames())
    assert [Path(frame.source).name for frame in frames] == ["a.jpg", "2.png", *["c.mp4"] * 5]
    assert [frame.is_video for frame in frames] == [False, False, *[True] * 5]


def test_a_number_is_a_camera_unless_a_file_has_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "camera_frames", lambda number: iter([ReadFault(source="", reason=f"asked {number}")]))
    (fault,) = open_source("12").frames()
    assert fault.reason == "asked 12"
    write_picture(tmp_path / "5.png", bright_quadrant(0)).rename(tmp_path / "5")
    assert open_source("5").files == (Path("5"),)


@pytest.mark.parametrize("word", ["none.png", "1234", "-1", "rtsp://camera/1", ""])
def test_what_does_not_exist_is_refused(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"give a picture, a folder|must hold pictures or videos, but has none"):
        open_source(word)


def test_pipes_and_devices_are_refused_without_reading_them(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path, kind in ((tmp_path / "pipe.png", "pipe"), (Path("/dev/zero"), "device")):
        with pytest.raises(ConfigError, match=f"must be a regular file, but is a {kind}; give a picture"):
            open_source(path)


@pytest.mark.parametrize(("orientation", "expected"), [(1, 0), (2, 1), (3, 3), (4, 2), (5, 0), (6, 1), (7, 3), (8, 2)])
def test_exif_turns_a_picture(tmp_path: Path, orientation: int, expected: int) -> None:
    """Where a white upper left quadrant is after the eight orientations of EXIF's tag 274."""
    exif = Image.Exif()
    exif[274] = orientation
    picture = read_picture(write_picture(tmp_path / "a.png", bright_quadrant(0), exif=exif))
    assert isinstance(picture, Frame)
    assert np.array_equal(picture.pixels, bright_quadrant(expected))


def test_grey_deep_transparent_and_coloured_pictures_become_rgb(tmp_path: Path) -> None:
    grey = bright_quadrant(2)[:, :, 0]
    write_picture(tmp_path / "grey.png", grey)
    write_picture(tmp_path / "deep.png", grey.astype(np.uint16) * 257)
    Image.fromarray(np.dstack([bright_quadrant(2), grey])).save(tmp_path / "rgba.png")
    Image.fromarray(bright_quadrant(2)).convert("P").save(tmp_path / "palette.png")
    for file in sorted(tmp_path.iterdir()):
        picture = read_picture(file)
        assert isinstance(picture, Frame), file
        assert np.array_equal(picture.pixels, bright_quadrant(2)), file


def test_files_are_read_as_what_they_are_whatever_their_suffix(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", FRAMES).rename(tmp_path / "video.png")
    write_picture(tmp_path / "a.png", FRAMES[1]).rename(tmp_path / "picture.mp4")
    write_picture(tmp_path / "b.png", FRAMES[1]).rename(tmp_path / "picture")
    assert [frame.is_video for frame in file_frames(tmp_path / "video.png")] == [True] * 5
    for name in ("picture.mp4", "picture"):
        (frame,) = file_frames(tmp_path / name)
        assert np.array_equal(frame.pixels, FRAMES[1])


def test_an_animated_gif_is_a_video_and_other_animated_pictures_show_their_first_frame(tmp_path: Path) -> None:
    first, *rest = (Image.fromarray(frame) for frame in FRAMES)
    for name in ("a.gif", "a.png", "a.webp"):
        first.save(tmp_path / name, save_all=True, append_images=rest, duration=100, lossless=True)
    assert [frame.time_s for frame in file_frames(tmp_path / "a.gif")] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    for name in ("a.png", "a.webp"):
        (frame,) = file_frames(tmp_path / name)
        assert np.array_equal(frame.pixels, FRAMES[0])


def test_a_file_that_vanished_is_a_fault(tmp_path: Path) -> None:
    (fault,) = file_frames(tmp_path / "gone.png")
    assert fault.reason == "does not exist; restore the file, or leave it out"
