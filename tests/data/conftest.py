"""Miniature sets, each written once for all tests of a process."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.miniatures import OTHER_FORMS, PUBLISHED


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a miniature set by the name of its data set or layout. Tests leave it as it is."""
    written: dict[str, Path] = {}

    def write(name: str) -> Path:
        if name not in written:
            writer = PUBLISHED[name] if name in PUBLISHED else OTHER_FORMS[name][1]
            written[name] = writer(tmp_path_factory.mktemp("sets") / f"mini-{name.replace(' ', '-')}")
        return written[name]

    return write
