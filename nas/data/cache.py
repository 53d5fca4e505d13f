"""Cache of loaded data sets: one uncompressed .npz for each source and settings.

The file's name contains a key over everything that the result depends on, so a changed source is read again:
- the root path that the user gave, and the settings;
- the path, size and times of every source file;
- the label, split and other attributes that the loader derives from paths or tables.

The zip format's CRC-32 guards the arrays, so the digest that is stored with them is not recomputed. A cache that cannot
be read or written is left out, with a warning.
"""

import hashlib
import json
import logging
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from nas.data.base import FaceData, Split
from nas.errors import one_line
from nas.files import whole_file

CACHE_FORMAT = 4
"""To be raised whenever a loader reads the same source differently, so that older files are not used."""

_SPLITS = ("train", "val", "test")
_LOG = logging.getLogger(__name__)


def load_cached(
    cache_dir: Path,
    load: Callable[[], FaceData],
    *,
    dataset: str,
    settings: Mapping[str, object],
    root: Path | None = None,
    sources: Iterable[Path] = (),
    details: Iterable[object] = (),
) -> FaceData:
    """The result of `load`, from the cache if it holds one for the same sources and settings.

    A cache file that cannot be read is written again, with a warning in the log. Without a cache folder that can be
    written the data is loaded each time, with a warning. Two processes may fill the cache at once, because files appear
    whole.

    Args:
        cache_dir: folder of the cache; created when needed.
        load: reads the source.
        dataset: name of the data set, the first part of the file's name.
        settings: everything besides the sources that the result depends on.
        root: the path that the user gave, which notes and labels depend on.
        sources: all files that `load` reads.
        details: what the loader knows of the sources besides their content, in a form whose `repr` is complete.

    Raises:
        OSError: a source file is missing.
    """
    path = cache_dir / f"{dataset}-{_key(settings, root, sources, details)}.npz"
    if (data := _read_or_none(path)) is not None:
        return data
    data = load()
    try:
        _write(path, data)
    except OSError as error:
        reason = one_line(error.strerror or error)
        _LOG.warning("cache folder %s cannot be written (%s); the data set is read again each time", cache_dir, reason)
    return data


def _read_or_none(path: Path) -> FaceData | None:
    try:
        return _read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, EOFError, ValueError, TypeError, KeyError, zlib.error, zipfile.BadZipFile) as error:
        _LOG.warning("cache file %s cannot be read (%s); the source is read again", path, one_line(error))
        return None


def _key(settings: Mapping[str, object], root: Path | None, sources: Iterable[Path], details: Iterable[object]) -> str:
    digest = hashlib.sha256(json.dumps([CACHE_FORMAT, sorted(settings.items())], default=str).encode())
    if root is not None:
        digest.update(os.fsencode(root.absolute()) + b"|" + os.fsencode(root.resolve()) + b"\n")
    for source in sources:
        stat = source.stat()
        # The time of the last change of status moves even where a copy restores size and modification time.
        times = f"|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ctime_ns}\n"
        digest.update(os.fsencode(source.resolve()) + times.encode())
    for detail in details:
        digest.update(repr(detail).encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()[:16]


def _write(path: Path, data: FaceData) -> None:
    text = {f.name: getattr(data, f.name) for f in fields(FaceData) if f.name not in _SPLITS}
    arrays: dict[str, Any] = {"about": np.array(json.dumps({**text, "digest": data.digest}))}
    for name in _SPLITS:
        split = getattr(data, name)
        for f in fields(Split) if split is not None else ():
            if getattr(split, f.name) is not None:
                arrays[f"{name}.{f.name}"] = getattr(split, f.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _read(path: Path) -> FaceData:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    about = json.loads(str(arrays.pop("about")))
    digest = about.pop("digest")
    for name in ("classes", "notes", "vote_classes", "subject_names"):
        about[name] = tuple(about.get(name, ()))
    splits: dict[str, Any] = {name: _split(arrays, name) for name in _SPLITS}
    data = FaceData(**about, **splits)
    # `digest` is a cached property; setting it saves hashing every image at each start.
    data.__dict__["digest"] = digest
    return data


def _split(arrays: Mapping[str, Any], name: str) -> Split | None:
    split = {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}
    return Split(**split) if split else None
