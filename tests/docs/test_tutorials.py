"""Every block of the tutorials runs, in the short form that its mark gives; blocks that cannot say why."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import nas.api.measurement
import nas.api.post_training
import nas.latency.measured.timing_loop
import nas.post_training.file_timer
import search_spaces
from nas.cli.main import app
from nas.data.base import FaceData, Split
from tests.conftest import learnable_faces
from tests.data.sources import FER, write_image
from tests.docs.blocks import DOCS, ROOT, SHELL, Block, blocks
from tests.tiny_search import make_quick
from tests.vision.pictures import astronaut

TUTORIALS = [DOCS / "index.md", *sorted((DOCS / "tutorials").glob("[!i]*.md"))]
QUICK_TIMING = {"DRAFT_RUNS": 20, "FINAL_RUNS": 20, "MIN_DRAFT_SECONDS": 0.2, "DRAFT_SECONDS": 0.05}
SYNTHETIC = "nas.data.datasets.synthetic.SyntheticDataset.load"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which commands run quickly."""
    make_quick(monkeypatch)
    monkeypatch.setattr(nas.latency.measured.timing_loop, "INITIAL_REFERENCE_S", 0.1)
    for name, value in QUICK_TIMING.items():
        monkeypatch.setattr(nas.post_training.file_timer, name, value)
    for module in (nas.api.post_training, nas.api.measurement):
        monkeypatch.setattr(module, "IDLE_WAIT_S", 0.0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(search_spaces, "__path__", [*search_spaces.__path__, str(tmp_path / "search_spaces")])
    monkeypatch.setattr(sys, "path", [*sys.path])  # a factory's folder is added to it
    monkeypatch.setattr(SYNTHETIC, lambda *_, **__: learnable_faces(train=42, val=28, test=14, size=32, classes=FER))
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


@pytest.mark.slow  # all pages together
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda path: path.stem)
def test_the_blocks_of_a_tutorial_run(page: Path, folder: Path) -> None:
    faces, text = learnable_faces(train=42, val=28, test=14, size=48, classes=FER), page.read_text(encoding="utf-8")
    if "--data fer2013.csv" in text:
        _write_fer2013(folder / "fer2013.csv", faces)
    if "--data faces" in text:
        _write_images(folder, faces)
    if "photos/holiday.jpg" in text:
        _write_photographs(folder)
    names: dict[str, object] = {}
    for block in blocks(page):
        words = {word for word, _ in block.marks}
        if block.reason_not_run or block.language not in (*SHELL, "python"):
            continue
        assert words & {"as is", "file", "short"}, f"{block} must be marked, see tests/docs/blocks.py"
        if "file" in words:
            (folder / block.title).parent.mkdir(exist_ok=True)
            (folder / block.title).write_text(block.text)
        elif block.language == "python":
            exec(compile(block.text, str(block), "exec"), names)
        else:
            _run_shell(block)
    for name in [name for name in sys.modules if name in ("search_spaces.chain", "mynet")]:
        del sys.modules[name]


def _run_shell(block: Block) -> None:
    """`nas` in this process, where training is quick; everything else in a shell."""
    for line in block.short_form().splitlines():
        if line.startswith("nas "):
            result = CliRunner().invoke(app, shlex.split(line)[1:])
            assert result.exit_code == 0, f"{block}: {line}\n{result.output}\n{result.exception!r}"
        else:
            subprocess.run(["bash", "-ec", line], check=True, timeout=60, env=os.environ)


def _write_fer2013(path: Path, faces: FaceData) -> None:
    lines = ["emotion,pixels,Usage"]
    splits = {"Training": faces.train, "PublicTest": faces.val, "PrivateTest": faces.test}
    for usage, split in splits.items():
        for image, label in _pairs(split):
            lines.append(f"{label},{' '.join(map(str, image.ravel()))},{usage}")
    path.write_text("\n".join(lines) + "\n")


def _write_images(root: Path, faces: FaceData) -> None:
    """Folders `faces/SPLIT/CLASS`, and the same images in `faces.csv` with a person each seven."""
    rows = ["path,label,subject,split"]
    for name, split in {"train": faces.train, "val": faces.val, "test": faces.test}.items():
        for i, (image, label) in enumerate(_pairs(split)):
            file = write_image(root / "faces" / name / FER[label] / f"{i:04d}.png", image)
            rows.append(f"{file.relative_to(root)},{FER[label]},{name}{i // 7},{name}")
    (root / "faces.csv").write_text("\n".join(rows) + "\n")


def _write_photographs(root: Path) -> None:
    """One portrait, `photos/holiday.jpg`, and differently cut copies of it in `albums/CLASS`."""
    (root / "photos").mkdir()
    portrait = Image.fromarray(astronaut())
    portrait.save(root / "photos" / "holiday.jpg")
    for i in range(12):
        album = root / "albums" / ("happy", "sad")[i % 2]
        album.mkdir(parents=True, exist_ok=True)
        portrait.crop((5 * i, 3 * i, 400 + 5 * i, 300 + 3 * i)).save(album / f"{i}.jpg")


def _pairs(split: Split | None) -> list[tuple[np.ndarray, int]]:
    return (
        []
        if split is None
        else [(image[0], int(label)) for image, label in zip(split.images, split.labels, strict=True)]
    )
