"""The join of FER+ votes to the rows of FER2013: by name, by number, by row, and proved by the labels."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nas.data.ferplus import FaceRows, join_votes
from nas.errors import DataError

HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
# FER2013's label of each of FER+'s columns: neutral, happy, surprise, sad, angry, disgust, fear.
LABEL_OF_COLUMN = (6, 3, 5, 4, 0, 1, 2)
N = 1400


def faces(*, named: bool = False) -> FaceRows:
    labels = np.random.default_rng(0).integers(0, 7, N)
    names = [f"fer{i:07d}.png" for i in range(N)]
    # The middle third is the selection split, to have more than one usage.
    usages = np.repeat([0, 1, 2], [N // 2, N // 4, N // 4])
    return FaceRows(source=Path("fer2013.csv"), labels=labels, usages=usages, names=names if named else None)


def vote_rows(rows: FaceRows, *, wrong: float = 0.3) -> list[str]:
    """A row for each face with nine votes for its label, or in a share of the rows for the next column's."""
    rng = random.Random(1)
    lines = []
    for i, (label, usage) in enumerate(zip(rows.labels, rows.usages, strict=True)):
        column = LABEL_OF_COLUMN.index(label)
        votes = ["0"] * 10
        votes[(column + 1) % 7 if rng.random() < wrong else column] = "9"
        votes[8] = "1"
        name = "" if i % 50 == 7 else f"fer{i:07d}.png"  # FER+ leaves images without a face unnamed
        lines.append(",".join([("Training", "PublicTest", "PrivateTest")[usage], name, *votes]))
    return lines


def write(folder: Path, lines: list[str], *, header: str = HEADER) -> Path:
    path = folder / "fer2013new.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8-sig")
    return path


def shuffled(lines: list[str]) -> list[str]:
    return random.Random(2).sample(lines, len(lines))


def test_rows_in_order_are_joined_by_row_and_the_agreement_is_told(tmp_path: Path) -> None:
    rows = faces()
    votes, note = join_votes(rows, write(tmp_path, vote_rows(rows, wrong=0)))
    assert votes.sum(axis=1).tolist() == [10.0] * N
    assert note == "FER+ votes were joined by row; labels agree with FER2013's on 100.0% of the kept faces"


def test_rows_in_another_order_are_joined_by_the_number_in_the_image_name(tmp_path: Path) -> None:
    rows = faces()
    lines = vote_rows(rows)
    expected, _ = join_votes(rows, write(tmp_path, lines))
    votes, note = join_votes(rows, write(tmp_path, shuffled(lines)))
    named = np.arange(N) % 50 != 7
    assert np.array_equal(votes[named], expected[named])
    assert not votes[~named].any()
    assert "joined by the number in the image name" in note


def test_image_names_of_both_files_are_joined(tmp_path: Path) -> None:
    rows = faces(named=True)
    lines = vote_rows(rows)
    expected, _ = join_votes(faces(), write(tmp_path, lines))
    order = np.random.default_rng(3).permutation(N)
    moved = FaceRows(
        source=rows.source,
        labels=rows.labels[order],
        usages=rows.usages[order],
        names=[(rows.names or [])[i] for i in order],
    )
    votes, note = join_votes(moved, write(tmp_path, shuffled(lines)))
    named = order % 50 != 7
    assert np.array_equal(votes[named], expected[order][named])
    assert "joined by image name" in note


def test_rows_of_faces_in_another_order_are_refused_with_the_agreement(tmp_path: Path) -> None:
    rows = faces()
    path = write(tmp_path, vote_rows(rows))
    moved = FaceRows(source=rows.source, labels=np.random.default_rng(4).permutation(rows.labels), usages=rows.usages)
    with pytest.raises(
        DataError, match=r"must agree on at least 50% of the faces, but agree on 1\d\.\d%; use the orig"
    ):
        join_votes(moved, path)


def test_unnamed_rows_in_another_order_are_refused_with_the_agreement(tmp_path: Path) -> None:
    rows = faces()
    lines = [line.replace(line.split(",")[1], "", 1) if ".png" in line else line for line in vote_rows(rows)]
    with pytest.raises(DataError, match=r"agree on at least 50% of the faces, but agree on 1\d\.\d%"):
        join_votes(rows, write(tmp_path, shuffled(lines)))


def test_row_that_is_missing_in_the_middle_is_found(tmp_path: Path) -> None:
    """From the missing row on every face has its neighbour's votes, and the agreement of all is still above half."""
    rows = faces()
    lines = [",".join(["Training", "", *line.split(",")[2:]]) for line in vote_rows(rows, wrong=0)]
    training = FaceRows(source=rows.source, labels=rows.labels, usages=np.zeros(N, np.int64))
    moved = [*lines[:850], *lines[851:], lines[850]]
    with pytest.raises(
        DataError, match=r"must agree in all parts, but agree on \d\d\.\d% of the faces from row 902 to"
    ):
        join_votes(training, write(tmp_path, moved))


def test_fault_of_one_usage_is_found_among_the_rows_of_another(tmp_path: Path) -> None:
    rows = faces()
    rows = replace(rows, usages=np.where(np.arange(N) % 3 == 0, 1, 0))
    lines = [line.replace(",fer", ",") for line in vote_rows(rows)]  # names without numbers: joined by row
    join_votes(rows, write(tmp_path, lines))
    of_public = [i for i, line in enumerate(lines) if line.startswith("PublicTest")]
    turned = list(lines)
    for i, j in zip(of_public, of_public[::-1], strict=True):
        turned[i] = lines[j]
    with pytest.raises(DataError, match="must agree in all parts"):
        join_votes(rows, write(tmp_path, turned))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda lines: [lines[1], lines[0].replace("fer0000000", "fer0001399"), *lines[2:]],
            "'fer0001399.png' fits no",
        ),
        (lambda lines: [lines[1], lines[0], *lines[2:-1], lines[0]], "'fer0000000.png' fits no row"),
        (
            lambda lines: [lines[0].replace(",1,0", ",nan,0"), *lines[1:]],
            "row 2: numbers of votes must be from 0 to 1000",
        ),
        (
            lambda lines: [lines[0].replace(",1,0", ",-1,0"), *lines[1:]],
            "row 2: numbers of votes must be from 0 to 1000",
        ),
    ],
)
def test_broken_names_and_votes_are_named(tmp_path: Path, change, reason: str) -> None:
    rows = faces()
    with pytest.raises(DataError, match=reason):
        join_votes(rows, write(tmp_path, change(vote_rows(rows))))


def test_foreign_and_repeated_image_names_are_refused(tmp_path: Path) -> None:
    rows = faces(named=True)
    lines = vote_rows(rows)
    with pytest.raises(DataError, match="must name each image once, but 1 names repeat"):
        join_votes(rows, write(tmp_path, [*lines, lines[0]]))
    foreign = [line.replace("fer0", "img0") for line in lines]
    with pytest.raises(DataError, match=f"names only 0 of its {N} images"):
        join_votes(rows, write(tmp_path, foreign))


def test_few_faces_are_no_evidence(tmp_path: Path) -> None:
    rows = faces()
    few = FaceRows(source=rows.source, labels=rows.labels[:7], usages=rows.usages[:7])
    _, note = join_votes(few, write(tmp_path, vote_rows(rows)[:7]))
    assert "7 faces are too few to check the order of rows" in note
