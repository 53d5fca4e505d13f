"""Loading of data sets by name, and the default folder of their cache."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from nas.config.protocol import parse_protocol
from nas.data.base import Dataset, FaceData
from nas.data.leaks import without_leaks
from nas.data.protocols import divide
from nas.registry import load

_NO_OPTIONS: Mapping[str, str] = MappingProxyType({})


def load_data(
    name: str,
    path: Path | None,
    *,
    options: Mapping[str, str] = _NO_OPTIONS,
    cache_dir: Path | None = None,
    keep_duplicates: bool = False,
    protocol: str = "official",
    fold: int = 0,
) -> FaceData:
    """The data set `name`, as networks are trained on it.

    Args:
        name: of the data set (`nas.registry.names("dataset")` lists them).
        path: its file or folder; None for a data set that needs none.
        options: further settings, by name.
        cache_dir: folder for cached arrays; `default_cache_dir()` if None.
        keep_duplicates: keep training images that are copies of val or test images, see `nas.data.leaks`.
        protocol: how the faces are divided, see `nas.data.protocols`.
        fold: number of the fold, from 0.

    Raises:
        UnknownMemberError: there is no such data set.
        DataError: a file is missing or broken, an option does not fit, or the data cannot be divided so.
        ValueError: the protocol has an unknown form.
        MissingPackageError: image files need pillow.
    """
    dataset: Dataset = load("dataset", name)
    data = dataset.load(path, cache=default_cache_dir() if cache_dir is None else cache_dir, options=options)
    data = divide(data, parse_protocol(protocol), fold=fold)
    return data if keep_duplicates else without_leaks(data)


def default_cache_dir() -> Path:
    """The folder `fer-nas` below $XDG_CACHE_HOME, or below ~/.cache if that is not set.

    A user without a home folder, as in a container with a foreign user number, has it in the temporary folder.
    """
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "fer-nas"
    try:
        return Path.home() / ".cache" / "fer-nas"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"fer-nas-{getattr(os, 'getuid', os.getlogin)()}"
