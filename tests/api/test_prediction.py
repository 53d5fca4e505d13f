"""`nas.predict`: models by their words, the table of faces, and what ends it."""

from pathlib import Path

import numpy as np
import pytest

import nas
from nas.api import prediction
from nas.api.prediction import FACE_COLUMNS, ModelOptions, benchmark_prediction, label_faces, open_chain
from nas.errors import ConfigError, UnknownMemberError
from nas.results.run_folder import RunFolder
from nas.vision.labelling import Limits
from tests.fake_runs import a_model, a_run, some_record
from tests.vision.pictures import ASTRONAUT_FACE, CLASSES, astronaut, montage, quadrant_net, write_picture, write_video

THREE = ("a", "b", "c")


@pytest.fixture(autouse=True)
def _trusted_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.distillation.onnx_teacher.check_in_child", lambda *_, **__: None)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return write_picture(tmp_path / "photo.png", astronaut())


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return quadrant_net(tmp_path / "net.onnx")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    run = a_run(tmp_path / "runs", records=[])
    for trial, accuracy, ms in ((0, 0.5, 1.0), (1, 0.69, 1.2), (2, 0.7, 9.0)):
        run.append(some_record(trial, accuracy, ms, **a_model(run, f"models/{trial}.onnx")))
    return run


def test_a_smiling_astronaut_is_happy(photo: Path, tmp_path: Path) -> None:
    faces = nas.predict("resnet-56k", photo, out=tmp_path / "out", min_face=60)
    assert list(faces.columns) == [*FACE_COLUMNS, "angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    (face,) = faces.to_dict("records")
    assert (face["source"], face["label"], face["track"]) == (str(photo), "happy", None)
    assert face["x"] == pytest.approx(ASTRONAUT_FACE.x, abs=10)
    assert (tmp_path / "out" / "photo.png").is_file()


def test_a_run_gives_its_pick_or_the_trial_that_is_named(folder: RunFolder, photo: Path) -> None:
    options = ModelOptions(classes=THREE, pixels="0..255", min_face=60)
    for word, name in ((str(folder.path), "1.onnx"), (f"{folder.path}:2", "2.onnx")):
        with open_chain(word, options) as chain:
            assert chain.classifier.path.name == name
            assert "the model does not say what it was trained on" in chain.notes[-1]
    with pytest.raises(ConfigError, match="no trial and no key is '77'"):
        nas.predict(f"{folder.path}:77", photo)


def test_a_candidate_without_a_file_is_refused(folder: RunFolder, photo: Path) -> None:
    (folder.path / "models" / "2.onnx").unlink()
    with pytest.raises(ConfigError, match=r"trial 2 of .* must have an ONNX file, but has none"):
        nas.predict(f"{folder.path}:2", photo)


def test_several_faces_of_a_video_are_tracked(net: Path, tmp_path: Path) -> None:
    picture, _ = montage((0, 2))
    video = write_video(tmp_path / "a.mp4", [picture] * 3)
    lines: list[str] = []
    faces = nas.predict(net, video, pixels="0..255", min_face=80, log=lines.append, framing="fer2013")
    assert len(faces) == 6
    assert set(faces["track"]) == {1, 2}
    assert faces["time_s"].tolist() == pytest.approx([0, 0, 0.1, 0.1, 0.2, 0.2])
    assert set(faces["label"]) <= set(CLASSES)
    assert lines == []
    assert len(nas.predict(net, video, pixels="0..255", min_face=80, frames=1)) == 2


def test_what_cannot_be_read_is_said_and_nothing_at_all_is_an_error(net: Path, photo: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    (tmp_path / "in").mkdir()
    photo.rename(tmp_path / "in" / "photo.png")
    (tmp_path / "in" / "torn.png").write_bytes(b"torn")
    write_picture(tmp_path / "in" / "wall.png", np.full((99, 99, 3), 200, np.uint8))
    faces = nas.predict(net, tmp_path / "in", pixels="0..255", framing="fer2013", log=lines.append, min_face=60)
    assert len(faces) == 1
    assert [line.rpartition("/")[2].split(":")[0] for line in lines] == ["torn.png", "wall.png"]
    with pytest.raises(ConfigError, match=r"torn.png: is not a readable image"):
        nas.predict(net, tmp_path / "in" / "torn.png", pixels="0..255")
    assert nas.predict(net, tmp_path / "in" / "wall.png", pixels="0..255").empty


def test_unknown_words_are_refused(net: Path, photo: Path) -> None:
    with pytest.raises(UnknownMemberError, match=r"detector must be one of dlib, haar, yunet, but got 'har'"):
        nas.predict(net, photo, detector="har")
    with pytest.raises(ConfigError, match="does not exist; give a picture"):
        nas.predict(net, "none.png")
    with pytest.raises(ConfigError, match="yunet needs its file"):
        nas.predict(net, photo, detector="yunet")


def test_files_are_written_without_a_table(net: Path, photo: Path, tmp_path: Path) -> None:
    options = ModelOptions(pixels="0..255", min_face=60)
    summary = label_faces(
        net, photo, options, out=tmp_path / "o.png", json=tmp_path / "o.jsonl", csv=tmp_path / "o.csv",
        limits=Limits(frames=1),
    )  # fmt: skip
    assert summary.faces == 1
    assert all((tmp_path / name).stat().st_size for name in ("o.png", "o.jsonl", "o.csv"))
    with pytest.raises(ConfigError, match="--show needs"):
        label_faces(net, photo, options, show=True)


def test_the_benchmark_is_of_the_whole_chain(net: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.vision.benchmark.WARM_UP_FRAMES", 0)
    figures = benchmark_prediction(net, photo, ModelOptions(pixels="0..255", min_face=80), frames=2)
    assert (figures.detector, figures.faces, figures.frame_size) == ("haar", 1.0, (512, 512))
    assert prediction.DEFAULT_DETECTOR == "haar"
