"""Files with random damage: read, or refused in one line, in bounded time."""

import gzip
import io
import random
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nas.data.images import read_images
from nas.data.loading import load_data
from nas.errors import DataError
from tests.data.sources import fer_rows, pixels

N_FILES = 400
MAX_SECONDS = 5.0
"""Of one file; the slowest takes tens of milliseconds."""


def damage(content: bytes, rng: random.Random) -> bytes:
    """One to eight random changes, half of them in the first hundred bytes, where headers are."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = rng.randrange(len(data) if rng.random() < 0.5 else min(len(data), 100))
        kind = rng.randrange(5)
        if kind == 0:
            data[at] = rng.randrange(256)
        elif kind == 1:
            data[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"))
        elif kind == 2:
            del data[at : at + rng.randrange(1, 60)]
        elif kind == 3:
            data[at:at] = rng.randbytes(rng.randrange(1, 30))
        else:
            del data[at + 1 :]
        data = data or bytearray(b"\0")
    return bytes(data)


def is_read_or_refused(read: Callable[[], object]) -> bool:
    """Whether the file was read; any error but a `DataError` of one line fails the test."""
    start, message = time.perf_counter(), None
    try:
        read()
    except DataError as error:
        message = str(error)
    assert time.perf_counter() - start < MAX_SECONDS
    assert message is None or message.isprintable()
    return message is None


def test_damaged_images_are_read_or_refused(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="image files need pillow")
    exif = image.Exif()
    exif[0x0112] = 6
    seeds = []
    for values in (pixels(1, side=40)[0], pixels(3, side=40).transpose(1, 2, 0), pixels(1)[0].astype(np.uint16) * 257):
        for form in ("PNG", "TIFF") + (("JPEG", "WEBP", "BMP", "PPM") if values.dtype == np.uint8 else ()):
            packed = io.BytesIO()
            image.fromarray(values).save(packed, form, **({"exif": exif} if form not in ("BMP", "PPM") else {}))
            seeds.append(packed.getvalue())
    rng = random.Random(0)
    path = tmp_path / "x.png"
    n_read = 0
    for i in range(N_FILES):
        path.write_bytes(damage(seeds[i % len(seeds)], rng))
        n_read += is_read_or_refused(lambda: read_images([path], size=48, channels=None))
    assert 0 < n_read < N_FILES


def test_damaged_tables_are_read_or_refused(tmp_path: Path) -> None:
    rows = fer_rows(["Training"] * 7 + ["PublicTest"] * 7)
    text = "\n".join(["emotion,pixels,Usage", *(",".join(row) for row in rows)]).encode()
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("fer2013.csv", text)
    with tarfile.open(fileobj=tarred, mode="w") as tar:
        info = tarfile.TarInfo("fer2013.csv")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    seeds = {
        "x.csv": text,
        "x.csv.gz": gzip.compress(text),
        "x.zip": zipped.getvalue(),
        "x.tar": tarred.getvalue(),
        "x.tar.gz": gzip.compress(tarred.getvalue()),
    }
    rng = random.Random(0)
    n_refused = 0
    for i in range(N_FILES // 2):
        path = tmp_path / list(seeds)[i % len(seeds)]
        path.write_bytes(damage(seeds[path.name], rng))
        n_refused += not is_read_or_refused(lambda path=path: load_data("fer2013", path, cache_dir=tmp_path / "cache"))
    assert n_refused > N_FILES / 4
