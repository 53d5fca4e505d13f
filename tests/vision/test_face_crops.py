"""Face crops: a data set that the package reads, resumed, and never written over unasked."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.data.loading import load_data
from nas.errors import ConfigError
from nas.vision.base import Box, Pixels
from nas.vision.face_crops import JOURNAL, LEFT_OUT, SETTINGS, CropSettings, CropSummary, crop_faces
from nas.vision.framing import Framing
from tests.vision.pictures import bright_quadrant, whole_picture, write_picture

SETTINGS_48 = CropSettings(detector="haar", framing="fer2013", size=48, min_face=40)
BARE = Framing(scale=1.0, right=0.0, down=0.0, source="by hand")


def two_halves(pixels: Pixels) -> list[Box]:
    """A detector that finds a face in each half, the left one first."""
    height, width = pixels.shape[:2]
    return [Box(x=x, y=0, width=width / 2, height=height) for x in (0, width / 2)]


def photos_in(root: Path, *, per_class: int = 6) -> Path:
    rng = np.random.default_rng(0)
    for name in ("happy", "Sadness"):
        for i in range(per_class):
            write_picture(root / name / f"{i}.jpg", rng.integers(0, 256, (60, 60, 3)).astype(np.uint8))
    return root


def run(photos: Path, out: Path, settings: CropSettings = SETTINGS_48, **options: object) -> CropSummary:
    return crop_faces(photos, out, settings, **({"detect": whole_picture, "framing": BARE} | options))  # type: ignore[arg-type]


def test_crops_are_a_data_set_of_the_same_classes(tmp_path: Path) -> None:
    out = tmp_path / "crops"
    summary = run(photos_in(tmp_path / "photos"), out)
    assert (summary.photos, summary.crops, summary.classes) == (12, 12, {"Sadness": 6, "happy": 6})
    data = load_data("folder", out, cache_dir=tmp_path / "cache", options={"val_share": "0.3"})
    assert data.classes == ("happy", "sad")
    assert data.input_shape == (3, 48, 48)
    assert len(data.train) + len(data.val) == 12


def test_a_crop_is_the_face_in_the_size_and_colour_asked_for(tmp_path: Path) -> None:
    picture = np.concatenate([bright_quadrant(0, size=64), np.full((64, 64, 3), (0, 0, 90), np.uint8)], axis=1)
    write_picture(tmp_path / "photos" / "a" / "x.png", picture)
    settings = replace(SETTINGS_48, faces="all", size=64, grey=True)
    run(tmp_path / "photos", tmp_path / "crops", settings, detect=two_halves)
    with Image.open(tmp_path / "crops" / "a" / "x.png.1.png") as first:
        assert first.mode == "L"
        assert np.array_equal(np.asarray(first), bright_quadrant(0, size=64)[:, :, 0])
    with Image.open(tmp_path / "crops" / "a" / "x.png.2.png") as second:
        assert (np.asarray(second) == round(0.114 * 90)).all()
    run(tmp_path / "photos", tmp_path / "colour", replace(settings, grey=False, faces="largest"), detect=two_halves)
    (only,) = (tmp_path / "colour" / "a").iterdir()
    with Image.open(only) as coloured:
        assert (coloured.mode, coloured.size) == ("RGB", (64, 64))


def test_photographs_without_a_crop_are_counted_and_named(tmp_path: Path) -> None:
    photos = photos_in(tmp_path / "photos", per_class=1)
    write_picture(photos / "happy" / "wall, white.png", np.full((50, 50, 3), 255, np.uint8))
    (photos / "happy" / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    (photos / "happy" / "notes.txt").touch()
    lines: list[str] = []
    summary = run(photos, tmp_path / "crops", log=lines.append)
    assert (summary.photos, summary.crops) == (4, 2)
    assert summary.notes == ("entries that are no images were left out: .txt (1)",)
    rows = list(csv.reader((tmp_path / "crops" / LEFT_OUT).read_text().splitlines()))
    assert rows[0] == ["photo", "reason"]
    assert {row[0] for row in rows[1:]} == {"happy/wall, white.png", "happy/torn.jpg"}
    assert dict(rows[1:])["happy/wall, white.png"] == "no face"
    assert sorted(line.split(":")[0] for line in lines) == ["happy/torn.jpg", "happy/wall, white.png"]


def test_a_second_call_reads_new_photographs_only_and_says_what_has_changed(tmp_path: Path) -> None:
    photos, out = photos_in(tmp_path / "photos", per_class=2), tmp_path / "crops"
    run(photos, out)
    before = {f: f.stat().st_mtime_ns for f in out.rglob("*.png")}
    write_picture(photos / "happy" / "new.png", bright_quadrant(1))
    write_picture(photos / "happy" / "0.jpg", bright_quadrant(2))
    read: list[Pixels] = []
    summary = run(photos, out, detect=lambda pixels: (read.append(pixels), whole_picture(pixels))[1])
    assert len(read) == 1
    assert (summary.photos, summary.crops, summary.resumed, summary.changed) == (5, 5, 4, ["happy/0.jpg"])
    assert {f: f.stat().st_mtime_ns for f in before} == before


def test_a_call_that_was_killed_is_resumed_behind_its_torn_line(tmp_path: Path) -> None:
    photos, out = photos_in(tmp_path / "photos", per_class=2), tmp_path / "crops"
    run(photos, out)
    journal = out / JOURNAL
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join(lines[:2]) + "\n" + lines[2][:30])
    summary = run(photos, out)
    assert (summary.resumed, summary.crops) == (2, 4)
    assert all(json.loads(line) for line in journal.read_text().splitlines())


def test_crops_of_other_settings_are_kept_unless_forced(tmp_path: Path) -> None:
    photos, out = photos_in(tmp_path / "photos", per_class=1), tmp_path / "crops"
    run(photos, out)
    other = replace(SETTINGS_48, size=64, grey=True)
    with pytest.raises(
        ConfigError, match=r"were made with other settings \(size, grey\); give another folder, or --force"
    ):
        run(photos, out, other)
    assert run(photos, out, other, force=True).resumed == 0
    with Image.open(out / "happy" / "0.jpg.1.png") as forced:
        assert forced.size == (64, 64)
    (out / SETTINGS).write_text("[]")
    with pytest.raises(ConfigError, match="were made with other settings"):
        run(photos, out, other)


def test_a_forced_call_leaves_no_crop_of_the_earlier_one(tmp_path: Path) -> None:
    photos, out = photos_in(tmp_path / "photos"), tmp_path / "crops"
    run(photos, out, replace(SETTINGS_48, faces="all"), detect=two_halves)
    assert len(list(out.rglob("*.2.png"))) > 0
    outside, mine = tmp_path / "x.png", out / "happy" / "mine.png"
    for file in (outside, mine):
        write_picture(file, bright_quadrant(0))
    with (out / JOURNAL).open("a") as journal:
        journal.write(json.dumps({"photo": "a", "bytes": 1, "mtime_ns": 1, "crops": ["../x.png"], "reason": ""}) + "\n")

    summary = run(photos, out, replace(SETTINGS_48, faces="largest"), force=True)

    assert len(list(out.rglob("*.png"))) == summary.crops + 1
    assert outside.is_file()
    assert mine.is_file()


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "crops"
    write_picture(out / "mine.png", bright_quadrant(0))
    with pytest.raises(ConfigError, match="must be a new or empty folder, but holds other files"):
        run(photos_in(tmp_path / "photos", per_class=1), out)
    assert [f.name for f in out.iterdir()] == ["mine.png"]


@pytest.mark.parametrize(
    ("photos", "out", "size", "fault"),
    [
        ("none", "out", 48, "must be a folder of photographs, but is none"),
        ("photos", "photos/crops", 48, "must be outside of the photographs"),
        ("photos", "photos", 48, "must be outside of the photographs"),
        ("photos", "file", 48, "file is a file; give another path"),
        ("empty", "out", 48, "must hold photographs, but has none"),
        ("photos", "out", 31, "--size must be 32 to 1024 pixels, but got 31"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, photos: str, out: str, size: int, fault: str) -> None:
    photos_in(tmp_path / "photos", per_class=1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=fault):
        run(tmp_path / photos, tmp_path / out, replace(SETTINGS_48, size=size))


def test_progress_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.vision.face_crops.LOG_EVERY", 2)
    lines: list[str] = []
    run(photos_in(tmp_path / "photos", per_class=2), tmp_path / "crops", log=lines.append)
    assert lines == ["2 of 4 photographs, 2 crops", "4 of 4 photographs, 4 crops"]
