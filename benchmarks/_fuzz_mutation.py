"""Mutations of files: bytes, words of a text, values of JSON, and what stands at a file's place.

All are drawn from one generator. Files are bytes by name. A place may also hold no bytes but one of `PLACES`, so that
pipes and links are inputs too.
"""

import json
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Files = dict[str, bytes | str]
"""Content by relative path; a text is one of `PLACES`."""

PLACES = ("absent", "folder", "pipe", "device", "loop", "broken link")
"""What may stand where a file is expected."""
_NUMBERS = (
    b"0", b"-1", b"1e999", b"-1e999", b"NaN", b"nan", b"inf", b"Infinity", b"-Infinity", b"1e-320", b"2147483648",
    b"9223372036854775808", b"-9223372036854775809", b"0.1", b"7", b"255", b"256", b"9" * 400, b"1" * 5000, b"1_000",
    b"0x10", "\u0663".encode(), b"+5", b"1.", b".5", b"--1", b"true", b"null",
)  # fmt: skip
_WORDS = (
    b"", b"\0", b"\xff", b"\xc3", b"\xef\xbb\xbf", b"\r", b"\n", b"\r\n", b'"', b"'", b"\\", b"[", b"]", b"{", b"}",
    b",", b";", b"\t", b"=", b"#", b"../../etc/passwd", b"/dev/zero", "\u00e9".encode(), "e\u0301".encode(), b"\x1b[2J",
    b"A" * 5000, b"[" * 3000, b"{" * 3000, b"%s%n", b"__import__('os')", "\u202e".encode(),
    "\ud800".encode("utf-8", "surrogatepass"),
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 7, 10**30, int("9" * 400), 0.0, -0.5, 1.5, 1e308, float("nan"), float("inf"),
    float("-inf"), "", "x", "\0", "\u00e9", "1", "NaN", "../..", "A" * 5000, [], {}, [[]], [None], {"x": 1}, [1, 2, 3],
)  # fmt: skip


def mutate(files: Mapping[str, bytes | str], rng: random.Random) -> Files:
    """The files with one to four random changes, in 3 % of the cases none."""
    changed = dict(files)
    for _ in range(rng.choice((1, 1, 1, 2, 4)) if rng.random() > 0.03 else 0):
        name = rng.choice(sorted(changed))
        content = changed[name]
        if isinstance(content, str) or rng.random() < 0.03:
            changed[name] = rng.choice((*PLACES, b""))
        else:
            changed[name] = _mutate_content(content, rng)
    return changed


def write_files(files: Mapping[str, bytes | str], folder: Path) -> None:
    """Write files below an empty folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content == "folder":
            path.mkdir()
        elif content == "pipe":
            os.mkfifo(path)
        elif content != "absent":
            path.symlink_to({"device": "/dev/zero", "loop": path.name, "broken link": "nowhere"}[content])


def _mutate_content(content: bytes, rng: random.Random) -> bytes:
    ways = [damage, damage]
    if _is_text(content):
        ways = [damage, *[_replace_number] * 5, _insert_word, _insert_word, _change_lines, _change_lines]
        if content.lstrip()[:1] in (b"{", b"["):
            ways += [_change_json] * 12
    return rng.choice(ways)(content, rng)


def damage(content: bytes, rng: random.Random) -> bytes:
    """One to eight random changes of bytes, half of them in the first hundred, where headers are."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = rng.randrange(max(1, len(data) if rng.random() < 0.5 else min(len(data), 100)))
        way = rng.randrange(6)
        if way == 0:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif way == 1:
            data[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\x80\0\0\0"))
        elif way == 2:
            del data[at : at + rng.randrange(1, 60)]
        elif way == 3:
            data[at:at] = rng.randbytes(rng.randrange(1, 30))
        elif way == 4:
            start = rng.randrange(max(1, len(data)))
            data[at:at] = data[start : start + rng.randrange(1, 200)]
        else:
            del data[at + 1 :]
    return bytes(data)


def _is_text(content: bytes) -> bool:
    return b"\0" not in content[:1000] and content[:1000].isascii()


def _replace_number(content: bytes, rng: random.Random) -> bytes:
    """Another number in the place of one that follows a random position."""
    start = rng.randrange(len(content) + 1)
    while start < len(content) and not content[start : start + 1].isdigit():
        start += 1
    end = start
    while end < len(content) and (content[end : end + 1].isdigit() or content[end : end + 1] in b".eE"):
        end += 1
    return content[:start] + rng.choice(_NUMBERS) + content[end:]


def _insert_word(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.choice(_WORDS) + content[at + rng.choice((0, 0, 1, 5)) :]


def _change_lines(content: bytes, rng: random.Random) -> bytes:
    """A line left out, repeated, torn, moved or ended in another way."""
    lines = content.splitlines(keepends=True) or [b""]
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    way = rng.randrange(6)
    if way == 0:
        del lines[at]
    elif way == 1:
        lines.insert(other, lines[at])
    elif way == 2:
        lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)]
    elif way == 3:
        lines[at], lines[other] = lines[other], lines[at]
    elif way == 4:
        return b"".join(lines[: at + 1])[: -rng.randrange(1, 40)]
    else:
        return content.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n", b";", b" ")))
    return b"".join(lines)


def _change_json(content: bytes, rng: random.Random) -> bytes:
    """Another value, no value or a further key at a random place of a random line of JSON."""
    try:
        values, rows = [json.loads(content)], False
    except (ValueError, RecursionError):
        try:
            values, rows = [json.loads(line) for line in content.splitlines() if line.strip()], True
        except (ValueError, RecursionError):
            return damage(content, rng)
    if not values:
        return damage(content, rng)
    at = rng.randrange(len(values))
    values[at] = _change_value(values[at], rng)
    try:
        texts = [json.dumps(value, separators=(",", ":")) for value in values]
    except (ValueError, RecursionError):
        return damage(content, rng)
    return "".join(f"{text}\n" if rows else text for text in texts).encode("utf-8", "surrogatepass")


def _change_value(value: Any, rng: random.Random) -> Any:
    """The value with one change, inside with a probability of three quarters."""
    if isinstance(value, dict) and value and rng.random() < 0.75:
        key = rng.choice(sorted(value))
        way = rng.random()
        if way < 0.1:
            return {name: entry for name, entry in value.items() if name != key}
        if way < 0.15:
            return value | {"further": rng.choice(_VALUES)}
        return value | {key: _change_value(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.75:
        at = rng.randrange(len(value))
        if rng.random() < 0.1:
            return [*value[:at], *value[at + 1 :]]
        return [*value[:at], _change_value(value[at], rng), *value[at + 1 :]]
    if type(value) in (int, float) and rng.random() < 0.4:
        return rng.choice((-value, value * 10**6, value + 1, str(value), [value]))
    return rng.choice(_VALUES)
