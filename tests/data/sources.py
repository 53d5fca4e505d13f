"""Writers of small sources with known pixels, one for each form that a data set reads."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

FER = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def pixels(n: int, *, side: int = 48, seed: int = 0) -> npt.NDArray[np.uint8]:
    """[N, S, S] random bytes."""
    return np.random.default_rng(seed).integers(0, 256, (n, side, side), dtype=np.uint8)


def fer_rows(usages: Sequence[str], *, seed: int = 0) -> list[tuple[str, str, str]]:
    """(emotion, pixels, usage) of one face per usage; the emotions cycle through 0 to 6."""
    faces = pixels(len(usages), seed=seed)
    return [(str(i % 7), " ".join(map(str, faces[i].ravel())), usage) for i, usage in enumerate(usages)]


def write_fer2013(folder: Path, *, header: str = "emotion,pixels,Usage") -> Path:
    """Fourteen Training, seven PublicTest and seven PrivateTest rows; pixels are `pixels(28)`."""
    rows = fer_rows(["Training"] * 14 + ["PublicTest"] * 7 + ["PrivateTest"] * 7)
    path = folder / "fer2013.csv"
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return path


def write_image(path: Path, image: npt.NDArray[np.uint8]) -> Path:
    """An image file of [S, S] or [S, S, 3] bytes."""
    pillow = pytest.importorskip("PIL.Image", reason="image files need pillow")
    path.parent.mkdir(parents=True, exist_ok=True)
    pillow.fromarray(image).save(path)
    return path


def write_folder(root: Path, *, classes: Sequence[str] = ("Happiness", "neutral", "bored"), each: int = 12) -> Path:
    """Class folders with `each` faces of 40x40."""
    faces = iter(pixels(len(classes) * each, side=40))
    for name in classes:
        for i in range(each):
            write_image(root / name / f"{i:03d}.png", next(faces))
    return root


def write_csv(folder: Path) -> Path:
    """A table of 40 faces of 36x36 of ten subjects, without splits."""
    lines = ["Path, Label ,subject,group,valence,arousal"]
    for i, face in enumerate(pixels(40, side=36)):
        write_image(folder / "faces" / f"{i}.png", face)
        lines.append(f"faces/{i}.png,{('anger', 'sadness')[i % 2]},person{i % 10},{'ab'[i % 2]},{i / 40},-0.5")
    path = folder / "faces.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def no_source(folder: Path) -> None:
    """No source: the data set draws its own faces."""


WRITERS: dict[str, Callable[[Path], Path | None]] = {
    "csv": write_csv,
    "fer2013": write_fer2013,
    "folder": write_folder,
    "synthetic": no_source,
}
"""The writer that the contract kit calls for each member."""
