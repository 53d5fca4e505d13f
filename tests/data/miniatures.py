"""Miniature copies of published sets: their layouts, with drawn faces of a few pixels instead of their pictures."""

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nas.data.face_drawing import render_faces
from nas.data.synthetic_subjects import draw_face_parameters, draw_subjects
from tests.data.sources import write_image

FACES = 240
Picture = npt.NDArray[np.uint8]


@functools.cache
def drawn_faces(size: int = 40) -> npt.NDArray[np.uint8]:
    """[N, S, S] grey faces of thirty persons, with noise that makes each one different."""
    rng = np.random.default_rng(7)
    persons, labels = np.arange(FACES) % 30, np.arange(FACES) % 7
    parameters, _ = draw_face_parameters(draw_subjects(30, rng), persons, labels, rng)
    luminance, _ = render_faces(parameters, size=size)
    noisy = luminance + rng.normal(0, 0.02, luminance.shape)
    return np.clip(noisy * 255, 0, 255).astype(np.uint8)


def pictures(*, colour: bool = True, shape: tuple[int, int] = (40, 40)) -> Iterator[Picture]:
    """Faces without end, each one different, in the middle of pictures of this height and width."""
    number = 0
    while True:
        face = drawn_faces()[number % FACES].copy()
        face[0, :2] = number % 256, number // 256  # no two are equal
        padded = np.zeros(shape, np.uint8)
        top, left = (shape[0] - 40) // 2, (shape[1] - 40) // 2
        padded[top : top + 40, left : left + 40] = face
        yield np.stack([padded, padded // 2, padded // 3], axis=-1) if colour else padded
        number += 1


def write_text(path: Path, lines: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_rafdb(root: Path, *, n_classes: int = 7, each: tuple[int, int] = (3, 1)) -> Path:
    """The basic part: `each` training and test faces of a class, with attributes that follow the class."""
    faces, lines = pictures(), []
    for split, count, digits in (("train", each[0], 5), ("test", each[1], 4)):
        for i in range(n_classes * count):
            stem, label = f"{split}_{i + 1:0{digits}d}", i % n_classes + 1
            write_image(root / "Image" / "aligned" / f"{stem}_aligned.jpg", next(faces))
            landmarks = [f"{x}.5\t{x}.25" for x in range(5)]
            attributes = [str(label % 2), str(label % 3), str(label % 5)]
            write_text(root / "Annotation" / "manual" / f"{stem}_manu_attri.txt", [*landmarks, *attributes])
            lines.append(f"{stem}.jpg {label}")
    write_text(root / "EmoLabel" / "list_patition_label.txt", lines)
    return root


def write_rafdb_folders(root: Path) -> Path:
    """The re-upload on Kaggle, with folders 1 to 7."""
    faces = pictures()
    for split, count in (("train", 3), ("test", 1)):
        for label in range(1, 8):
            for i in range(count):
                write_image(root / split / str(label) / f"{split}_{label}{i}_aligned.jpg", next(faces))
    return root


def write_affectnet(root: Path) -> Path:
    """The release of 2021: three training faces and one of val for each label 0 to 10; arrays hold strings."""
    faces = pictures()
    number = 0
    for part, count in (("train_set", 3), ("val_set", 1)):
        (root / part / "annotations").mkdir(parents=True)
        for label in range(11):
            affect = ("-2", "-2") if label > 7 else (f"{label / 10}", f"{-label / 10}")
            for _ in range(count):
                write_image(root / part / "images" / f"{number}.jpg", next(faces))
                for kind, value in zip(("exp", "val", "aro"), (str(label), *affect), strict=True):
                    np.save(root / part / "annotations" / f"{number}_{kind}.npy", np.array(value))
                np.save(root / part / "annotations" / f"{number}_lnd.npy", np.zeros(136))
                number += 1
    return root


def write_affectnet_lists(root: Path, *, header: bool = True) -> Path:
    """The release of 2017; each face is in the lower right part of a picture of 80x60."""
    columns = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
    faces = pictures()
    for table, count in (("training", 3), ("validation", 1)):
        lines = [columns] if header or table == "training" else []
        for label in range(11):
            for i in range(count):
                name = f"{label}/{table}{i}.png"
                picture = np.full((60, 80, 3), 255, np.uint8)
                picture[20:, 40:] = next(faces)
                write_image(root / "Manually_Annotated_Images" / name, picture)
                affect = "-2,-2" if label > 7 else f"{label / 10},{-label / 10}"
                box = "NULL,NULL,NULL,NULL" if label > 7 else "40,20,40,40"
                lines.append(f"{name},{box},1.5;2.5;3.5,{label},{affect}")
        write_text(root / "Manually_Annotated_file_lists" / f"{table}.csv", lines)
    return root


def write_ferplus(root: Path) -> Path:
    """Faces with a majority for each of the ten columns, in their order, and one without a majority in each part."""
    faces = pictures(colour=False)
    number = 0
    for part, count in (("Train", 3), ("Valid", 1), ("Test", 1)):
        lines = []
        for column in range(11):
            for _ in range(count):
                votes = [0] * 10
                if column < 10:
                    votes[column], votes[(column + 1) % 8] = 7, 3
                else:
                    votes[0] = votes[1] = 5
                name = f"fer{number:07d}.png"
                write_image(root / f"FER2013{part}" / name, next(faces))
                lines.append(f'{name},"(0, 0, 48, 48)",{",".join(map(str, votes))}')
                number += 1
        write_text(root / f"FER2013{part}" / "label.csv", [*lines, ',"(0, 0, 48, 48)",0,0,0,0,0,0,0,0,0,10'])
    return root


def write_ckplus(root: Path, *, persons: int = 6) -> Path:
    """The release: a labelled sequence of five frames for each person and label 1 to 7, and one without a label."""
    faces = pictures(colour=False, shape=(49, 64))
    for person in range(persons):
        for sequence in range(1, 9):
            folder = f"S{person + 5:03d}/{sequence:03d}"
            for frame in range(1, 6):
                name = f"{folder.replace('/', '_')}_{frame:08d}.png"
                write_image(root / "cohn-kanade-images" / folder / name, next(faces))
            (root / "Emotion" / folder).mkdir(parents=True)
            if sequence < 8:
                file = f"{folder.replace('/', '_')}_00000005_emotion.txt"
                write_text(root / "Emotion" / folder / file, [f"   {sequence}.0000000e+00"])
    return root


def write_ck48(root: Path, *, persons: int = 6) -> Path:
    """CK+48: three frames of each person in each class folder."""
    faces = pictures(colour=False)
    for name in ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise"):
        for person in range(persons):
            for frame in range(3):
                write_image(root / name / f"S{person + 10:03d}_004_{frame + 15:08d}.png", next(faces))
    return root


def write_jaffe(root: Path) -> Path:
    """One picture of each expression of six persons."""
    faces = pictures(colour=False)
    for i, person in enumerate(("KA", "KL", "KM", "KR", "MK", "NA")):
        for j, code in enumerate(("AN", "DI", "FE", "HA", "NE", "SA", "SU")):
            write_image(root / f"{person}.{code}{j % 3 + 1}.{7 * i + j + 1}.tiff", next(faces))
    return root


def write_kdef(root: Path) -> Path:
    """Both sessions of four persons, straight and one half profile, and a misnamed picture."""
    faces = pictures(shape=(76, 56))
    for person in ("F01", "F02", "M01", "M02"):
        for session in "AB":
            for code in ("AF", "AN", "DI", "HA", "NE", "SA", "SU"):
                for view in ("S", "HL"):
                    stem = f"{session}{person}{code}{view}"
                    write_image(root / f"{session}{person}" / f"{stem}.JPG", next(faces))
    write_image(root / "AF01" / "AF01SUX.JPG", next(faces))
    return root


def write_rafd(root: Path) -> Path:
    """Five persons, frontal and one half profile, the three directions of the gaze."""
    faces = pictures(shape=(102, 68))
    codes = ("angry", "contemptuous", "disgusted", "fearful", "happy", "neutral", "sad", "surprised")
    people = (("01", "Caucasian_female"), ("02", "Caucasian_male"), ("05", "Caucasian_male"), ("30", "Moroccan_male"),
              ("64", "Caucasian_female"))  # fmt: skip
    for number, about in people:
        for code in codes:
            for angle, gaze in (("090", "frontal"), ("090", "left"), ("045", "frontal")):
                write_image(root / f"Rafd{angle}_{number}_{about}_{code}_{gaze}.jpg", next(faces))
    return root


def write_expw(root: Path) -> Path:
    """Photographs of 100x60 with two faces side by side: the left one of label i % 7, the right one of label 6."""
    faces, lines = pictures(), []
    for i in range(42):
        photograph = np.full((60, 100, 3), 255, np.uint8)
        photograph[10:50, 5:45], photograph[15:55, 55:95] = next(faces), next(faces)
        name = f"happy_actor_{i}.png"
        write_image(root / "image" / "origin" / name, photograph)
        lines += [f"{name} 0 10 5 45 50 {20 + i}.5 {i % 7}", f"{name} 1 15 55 95 55 60.25 6"]
    write_text(root / "label" / "label.lst", lines)
    return root


FILMS = ("Airheads", "Unknown_Film", "Se7en", "21", "Notting_Hill")
EXPRESSIONS = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")


def write_sfew(root: Path) -> Path:
    """Stills of five films in Train and of two others in Val."""
    faces = pictures(shape=(57, 72))
    for part, films in (("Train", FILMS), ("Val", ("Twilight", "Hangover"))):
        for name in EXPRESSIONS:
            for i, film in enumerate(films):
                write_image(root / part / name / f"{film}_{i:05d}9240_{i:08d}.png", next(faces))
    return root


def write_afew(root: Path) -> Path:
    """Frames of videos of AFEW, whose files say the class; a third of them is empty."""
    faces = pictures()
    video = 0
    for part, folder, count in (("Train_AFEW", "AlignedFaces_LBPTOP_Points", 3),
                                ("Val_AFEW", "AlignedFaces_LBPTOP_Points_Val", 1)):  # fmt: skip
        for name in EXPRESSIONS:
            for _ in range(count):
                video += 1
                (root / part / name).mkdir(parents=True, exist_ok=True)
                (root / part / name / f"{video:09d}.avi").write_bytes(b"")
                for frame in range(6):
                    write_image(root / part / folder / "Faces" / f"{video:09d}" / f"{frame:03d}.jpg", next(faces))
    return root


def write_fairface(root: Path) -> Path:
    """Faces of each age, of all races in turn."""
    ages = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")
    races = ("East Asian", "Indian", "Black", "White", "Middle Eastern", "Latino_Hispanic", "Southeast Asian")
    faces = pictures()
    for part, count in (("train", 3), ("val", 1)):
        lines = ["file,age,gender,race,service_test"]
        for i in range(len(ages) * count):
            write_image(root / part / f"{i + 1}.jpg", next(faces))
            values = (ages[i % 9], ("Male", "Female")[i % 2], races[i % 7], str(bool(i % 3)))
            lines.append(",".join((f"{part}/{i + 1}.jpg", *values)))
        write_text(root / f"fairface_label_{part}.csv", lines)
    return root


PUBLISHED: dict[str, Callable[[Path], Path]] = {
    "affectnet": write_affectnet,
    "ckplus": write_ckplus,
    "expw": write_expw,
    "fairface": write_fairface,
    "ferplus": write_ferplus,
    "jaffe": write_jaffe,
    "kdef": write_kdef,
    "rafd": write_rafd,
    "rafdb": write_rafdb,
    "sfew": write_sfew,
}
"""The writer of each published set's main layout."""
OTHER_FORMS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "afew": ("sfew", write_afew),
    "affectnet lists": ("affectnet", write_affectnet_lists),
    "ck48": ("ckplus", write_ck48),
    "rafdb folders": ("rafdb", write_rafdb_folders),
}
"""Further layouts: the data set that reads each, and its writer."""
