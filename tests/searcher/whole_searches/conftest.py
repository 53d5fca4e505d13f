"""Fixtures of the tests of whole searches: fast training on synthetic spots, and a function that starts a search."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas.config import make_config
from nas.results.run_folder import RunFolder
from nas.results.status import SearchStatus
from nas.searcher.searcher import search
from tests.tiny_search import ASSEMBLY, FACES, SEARCH, TINY, Training, make_quick


@pytest.fixture(autouse=True)
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Training]:
    monkeypatch.setattr(ASSEMBLY, "load_data", lambda *_, **__: FACES)
    monkeypatch.setattr(SEARCH, "write_report", lambda folders, path: path.write_text("<html>"))
    return make_quick(monkeypatch)


@pytest.fixture
def go(tmp_path: Path) -> Callable[..., RunFolder]:
    """Runs a tiny search below the test's own folder: `go(**fields that differ from TINY)`."""

    def go(on_status: Callable[[SearchStatus], None] | None = None, **fields: Any) -> RunFolder:
        return search(make_config(**({"runs": tmp_path} | TINY | fields)), on_status=on_status)

    return go
