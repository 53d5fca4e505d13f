"""Hostile pictures and videos: each is one line, or what a viewer would show, without a traceback or a word from C."""

import os
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.vision.frames import Frame, ReadFault
from nas.vision.sources import file_frames
from tests.vision.pictures import bright_quadrant, write_video

NOISE = np.random.default_rng(0).integers(0, 256, (96, 96, 3)).astype(np.uint8)
Make = Callable[[Path], None]


def encoded(kind: str, pixels: np.ndarray = NOISE, **options: object) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind, **options)
    return buffer.getvalue()


def holds(content: bytes | Callable[[], bytes]) -> Make:
    def make(path: Path) -> None:
        path.write_bytes(content() if callable(content) else content)

    return make


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int, *, rows: bytes = b"") -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")


def video(codec: str, suffix: str, *, count: int = 8, change: Callable[[bytes], bytes] = lambda b: b) -> Make:
    def make(path: Path) -> None:
        frames = [np.roll(NOISE, 3 * i, axis=1) for i in range(count)]
        whole = write_video(path.with_name(f"whole{suffix}"), frames, codec=codec)
        path.write_bytes(change(whole.read_bytes()))
        whole.unlink()

    return make


def flipped(content: bytes, *, start: float = 0.1, end: float = 0.9, count: int = 300) -> bytes:
    changed, rng = bytearray(content), np.random.default_rng(1)
    for place in rng.integers(int(start * len(content)), int(end * len(content)), count):
        changed[place] = rng.integers(256)
    return bytes(changed)


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def broken_link(path: Path) -> None:
    path.symlink_to("nowhere")


UNREADABLE: dict[str, Make] = {
    "empty.png": holds(b""),
    "empty.mp4": holds(b""),
    "zeros.png": holds(bytes(1000)),
    "zeros.mp4": holds(bytes(1000)),
    "text.png": holds(b"this is no picture\n" * 50),
    "text.mp4": holds(b"this is no video\n" * 50),
    "ansi.mp4": holds(b"\x1b[2J\x1b[1;31mplayed as a video by FFmpeg's reader of terminals\n" * 50),
    "html.jpg": holds(b"<!doctype html><html><body>404 not found</body></html>"),
    "lfs.jpg": holds(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"),
    "svg.png": holds(b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'),
    "script.png": holds(b"#!/bin/sh\necho owned\n"),
    "playlist.mp4": holds(b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"),
    "playlist.m3u8": holds(b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n"),
    "concat.mp4": holds(b"ffconcat version 1.0\nfile /etc/passwd\n"),
    "cut.png": holds(lambda: half(encoded("PNG"))),
    "cut.jpg": holds(lambda: half(encoded("JPEG"))),
    "cut.webp": holds(lambda: half(encoded("WEBP"))),
    "cut.bmp": holds(lambda: half(encoded("BMP"))),
    "cut.tif": holds(lambda: half(encoded("TIFF"))),
    "header only.png": holds(lambda: encoded("PNG")[:8]),
    "header only.jpg": holds(lambda: encoded("JPEG")[:20]),
    "bomb.png": holds(png_of(30_000, 30_000)),
    "endless.png": holds(png_of(2**31 - 1, 2**31 - 1)),
    "nothing.png": holds(png_of(0, 0)),
    "no rows.png": holds(png_of(64, 64)),
    "bad checksum.png": holds(lambda: encoded("PNG").replace(b"IDAT", b"IDAX")),
    "float.tif": holds(lambda: encoded("TIFF", NOISE[:, :, 0].astype(np.float32))),
    "32 bit.tif": holds(lambda: encoded("TIFF", NOISE[:, :, 0].astype(np.int32))),
    "dark 12 bit.png": holds(lambda: encoded("PNG", NOISE[:, :, 0].astype(np.uint16))),
    "pipe.png": lambda path: os.mkfifo(path),
    "pipe.mp4": lambda path: os.mkfifo(path),
    "folder.png": lambda path: path.mkdir(),
    "folder.mp4": lambda path: path.mkdir(),
    "loop.png": link_to_itself,
    "broken link.mp4": broken_link,
    "cut at its half.mp4": video("mp4v", ".mp4", change=half),
    "header only.mp4": video("mp4v", ".mp4", change=lambda b: b[:40]),
    "header only.avi": video("MJPG", ".avi", change=lambda b: b[:2048]),
    "no frames.avi": video("MJPG", ".avi", count=1, change=lambda b: b[: b.index(b"movi") + 4]),
    "pdf.jpg": holds(b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer\n"),
    "zip.png": holds(b"PK\x03\x04" + bytes(60)),
    "new\nline.png": holds(b"no picture"),
    "escape\x1b[2J.png": holds(b"no picture"),
}
"""Files of which nothing can be shown."""
DAMAGED: dict[str, Make] = {
    "cut.avi": video("MJPG", ".avi", change=half),
    "noise inside.avi": video("MJPG", ".avi", change=flipped),
    "noise inside.mp4": video("mp4v", ".mp4", change=lambda b: flipped(b, end=0.7, count=100)),
    "noise inside.jpg": holds(lambda: flipped(encoded("JPEG"), start=0.4, count=20)),
}
"""Files of which some frames may be shown, with or without a fault."""
READABLE: dict[str, Make] = {
    "one pixel.png": holds(lambda: encoded("PNG", NOISE[:1, :1])),
    "one row.png": holds(lambda: encoded("PNG", NOISE[:1])),
    "cmyk.jpg": holds(lambda: _cmyk()),
    "16 bit.png": holds(lambda: encoded("PNG", NOISE[:, :, 0].astype(np.uint16) * 257)),
    "one bit.png": holds(lambda: _one_bit()),
    "jpeg.png": holds(lambda: encoded("JPEG")),
    "png.jpg": holds(lambda: encoded("PNG")),
    "picture.mp4": holds(lambda: encoded("PNG")),
    "video.jpg": video("mp4v", ".mp4"),
    "trailing bytes.png": holds(lambda: encoded("PNG") + b"<script>" * 100),
    "wide.png": holds(lambda: encoded("PNG", np.zeros((2, 30_000, 3), np.uint8))),
    "one frame.mp4": video("mp4v", ".mp4", count=1),
    "upper.PNG": holds(lambda: encoded("PNG")),
}
"""Files that are odd, but can be shown."""


def _cmyk() -> bytes:
    buffer = BytesIO()
    Image.fromarray(NOISE).convert("CMYK").save(buffer, format="JPEG")
    return buffer.getvalue()


def _one_bit() -> bytes:
    buffer = BytesIO()
    Image.fromarray(bright_quadrant(1)).convert("1").save(buffer, format="PNG")
    return buffer.getvalue()


def test_there_are_forty_of_them() -> None:
    assert len(UNREADABLE) + len(DAMAGED) >= 40


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_shown_is_one_line(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / name
    UNREADABLE[name](path)
    capfd.readouterr()
    (fault,) = file_frames(path)
    assert isinstance(fault, ReadFault)
    line = f"{fault.source}: {fault.reason}"
    assert line.isprintable()
    assert fault.reason.count(path.name) <= 1
    assert "; " in fault.reason  # what to do
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_ends_no_earlier_than_it_must(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / name
    DAMAGED[name](path)
    capfd.readouterr()
    found = list(file_frames(path))
    assert any(isinstance(entry, Frame) for entry in found)
    assert [entry for entry in found[:-1] if isinstance(entry, ReadFault)] == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", READABLE)
def test_what_is_odd_is_shown(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / name
    READABLE[name](path)
    capfd.readouterr()
    found = list(file_frames(path))
    assert found
    for frame in found:
        assert isinstance(frame, Frame), frame
        assert frame.pixels.dtype == np.uint8
        assert frame.pixels.ndim == 3
    assert capfd.readouterr() == ("", "")
