"""FER2013 in both releases, and FER+; published figures on the real file."""

import gzip
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from nas.data.base import FaceData, Split
from nas.data.datasets.fer2013 import DATASET
from nas.data.ferplus import relabel
from nas.data.quality_check import check_quality
from nas.errors import DataError
from tests.data.sources import FER, fer_rows, pixels, write_fer2013, write_image


def load(path: Path | None, **options: str) -> FaceData:
    return DATASET.load(path, cache=(path or Path()).parent / "cache", options=options)


def write(path: Path, header: str, rows: list[tuple[str, ...]]) -> Path:
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return path


def test_pixels_labels_and_usages_are_read_exactly(tmp_path: Path) -> None:
    data = load(write_fer2013(tmp_path))
    assert data.classes == FER
    assert data.test is not None
    expected = pixels(28)[:, None]
    assert np.array_equal(np.concatenate([s.images for s in (data.train, data.val, data.test)]), expected)
    assert np.array_equal(data.train.labels, np.arange(14) % 7)
    assert (len(data.train), len(data.val), len(data.test)) == (14, 7, 7)
    assert (data.val_name, data.test_name) == ("PublicTest", "PrivateTest")


def test_columns_may_have_any_order_spaces_quotes_and_a_byte_order_mark(tmp_path: Path) -> None:
    plain = load(write_fer2013(tmp_path))
    rows = fer_rows(["Training"] * 14 + ["PublicTest"] * 7 + ["PrivateTest"] * 7)
    other = tmp_path / "icml" / "icml_face_data.csv"
    other.parent.mkdir()
    write(other, "\ufeffemotion, Usage, pixels", [(e, u, f'"{p} "') for e, p, u in rows])
    assert load(other.parent).digest == plain.digest


def test_packed_files_equal_the_plain_one(tmp_path: Path) -> None:
    path = write_fer2013(tmp_path)
    (tmp_path / "fer2013.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    with zipfile.ZipFile(tmp_path / "fer2013.zip", "w") as archive:
        archive.write(path, "fer2013.csv")
    with tarfile.open(tmp_path / "fer2013.tar.gz", "w:gz") as tar:
        tar.add(path, "fer2013/fer2013.csv")
    digests = {load(tmp_path / name).digest for name in ("fer2013.csv.gz", "fer2013.zip", "fer2013.tar.gz")}
    assert digests == {load(path).digest}


def test_without_private_rows_there_is_no_test_split(tmp_path: Path) -> None:
    data = load(write(tmp_path / "f.csv", "emotion,pixels,Usage", fer_rows(["Training"] * 7 + ["PublicTest"] * 7)))
    assert data.test is None
    assert data.test_name == "no PrivateTest rows in f.csv"


def test_changed_file_is_read_again(tmp_path: Path) -> None:
    first = load(write_fer2013(tmp_path))
    rows = fer_rows(["Training"] * 7 + ["PublicTest"] * 7, seed=1)
    second = load(write(tmp_path / "fer2013.csv", "emotion,pixels,Usage", rows))
    assert len(second.train) == 7
    assert second.digest != first.digest


def test_broken_cache_file_is_written_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_fer2013(tmp_path)
    first = load(path)
    (entry,) = (tmp_path / "cache").iterdir()
    entry.write_bytes(entry.read_bytes()[:1000])
    assert load(path).digest == first.digest
    assert "is read again" in caplog.text


GOOD = " ".join(["7"] * 2304)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("0", GOOD[:-2], "Training"), r"row 3: an image must have 2304 pixels, but got 2303; correct or remove"),
        (("0", GOOD + " 1", "Training"), r"row 3: an image must have 2304 pixels, but got 2305"),
        (("0", GOOD[:-1] + "256", "Training"), r"row 3: pixels must be whole numbers from 0 to 255, but got '256'"),
        (("0", GOOD[:-1] + "1007", "Training"), r"row 3: pixels must be .* but got '1007'"),
        (("0", GOOD[:-1] + "x", "Training"), r"row 3: pixels must be .* but got 'x'"),
        (("0", GOOD[:-1] + "-1", "Training"), r"row 3: pixels must be .* but got '-1'"),
        (("7", GOOD, "Training"), r"row 3: emotion must be 0 to 6 or one of angry, .*, but got '7'"),
        (("0", GOOD, "Validation"), r"row 3: usage must be one of .*, but got 'Validation'"),
        (("0", GOOD), r"row 3: a row must have 3 cells, as the header, but has 2"),
    ],
)
def test_broken_row_is_named_with_its_reason(tmp_path: Path, row: tuple[str, ...], reason: str) -> None:
    rows: list[tuple[str, ...]] = [("0", GOOD, "Training"), row, ("1", GOOD, "PublicTest")]
    with pytest.raises(DataError, match=r"f\.csv, " + reason):
        load(write(tmp_path / "f.csv", "emotion,pixels,Usage", rows))


def test_missing_column_usage_and_rows(tmp_path: Path) -> None:
    fault = "row 1: the header must name the columns emotion, pixels, but emotion is missing from id, pixels; .* labels"
    with pytest.raises(DataError, match=fault):
        load(write(tmp_path / "a.csv", "id,pixels", [("0", GOOD)]))
    with pytest.raises(DataError, match="has none of PublicTest"):
        load(write(tmp_path / "b.csv", "emotion,pixels,Usage", [("0", GOOD, "Training")]))
    with pytest.raises(DataError, match="must hold rows of faces, but has only a header"):
        load(write(tmp_path / "c.csv", "emotion,pixels,Usage", []))


def test_paths_without_fer2013_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"needs the path of fer2013\.csv"):
        load(None)
    with pytest.raises(DataError, match="has neither"):
        load(tmp_path)
    (tmp_path / "x.zip").write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot be unpacked"):
        load(tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "y.zip", "w") as archive:
        archive.writestr("train/angry/Training_1.jpg", b"")
    with pytest.raises(DataError, match="unpack it and give the path of the folder"):
        load(tmp_path / "y.zip")


def write_release(root: Path, *, private: bool = True) -> Path:
    """The folder release, with PNG in place of JPEG so that pixels are exact."""
    faces = iter(pixels(28))
    kinds = [("train", "Training")] * 2 + [("test", "PublicTest")] + [("test", "PrivateTest")] * private
    for number, (part, usage) in enumerate(kinds):
        for name in FER:
            write_image(root / part / name / f"{usage}_{number}.png", next(faces))
    return root


def test_folder_release_is_split_by_prefix(tmp_path: Path) -> None:
    data = DATASET.load(write_release(tmp_path / "fer"), cache=tmp_path / "cache", options={})
    assert data.test is not None
    assert (len(data.train), len(data.val), len(data.test)) == (14, 7, 7)
    # The 21st to 27th face were written as PrivateTest, one per class in FER2013's order.
    order = np.argsort(data.test.labels)
    assert np.array_equal(data.test.images[order, 0], pixels(28)[21:])
    assert "JPEG" in data.notes[0]


def test_folder_release_without_private_images(tmp_path: Path) -> None:
    data = DATASET.load(write_release(tmp_path / "fer", private=False), cache=tmp_path / "cache", options={})
    assert data.test is None
    assert data.test_name == "no PrivateTest files in fer/test"


def test_folder_release_errors(tmp_path: Path) -> None:
    root = write_release(tmp_path / "fer")
    with pytest.raises(DataError, match="is a folder of images"):
        DATASET.load(root, cache=tmp_path, options={"labels": "ferplus"})
    write_image(root / "test" / "angry" / "im0.png", pixels(1)[0])
    with pytest.raises(
        DataError, match=r"im0\.png: the file name must start with Training_, PublicTest_, PrivateTest_"
    ):
        DATASET.load(root, cache=tmp_path, options={})
    (root / "test" / "angry" / "im0.png").unlink()
    write_image(root / "test" / "bored" / "PublicTest_1.png", pixels(1)[0])
    with pytest.raises(DataError, match="the folder must be named after one of angry, "):
        DATASET.load(root, cache=tmp_path, options={})


# Votes for neutral happiness surprise sadness anger disgust fear contempt unknown NF, and the label of majority mode.
VOTES = [
    ("4,0,0,1,3,2,0,0,0,0", None),  # 4 of the 9 votes left are no majority
    ("6,0,1,1,0,0,0,0,2,0", "neutral"),  # 6 of 8
    ("5,0,0,0,5,0,0,0,0,0", None),  # half of the votes is not more than half
    ("0,0,0,0,0,0,0,0,9,1", None),  # unknown
    ("0,0,0,0,0,0,0,0,0,10", None),  # not a face
    ("1,0,0,1,1,1,0,6,0,0", "contempt"),  # single votes are dropped: 6 of 6
    ("0,1,1,1,1,1,1,1,1,1", None),  # nothing left
]


def ferplus_file(folder: Path, usages: list[str], votes: list[str]) -> Path:
    header = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    path = folder / "fer2013new.csv"
    return write(path, header, [(u, "fer.png", v) for u, v in zip(usages, votes, strict=True)])


def test_ferplus_majority_rule_and_shares(tmp_path: Path) -> None:
    usages = ["Training"] * 7 + ["PublicTest"] * 7
    votes = [v for v, _ in VOTES] * 2
    path = write(tmp_path / "fer2013.csv", "emotion,pixels,Usage", fer_rows(usages))
    # FER+ lists PrivateTest rows too; a fer2013.csv without them still fits.
    ferplus_file(tmp_path, [*usages, "PrivateTest"], [*votes, votes[0]])
    data = load(path, labels="ferplus")
    assert data.classes == (*FER, "contempt")
    assert data.name == "ferplus"
    assert [data.classes[i] for i in data.train.labels] == [name for _, name in VOTES if name]
    assert np.array_equal(data.train.images[:, 0], pixels(14)[[1, 5]])
    assert data.train.soft_labels is not None
    # Shares among the eight expressions: in the first row that is kept, the two votes for "unknown" do not count.
    assert np.array_equal(data.train.soft_labels, np.eye(8, dtype=np.float32)[[6, 7]])
    assert "kept are 2 of 7 Training faces, 2 of 7 PublicTest faces" in data.notes[0]


def test_ferplus_votes_beside_the_labels(tmp_path: Path) -> None:
    usages = ["Training"] * 70 + ["PublicTest"] * 7
    votes = ["0,0,0,0,9,0,0,0,1,0", "0,0,0,0,0,9,0,0,1,0", "0,0,0,0,0,0,9,0,0,1", "0,9,0,0,0,0,0,0,0,0",
             "0,0,0,9,0,0,0,0,0,0", "0,0,9,0,0,0,0,0,0,0", "3,0,0,0,0,0,0,1,6,0"]  # fmt: skip
    path = write(tmp_path / "fer2013.csv", "emotion,pixels,Usage", fer_rows(usages))
    own = load(path)
    file = ferplus_file(tmp_path, usages, votes * 11)
    for _ in range(2):  # the second time from the cache
        data = load(path, ferplus=str(file))
        assert (data.name, data.classes, data.digest) == ("fer2013", tuple(FER), own.digest)
        assert np.array_equal(data.train.labels, own.train.labels)
        assert data.vote_classes == (*FER, "contempt", "unknown", "nf")
        assert data.train.votes is not None
        assert data.val.votes is not None
        assert (data.train.votes.shape, data.val.votes.shape) == ((70, 10), (7, 10))
        # The last row in FER+'s order of columns: neutral 3, contempt 1, unknown 6.
        assert data.train.votes[6].tolist() == [0, 0, 0, 0, 0, 0, 3, 1, 6, 0]
        assert data.train.soft_labels is None
        assert "FER+ votes were joined by" in data.notes[0]
    assert own.vote_classes == ()
    with pytest.raises(DataError, match=r"gone\.csv, which does not exist"):
        load(path, ferplus=str(tmp_path / "gone.csv"))


def test_ferplus_shares_of_mixed_votes() -> None:
    split = Split(images=np.zeros((1, 1, 48, 48), np.uint8), labels=np.zeros(1, np.int64))
    # angry disgust fear happy sad surprise neutral contempt unknown nf
    soft = relabel(split, np.array([[6, 0, 2, 0, 0, 0, 1, 0, 1, 0]], np.float32)).soft_labels
    assert soft is not None
    assert soft[0].tolist() == [0.75, 0, 0.25, 0, 0, 0, 0, 0]


def test_ferplus_errors(tmp_path: Path) -> None:
    path = write_fer2013(tmp_path)
    with pytest.raises(DataError, match=r"fer2013new\.csv, which does not exist; .* ferplus=PATH"):
        load(path, labels="ferplus")
    ferplus_file(tmp_path, ["Training"], ["9,0,0,0,0,0,0,0,0,0"])
    with pytest.raises(DataError, match="has 1 of usage Training, not 14"):
        load(path, labels="ferplus")
    other = ferplus_file(tmp_path, ["Training"], ["9,0,0,x,0,0,0,0,0,0"]).rename(tmp_path / "votes.csv")
    with pytest.raises(DataError, match=r"votes\.csv, row 2: the row must hold numbers of votes for angry, "):
        load(path, labels="ferplus", ferplus=str(other))
    with pytest.raises(DataError, match="option labels='rafdb' of data set fer2013 does not fit"):
        load(path, labels="rafdb")


def competition_file(folder: Path, *, n: int = 140) -> Path:
    rows = [row[:2] for row in fer_rows(["Training"] * n)]
    return write(folder / "train.csv", "emotion,pixels", rows)


def test_competition_file_without_usages_gets_a_selection_split(tmp_path: Path) -> None:
    data = load(competition_file(tmp_path))
    # A tenth of the twenty faces of each class.
    assert np.bincount(data.val.labels).tolist() == [2] * 7
    assert np.bincount(data.train.labels).tolist() == [18] * 7
    both = {image.tobytes() for image in np.concatenate([data.train.images, data.val.images])}
    assert both == {image.tobytes() for image in pixels(140)[:, None]}
    assert (data.test, data.val_name) == (None, "a tenth of Training")
    assert "train.csv has no column of usages: 14 of 140 faces were split off train for selection" in data.notes[0]
    again = DATASET.load(tmp_path, cache=tmp_path / "other", options={})
    assert again.digest == data.digest


def test_competition_file_with_ferplus_keeps_soft_labels(tmp_path: Path) -> None:
    path = competition_file(tmp_path)
    votes = ["0,0,0,0,9,0,0,0,1,0", "0,0,0,0,0,9,0,0,1,0", "0,0,0,0,0,0,9,0,0,1", "0,9,0,0,0,0,0,0,0,0",
             "0,0,0,9,0,0,0,0,0,0", "0,0,9,0,0,0,0,0,0,0", "9,0,0,0,0,0,0,0,0,0"]  # fmt: skip
    ferplus_file(tmp_path, ["Training"] * 140 + ["PublicTest"], [*votes * 20, votes[0]])
    data = load(path, labels="ferplus")
    assert (len(data.train), len(data.val)) == (126, 14)
    for split in (data.train, data.val):
        assert split.soft_labels is not None
        assert np.array_equal(split.soft_labels.argmax(axis=1), split.labels)
    # Faces whose votes are in another order disagree in 6 of 7 cases and more.
    ferplus_file(tmp_path, ["Training"] * 140 + ["PublicTest"], [*(votes[1:] + votes[:1]) * 20, votes[0]])
    with pytest.raises(DataError, match=r"must agree on at least 50% of the faces, but agree on 0\.0%"):
        load(path, labels="ferplus")


def test_competition_test_file_without_labels_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "test.csv", "pixels", [(GOOD,)])
    with pytest.raises(
        DataError, match=r"emotion is missing from pixels; Kaggle's test\.csv has no labels: give fer2013"
    ):
        load(path)


def test_one_class_is_refused(tmp_path: Path) -> None:
    rows = [("3", GOOD, usage) for usage in ("Training", "PublicTest")]
    with pytest.raises(DataError, match="must hold training faces of at least two classes, but has only 'happy'"):
        load(write(tmp_path / "f.csv", "emotion,pixels,Usage", rows))


@pytest.mark.parametrize(
    ("emotion", "face", "reason"),
    [
        ("9" * 5000, GOOD, r"emotion must be 0 to 6 or one of .* but got '9{40}'"),
        ("0", GOOD[:-1] + "9" * 5000, r"pixels must be whole numbers from 0 to 255, but got '9{40}'"),
    ],
)
def test_numbers_of_thousands_of_digits_are_refused(tmp_path: Path, emotion: str, face: str, reason: str) -> None:
    with pytest.raises(DataError, match=rf"row 2: {reason}"):
        load(write(tmp_path / "f.csv", "emotion,pixels,Usage", [(emotion, face, "Training")]))


@pytest.mark.timeout(20)
def test_pipe_and_device_are_refused_unread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fer2013.csv")
    for path in (tmp_path / "fer2013.csv", Path("/dev/zero")):
        with pytest.raises(
            DataError, match=r"must be a regular file, but is a (pipe|device); give the path of fer2013"
        ):
            DATASET.load(path, cache=tmp_path / "cache", options={})


def test_folder_one_level_too_high_names_the_right_one(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    write_fer2013(tmp_path / "archive")
    with pytest.raises(DataError, match=r"has neither; it looks one level too high: give .*archive$"):
        load(tmp_path)


def test_hidden_files_of_the_folder_release_are_left_out(tmp_path: Path) -> None:
    expected = DATASET.load(write_release(tmp_path / "fer"), cache=tmp_path / "cache", options={})
    for name in ("train/.ipynb_checkpoints/Training_9.png", "train/angry/._Training_0.png", "test/__MACOSX/x.png"):
        write_image(tmp_path / "fer" / name, pixels(1, seed=7)[0])
    data = DATASET.load(tmp_path / "fer", cache=tmp_path / "cache", options={})
    assert data.digest == expected.digest
    assert data.notes[1] == "hidden and system entries were left out: ._* (1), .ipynb_checkpoints (1), __MACOSX (1)"


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """$NAS_FER2013, else written from the packed files of the shared data."""
    if given := os.environ.get("NAS_FER2013"):
        return Path(given)
    packed = request.getfixturevalue("shared_data") / "fer2013"
    folder = tmp_path_factory.mktemp("fer2013")
    subprocess.run([sys.executable, "write_kaggle_csv.py", folder], cwd=packed, check=True)
    return folder / "fer2013.csv"


@pytest.mark.data
@pytest.mark.slow
def test_real_file_has_the_published_figures(real: Path, tmp_path: Path) -> None:
    data = DATASET.load(real, cache=tmp_path, options={})
    # Class counts as published with the challenge, angry to neutral.
    assert np.bincount(data.train.labels).tolist() == [3995, 436, 4097, 7215, 4830, 3171, 4965]
    assert np.bincount(data.val.labels).tolist() == [467, 56, 496, 895, 653, 415, 607]
    start = time.perf_counter()
    again = DATASET.load(real, cache=tmp_path, options={})
    assert time.perf_counter() - start < 1
    assert again.digest == data.digest
    result = check_quality(data)
    assert result.duplicates_across["val", "train"] == 280
    assert sum(result.constant_images.values()) == 12
    # The groups counted again from the pixels, without hashes.
    faces = Counter(image.tobytes() for split in (data.train, data.val) for image in split.images)
    assert result.duplicate_groups == sum(count > 1 for count in faces.values())


@pytest.mark.data
@pytest.mark.slow
def test_real_ferplus_majority_keeps_the_known_numbers(real: Path, tmp_path: Path) -> None:
    data = DATASET.load(real, cache=tmp_path, options={"labels": "ferplus"})
    # The numbers that the reference code of FER+ keeps in majority mode.
    assert (len(data.train), len(data.val)) == (25_060, 3_199)
