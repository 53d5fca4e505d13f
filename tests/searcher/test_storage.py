"""Storage of a study: the journal in the run folder, or a storage that several hosts share."""

from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from nas.errors import ConfigError
from nas.searcher.storage import open_storage
from nas.searcher.study import Study
from tests.fake_studies import a_study
from tests.journal import trials_of


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return a_study(tmp_path)


def test_journal_lock_ends_with_its_process(study: Study) -> None:
    lock = study._storage._backend._lock  # type: ignore[attr-defined]
    other = FileLock(study.folder.path / "locks" / "journal.lock")
    assert lock.acquire()
    with pytest.raises(Timeout):
        other.acquire(timeout=0)
    lock.release()
    other.acquire(timeout=0)
    other.release()
    assert not list(study.folder.path.glob("*.lock")), "Optuna's own lock is a file that outlives its process"


@pytest.mark.parametrize("torn", [b'{"op_code":4,"worker_id"', b"\0\0", b'{"op_code":0}', b"\xff"])
def test_a_torn_last_line_of_the_journal_is_replaced(study: Study, tmp_path: Path, torn: bytes) -> None:
    journal = study.folder.path / "journal.log"
    with journal.open("ab") as file:
        file.write(torn)
    number = a_study(tmp_path).ask().number
    assert [trial.number for trial in trials_of(study.folder)] == [number]
    assert torn not in journal.read_bytes().splitlines()


@pytest.mark.parametrize("line", [b"?", b"7", b"{}", b'{"op_code":99,"worker_id":"a"}', b"[" * 100_000])
def test_a_damaged_journal_is_refused_in_a_line(study: Study, tmp_path: Path, line: bytes) -> None:
    journal = study.folder.path / "journal.log"
    journal.write_bytes(line + b"\n" + journal.read_bytes())
    with pytest.raises(ConfigError, match=r"journal\.log must be the journal of an Optuna study") as refusal:
        open_storage(study.folder.path, None)
    assert str(refusal.value).isprintable()


def test_trials_of_a_driver_on_another_host_are_resumed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    study = a_study(tmp_path, storage=url)
    first = study.ask()
    again = a_study(tmp_path, storage=url)
    assert [trial.number for trial in again.left()] == [first.number]
    assert again.ask().number == 1
    assert len(trials_of(study.folder, url)) == 2
    assert not (study.folder.path / "journal.log").exists()
    for opened in (study, again):
        opened._storage.remove_session()


@pytest.mark.parametrize("url", ["nonsense", "mysql://nobody@localhost:1/none", "sqlite:////nowhere/at/all.db"])
def test_storage_that_cannot_be_opened_is_refused_in_one_line(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"storage must be a URL that Optuna can open, but '.*' gave: ") as caught:
        open_storage(tmp_path, url)
    assert "\n" not in str(caught.value)
