"""Database of a study: waited for, never written twice, and without its password in any word."""

import logging
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

import nas.searcher.database
from nas.errors import ConfigError, MissingPackageError
from nas.searcher.database import DatabaseStorage, open_database
from tests.fake_studies import a_study
from tests.postgres import PASSWORD, Server, a_server

# A connection that the server has cut is dropped; its end is noticed whenever it is collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with a_server() as server:
        yield server


@pytest.fixture
def local(tmp_path: Path) -> Iterator[DatabaseStorage]:
    storage = open_database(f"sqlite:///{tmp_path}/study.db")
    yield storage
    storage.remove_session()


def a_search(storage: Any, between: Callable[[], object] = lambda: None) -> list[tuple[Any, ...]]:
    """Three trials of all kinds, and what the storage then has of them."""
    study = optuna.create_study(study_name="a", storage=storage, directions=["maximize", "minimize"])
    study.set_user_attr("run", {"seed": 0})
    study.enqueue_trial({"x": 3, "y": "b"})
    for number in range(3):
        between()
        study.sampler = optuna.samplers.RandomSampler(seed=number)
        trial = study.ask()
        trial.suggest_int("x", 0, 9)
        trial.suggest_categorical("y", ["a", "b"])
        between()
        trial.set_user_attr("key", f"k{number}")
        if number == 1:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, [0.5, float(number)])
    return [
        (t.number, t.state, t.values, t.params, t.user_attrs)
        for t in optuna.load_study(study_name="a", storage=storage).trials
    ]


UNDISTURBED = a_search(optuna.storages.InMemoryStorage())


def lose_answers(storage: DatabaseStorage, monkeypatch: pytest.MonkeyPatch, *, is_committed: bool) -> list[None]:
    """Four of ten commits are lost: themselves, or only their answers."""
    dialect = storage._storage._backend.engine.dialect
    commit, commits, chance = dialect.do_commit, [], random.Random(0)

    def losing(connection: Any) -> None:
        commits.append(None)
        if chance.random() < 0.4:
            if is_committed:
                commit(connection)
            error = sqlite3.OperationalError("the answer was lost")
            error.sqlite_errorname = "SQLITE_BUSY"
            raise error
        commit(connection)

    monkeypatch.setattr(dialect, "do_commit", losing)
    monkeypatch.setattr(nas.searcher.database, "FIRST_PAUSE_S", 0.0)
    return commits


@pytest.mark.parametrize("is_committed", [False, True])
def test_what_is_repeated_is_written_once(
    local: DatabaseStorage, monkeypatch: pytest.MonkeyPatch, is_committed: bool
) -> None:
    commits = lose_answers(local, monkeypatch, is_committed=is_committed)
    assert a_search(local) == UNDISTURBED
    assert len(commits) > 20


def test_waiting_is_said_once_when_it_begins_and_once_when_it_ends(
    local: DatabaseStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    study_id = local.create_new_study([optuna.study.StudyDirection.MINIMIZE], "a")
    monkeypatch.setattr(nas.searcher.database, "FIRST_PAUSE_S", 0.0)
    engine, calls = local._storage._backend.engine, []

    def busy(*_: object) -> None:
        calls.append(None)
        if len(calls) < 5:
            error = sqlite3.OperationalError("database\nis locked")
            error.sqlite_errorname = "SQLITE_BUSY"
            raise error

    execute = engine.dialect.do_execute
    monkeypatch.setattr(engine.dialect, "do_execute", lambda *arguments: (busy(), execute(*arguments)))
    with caplog.at_level(logging.WARNING):
        local.set_study_user_attr(study_id, "x", 1)
    begun, ended = (r.getMessage() for r in caplog.records if r.name == "nas.searcher.database")
    assert begun == f"waiting for the database at {tmp_path}/study.db: database is locked"
    assert ended.startswith(f"the database at {tmp_path}/study.db is back after ")
    assert local.get_study_user_attrs(study_id) == {"x": 1}


@pytest.mark.parametrize(
    ("name", "number"), [("SQLITE_FULL", 28), ("SQLITE_READONLY_DIRECTORY", 30), ("SQLITE_IOERR_WRITE", 5)]
)
def test_a_full_or_broken_disk_is_an_error_of_the_system(
    local: DatabaseStorage, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    def fail(*_: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorname = name
        raise error

    monkeypatch.setattr(local._storage._backend.engine.dialect, "do_execute", fail)
    with pytest.raises(OSError, match="database or disk is full") as caught:
        local.get_all_studies()
    assert caught.value.errno == number


def test_a_database_that_refuses_is_one_line(local: DatabaseStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise sqlite3.DatabaseError("file is not\na database")

    monkeypatch.setattr(local._storage._backend.engine.dialect, "do_execute", fail)
    with pytest.raises(ConfigError, match=r"must keep the study, but refuses: file is not a database; correct"):
        local.get_all_studies()


@pytest.mark.parametrize("url", ["grpc://localhost:13000", "grpc+tls://ada:secret@localhost"])
def test_optunas_grpc_proxy_is_refused(url: str) -> None:
    with pytest.raises(
        ConfigError, match=r"storage must be the URL of a database, but got grpc.*no authentication"
    ) as e:
        open_database(url)
    assert "secret" not in str(e.value)


@pytest.mark.parametrize("url", ["sqlite:////mnt/nas/study.db", "sqlite:///file:/mnt/nas/a/b.db?uri=true"])
def test_sqlite_on_a_network_file_system_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        nas.searcher.database, "network_file_system", lambda path: "nfs4" if path.is_relative_to("/mnt/nas") else None
    )
    with pytest.raises(ConfigError, match=r"must be on a local disk, but is on nfs4, whose locks"):
        open_database(url)


def test_a_driver_that_is_missing_is_named_with_the_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'fer-nas\[postgres\]'") as caught:
        open_database("postgresql+psycopg://ada:secret@localhost:1/x")
    assert "secret" not in str(caught.value)


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg", reason="needs the extra `postgres`")
    monkeypatch.setattr(nas.searcher.database, "OPENING_PATIENCE_S", 0.1)
    with pytest.raises(
        ConfigError, match=r"^the database at 127\.0\.0\.1:1 must answer, but did not for 0 s: .*refused"
    ):
        open_database("postgresql+psycopg://ada:secret@127.0.0.1:1/x")


def test_a_server_that_restarts_is_waited_for(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    outages = ["", "immediate", "cut", "fast"]
    starts: list[threading.Timer] = []

    def disturb() -> None:
        outage = outages.pop(0) if outages else ""
        if outage == "cut":
            server.cut()
        elif outage:
            server.stop(outage)
            starts.append(threading.Timer(0.05, server.start))
            starts[-1].start()

    storage = open_database(server.new_database())
    with caplog.at_level(logging.WARNING):
        assert a_search(storage, disturb) == UNDISTURBED
    for start in starts:
        start.join()
    storage.remove_session()
    assert len([m for m in caplog.messages if m.startswith("waiting for the database at 127.0.0.1:")]) == len(starts)
    assert len([m for m in caplog.messages if " is back after " in m]) == len(starts) == 2


def test_what_a_server_refuses_is_one_line_at_once(server: Server) -> None:
    wrong, missing = server.url(password="guessed-word"), server.url("nowhere")
    for url, reason in ((wrong, "password authentication failed"), (missing, 'database "nowhere" does not exist')):
        with pytest.raises(ConfigError, match=reason) as caught:
            open_database(url)
        message = str(caught.value)
        assert len(message.splitlines()) == 1
        assert not any(word in message for word in ("guessed-word", PASSWORD, "pass%2Fword"))
    with pytest.raises(ConfigError, match="write %40 in its place") as caught:
        open_database(server.url(password="half@other"))
    assert "half" not in str(caught.value)
    assert "other" not in str(caught.value)


def test_the_password_may_come_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, written in (("NAS_STORAGE_PASSWORD", None), ("PGPASSWORD", "***")):
        with monkeypatch.context() as patch:
            patch.setenv(variable, PASSWORD)
            storage = open_database(server.url(password=written))
            storage.get_all_studies()
            storage.remove_session()


def test_a_study_of_another_run_on_the_server_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_STORAGE_PASSWORD", PASSWORD)  # the configuration in the run folder has none
    url = server.new_database()
    study = a_study(tmp_path / "a", storage=url, name="same")
    with pytest.raises(ConfigError, match=r"study 'same' .* another run \(seed: 0 there, 5 asked; id: "):
        a_study(tmp_path / "b", storage=url, name="same", seed=5)
    with pytest.raises(
        ConfigError, match=r"study 'same' in postgresql\+psycopg://ada:\*\*\*@127\.0\.0\.1:\d+/\w+ has other"
    ):
        a_study(tmp_path / "c", storage=url, name="same", objectives=("accuracy", "latency", "size"))
    study._storage.remove_session()
