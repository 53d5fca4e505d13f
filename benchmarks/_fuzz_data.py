"""Configurations, tables and pictures, and the functions that read them."""

import gzip
import io
import random
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._fuzz_base import require
from benchmarks._fuzz_mutation import Files
from nas.config import make_config, read_config, read_run_config
from nas.data.base import FaceData
from nas.data.images import read_images
from nas.data.loading import load_data


def configs() -> Sequence[Files]:
    full = make_config(
        target="jetson",
        budget="30m",
        max_latency="5ms",
        teacher=("a.onnx",),
        objectives=("accuracy", "latency", "size"),
    )
    tables = b'[search]\ntarget = "cpu"\ntrials = 3\ndata_options = { size = "48" }\n'
    tables += b"[training]\nepochs = 2.5\nrungs = [0.5, 1]\n"
    flat = b'target = "jetson"\nbudget = "4h"\nmax_latency = "5ms"\nseed = 7\n'
    return [{"config.toml": text} for text in (full.to_toml().encode(), tables, flat)]


def reread_config(folder: Path, rng: random.Random) -> None:
    config = rng.choice((read_config, read_run_config))(folder / "config.toml")
    (folder / "again.toml").write_text(config.to_toml(), encoding="utf-8")
    require(
        not read_config(folder / "again.toml").differences(config), "a configuration that reads otherwise when written"
    )


def _fer_text(rng: np.random.Generator, *, end: str = "\n", separator: str = ",") -> str:
    usages = ["Training"] * 7 + ["PublicTest"] * 7
    rows = [
        separator.join((str(i % 7), " ".join(map(str, rng.integers(0, 256, 48 * 48))), usage))
        for i, usage in enumerate(usages)
    ]
    return end.join([separator.join(("emotion", "pixels", "Usage")), *rows, ""])


def tables() -> Sequence[Files]:
    rng = np.random.default_rng(0)
    text = _fer_text(rng).encode()
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("fer2013.csv", text)
    with tarfile.open(fileobj=tarred, mode="w") as tar:
        info = tarfile.TarInfo("fer2013/fer2013.csv")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    votes = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"
    votes += "".join(
        f"{'Training' if i < 7 else 'PublicTest'},fer{i:07d}.png,{i % 5},4,0,0,1,0,0,1,0,0\n" for i in range(14)
    )
    faces: Files = {f"f{i}.png": _picture(rng.integers(0, 256, (24, 24), dtype=np.uint8), "PNG") for i in range(8)}
    lines = "".join(
        f"f{i}.png,{('anger', 'joy')[i % 2]},{'train' if i < 5 else 'val'},p{i},{i / 9},-0.5\n" for i in range(8)
    )
    return [
        {"fer.csv": text},
        {"fer.csv": _fer_text(rng, end="\r\n", separator=";").encode("utf-8-sig")},
        {"fer.csv.gz": gzip.compress(text)},
        {"fer.zip": zipped.getvalue()},
        {"fer.tar": tarred.getvalue()},
        {"fer.tar.gz": gzip.compress(tarred.getvalue())},
        {"fer.csv": text, "fer2013new.csv": votes.encode()},
        {"faces.csv": f"path,label,split,subject,valence,arousal\n{lines}".encode(), **faces},
        {"faces.csv": f"path,label,split,subject,valence,arousal\n{lines}".encode(), **faces},
    ]


def read_table(folder: Path, rng: random.Random) -> None:
    names = sorted(path.name for path in folder.iterdir())
    source = next((name for name in names if name.startswith(("fer.", "faces.csv"))), "fer.csv")
    options = {"ferplus": str(folder / "fer2013new.csv")} if "fer2013new.csv" in names else {}
    if source == "faces.csv":
        options = rng.choice(({}, {"size": "32"}, {"size": "48", "channels": "3"}))
    data = load_data(
        "csv" if source == "faces.csv" else "fer2013", folder / source, options=options, cache_dir=folder / "cache"
    )
    _check_data(data)


def _check_data(data: FaceData) -> None:
    require(len(set(data.classes)) == len(data.classes) >= 2, "fewer than two classes")
    for split in (data.train, data.val, data.test):
        if split is not None:
            require(
                split.images.dtype == np.uint8 and len(split.images) == len(split.labels) > 0, "a split without images"
            )
            require(split.labels.min() >= 0 and split.labels.max() < len(data.classes), "a label of no class")
            for soft in (split.soft_labels, split.affect):
                require(soft is None or np.isfinite(soft).all(), "votes, valence or arousal that are not finite")


def _picture(pixels: Any, form: str, **options: Any) -> bytes:
    from PIL import Image

    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, form, **options)
    return packed.getvalue()


def pictures() -> Sequence[Files]:
    from PIL import Image

    rng = np.random.default_rng(0)
    grey, colour = rng.integers(0, 256, (40, 36), dtype=np.uint8), rng.integers(0, 256, (36, 40, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "x"
    contents = [
        _picture(pixels, form) for pixels in (grey, colour) for form in ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "PPM")
    ]
    contents += [
        _picture(pixels, form, exif=exif) for pixels in (grey, colour) for form in ("PNG", "JPEG", "TIFF", "WEBP")
    ]
    contents += [
        _picture(colour, "TIFF", compression="tiff_lzw"),
        _picture(grey, "GIF"),
        _picture(colour, "JPEG", progressive=True),
    ]
    contents += [_picture(grey.astype(np.uint16) * 257, form) for form in ("PNG", "TIFF")]
    contents += [_picture(grey.astype(np.float32) / 255, "TIFF"), _picture(np.dstack([colour, colour[..., :1]]), "PNG")]
    return [{"face.png": content} for content in contents]


def read_picture(folder: Path, rng: random.Random) -> None:
    size, channels = rng.choice((None, 48)), rng.choice((None, 1, 3))
    images = read_images([folder / "face.png"], size=size, channels=channels)
    require(images.dtype == np.uint8 and images.ndim == 4 and images.shape[1] in (1, 3), "no image")
    require(size is None or images.shape[2:] == (size, size), "an image of another size")
