"""Outputs: files in closed form, names and places, and what is refused."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from nas.errors import ConfigError
from nas.vision import outputs
from nas.vision.base import Box
from nas.vision.frames import Frame
from nas.vision.outputs import AnnotatedFiles, CsvTable, JsonLines, Window
from nas.vision.predictor import Face, LabelledFrame
from nas.vision.video import video_frames
from tests.vision.pictures import bright_quadrant, write_picture

PICTURE = bright_quadrant(1, size=64)
FACE = Face(
    box=Box(x=1.234, y=2, width=30, height=31, score=4), label="sad", probabilities={"glad": 0.25, "sad": 0.75}, track=7
)


def labelled(source: str = "a.png", *, index: int = 0, time_s: float = 0.0, rate: float = 10.0, **fields: Any) -> Any:
    frame = Frame(source=source, index=index, time_s=time_s, pixels=PICTURE, rate=rate, **fields)
    return LabelledFrame(frame=frame, faces=(FACE, FACE))


def test_json_has_a_line_for_each_face_as_soon_as_it_is_written(tmp_path: Path) -> None:
    output = JsonLines(tmp_path / "a.jsonl")
    assert output.write(labelled("é.png", index=3, time_s=0.3004), None)
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    output.close()
    assert rows == 2 * [
        {
            "source": "é.png", "frame": 3, "time_s": 0.3, "track": 7, "box": [1.23, 2, 30, 31], "score": 4,
            "label": "sad", "probabilities": {"glad": 0.25, "sad": 0.75},
        }
    ]  # fmt: skip


def test_csv_has_a_column_for_each_class(tmp_path: Path) -> None:
    output = CsvTable(tmp_path / "a.csv", ("glad", "sad"))
    output.write(labelled('odd, "name".png'), None)
    output.close()
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert len(rows) == 2
    assert rows[0]["source"] == 'odd, "name".png'
    assert (rows[0]["p_sad"], rows[0]["label"], rows[0]["width"]) == ("0.75", "sad", "30")


def test_annotated_pictures_keep_their_folders_names_and_kinds(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    output = AnnotatedFiles(out, root=root, is_single=False)
    for name in ("a.png", "sub/b.jpg", "c.tif"):
        assert output.write(labelled(str(root / name)), PICTURE)
    output.close()
    assert {str(f.relative_to(out)) for f in out.rglob("*.*")} == {"a.png", "sub/b.jpg", "c.tif.png"}
    with Image.open(out / "a.png") as picture, Image.open(out / "sub" / "b.jpg") as other:
        assert np.array_equal(np.asarray(picture), PICTURE)
        assert other.format == "JPEG"


def test_a_video_appears_whole_with_the_times_of_its_source(tmp_path: Path) -> None:
    output = AnnotatedFiles(tmp_path / "out.mp4", root=None, is_single=True)
    for index, time_s in enumerate((0.0, 0.1, 0.5)):  # three frames are missing before the last one
        output.write(labelled("a.avi", index=index, time_s=time_s, is_video=True), bright_quadrant(index, size=64))
        assert not (tmp_path / "out.mp4").exists()
    output.close()
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    frames = list(video_frames(tmp_path / "out.mp4"))
    assert len(frames) == 6
    assert [int(f.pixels[10, 10].mean()) > 128 for f in frames] == [True, False, False, False, False, False]
    assert frames[-1].pixels[50, 10].mean() > 200
    output.close()  # a second time does nothing


def test_each_video_of_a_folder_gets_a_file_of_its_own(tmp_path: Path) -> None:
    output = AnnotatedFiles(tmp_path / "out", root=tmp_path / "in", is_single=False)
    for name in ("a.avi", "b.mp4"):
        for index in range(2):
            output.write(labelled(str(tmp_path / "in" / name), index=index, time_s=index / 10, is_video=True), PICTURE)
    output.close()
    assert sorted(f.name for f in (tmp_path / "out").iterdir()) == ["a.avi.mp4", "b.mp4"]


def test_a_camera_gets_a_name_and_frames_of_another_size_are_fitted(tmp_path: Path) -> None:
    output = AnnotatedFiles(tmp_path, root=None, is_single=True)
    output.write(labelled("camera 0", is_video=True, rate=0.0), PICTURE)
    output.write(labelled("camera 0", index=1, time_s=0.04, is_video=True), bright_quadrant(0, size=32))
    output.close()
    assert [f.pixels.shape for f in video_frames(tmp_path / "camera-0.mp4")] == [(64, 64, 3)] * 2


def test_the_sources_are_never_written_over(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.png", PICTURE)
    for out in (tmp_path, path):
        output = AnnotatedFiles(out, root=None, is_single=True)
        with pytest.raises(ConfigError, match=r"must not be the place of the pictures, but .*a.png is one of them"):
            output.write(labelled(str(path)), PICTURE)


def test_a_folder_of_pictures_does_not_get_its_own_output(tmp_path: Path) -> None:
    for out in (tmp_path, tmp_path / "labelled"):
        with pytest.raises(ConfigError, match="must be outside of the folder of pictures"):
            AnnotatedFiles(out, root=tmp_path, is_single=False)


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must be a folder for several pictures, but got a.png"):
        AnnotatedFiles(Path("a.png"), root=tmp_path, is_single=False)
    with pytest.raises(ConfigError, match=r"a picture or an .mp4 file, but got a.avi; name it a.mp4"):
        AnnotatedFiles(Path("a.avi"), root=None, is_single=True)
    (tmp_path / "other").touch()
    with pytest.raises(ConfigError, match="other is another file"):
        AnnotatedFiles(tmp_path / "other", root=None, is_single=True)
    with pytest.raises(ConfigError, match=r"or an .mp4 file for a video, but got a.png"):
        AnnotatedFiles(Path("a.png"), root=None, is_single=True).write(labelled("a.mp4", is_video=True), PICTURE)
    with pytest.raises(ConfigError, match=r"or a picture for a picture, but got a.mp4"):
        AnnotatedFiles(Path("a.mp4"), root=None, is_single=True).write(labelled("a.png"), PICTURE)
    with pytest.raises(ValueError, match="need the annotated picture"):
        AnnotatedFiles(tmp_path, root=None, is_single=True).write(labelled(), None)


def test_a_size_that_cannot_be_encoded_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    output = AnnotatedFiles(tmp_path / "out.mp4", root=None, is_single=True)
    with pytest.raises(ConfigError, match="must be a video that OpenCV can encode, but 1x1 at 10 frames"):
        output.write(labelled("a.mp4", is_video=True), PICTURE[:1, :1])
    assert list(tmp_path.iterdir()) == []


def test_a_window_needs_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(ConfigError, match="--show needs a display, but there is none here; use --out"):
        Window()


def test_a_headless_opencv_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    if "GUI:                           NONE" not in cv2.getBuildInformation():
        pytest.skip("this OpenCV has windows")
    with pytest.raises(ConfigError, match="opencv-python-headless does not have; install opencv-python<5"):
        Window()


def test_a_window_shows_frames_until_a_key_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    keys = iter((-1, ord("x"), ord("q")))
    stand_in = SimpleNamespace(
        namedWindow=lambda *_: None, WINDOW_NORMAL=0, error=cv2.error, imshow=lambda _, frame: shown.append(frame),
        waitKey=lambda wait_ms: (shown.append(wait_ms), next(keys))[1], destroyWindow=shown.append,
    )  # fmt: skip
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(outputs, "import_cv2", lambda: stand_in)
    window = Window()
    video = labelled("a.mp4", is_video=True)
    assert window.write(video, PICTURE)
    assert window.write(labelled(), PICTURE)
    assert not window.write(video, PICTURE)
    window.close()
    assert np.array_equal(shown[0], PICTURE[:, :, ::-1])
    assert [entry for entry in shown if isinstance(entry, int)] == [1, 0, 1]
    assert shown[-1] == outputs.WINDOW_TITLE
    with pytest.raises(ValueError, match="needs the annotated picture"):
        window.write(video, None)


def test_a_video_that_could_not_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = AnnotatedFiles(tmp_path / "out.mp4", root=None, is_single=True)
    output.write(labelled("a.mp4", is_video=True), PICTURE)
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    with pytest.raises(OSError, match="could not be written; free space on that disk"):
        output.close()
