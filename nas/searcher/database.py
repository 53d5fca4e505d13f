"""Database of a study: Optuna's storage at a URL, which is waited for while the database is away.

What is done again because its answer was lost is never there twice:

- a new trial carries a token, and is looked for before it is made again;
- a trial that has the state and values to be set already was told;
- setting an attribute or a parameter twice is the same as once.

Passwords come from the URL, from `NAS_STORAGE_PASSWORD`, or from where PostgreSQL's own library finds them (PGPASSWORD,
~/.pgpass). No message repeats them.
"""

import copy
import errno
import itertools
import logging
import math
import os
import sqlite3
import time
import uuid
import weakref
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Any, TypeVar

from optuna.exceptions import DuplicatedStudyError, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import event, text
from sqlalchemy.engine import URL, Engine, ExceptionContext, make_url
from sqlalchemy.exc import SQLAlchemyError

from nas.config import HIDDEN, passwords_in, without_password
from nas.errors import ConfigError, MissingPackageError, one_line
from nas.files import network_file_system

logger = logging.getLogger(__name__)

PASSWORD_VARIABLE = "NAS_STORAGE_PASSWORD"  # noqa: S105  its name, not a password
OPENING_PATIENCE_S = 60.0
"""Seconds for which a database is waited for that never answered: its address may be wrong."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
"""Pauses between two attempts double from the first to the longest."""
TOKEN = "nas:token"  # noqa: S105
"""System attribute of a trial that tells it from all others, known before the trial has a number."""
LIBPQ_ARGUMENTS = {
    "connect_timeout": 10, "keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3,
    "tcp_user_timeout": 60_000, "application_name": "nas",
}  # fmt: skip
"""A peer that vanished without a word is noticed within a minute; times in seconds, the last one in ms."""
# https://www.postgresql.org/docs/current/errcodes-appendix.html: connection exceptions, insufficient resources, the
# server shuts down or starts, a transaction to be repeated, a standby that was promoted to take over.
_LOST_STATES = ("08", "53", "57P", "40", "25006")
# Answers that come before a session has an SQLSTATE, of PostgreSQL and MySQL.
_REFUSALS = (
    "authentication failed", "no password supplied", "does not exist", "pg_hba.conf", "permission denied",
    "not permitted to log in", "does not support SSL", "certificate", "Access denied", "Unknown database",
    "invalid connection option", "invalid integer value",
)  # fmt: skip
_SQLITE_ERRNOS = {
    "SQLITE_FULL": errno.ENOSPC, "SQLITE_IOERR": errno.EIO, "SQLITE_READONLY": errno.EROFS,
    "SQLITE_NOMEM": errno.ENOMEM, "SQLITE_CANTOPEN": errno.EIO,
}  # fmt: skip

T = TypeVar("T")


class LostConnectionError(Exception):
    """The database cannot be reached, or the connection broke. The message is the reason, in one line."""


def open_database(url: str) -> BaseStorage:
    """The storage at the URL of a database. A server that is away is waited for, for `OPENING_PATIENCE_S`.

    Raises:
        ConfigError: it cannot be opened there, the server refuses, or sqlite's file is on a network file system.
        MissingPackageError: the driver for PostgreSQL is not installed.
    """
    _check_url(url)
    try:
        address = make_url(url)
    except (SQLAlchemyError, ValueError) as error:
        raise _cannot_open(url, error) from None
    if address.get_backend_name() == "sqlite":
        _check_file_system(address)
    database = _Database(url, _with_password(address))
    try:
        return DatabaseStorage(
            get_storage(database.wait(lambda _: database.open(), limit_s=OPENING_PATIENCE_S)), database
        )
    except ImportError as error:
        if address.get_backend_name() != "postgresql":
            raise _cannot_open(url, error) from None
        raise MissingPackageError(
            f"storage {without_password(url)} needs psycopg, which is not installed; type: pip install "
            "'fer-nas[postgres]'"
        ) from None
    except ConfigError:
        raise
    except Exception as error:  # exceptions of SQLAlchemy and its drivers share no base class
        raise _cannot_open(url, error) from None


def _check_url(url: str) -> None:
    """Refuse what can be told from the text alone."""
    if any("@" in password for password in passwords_in(url)):
        raise ConfigError(
            f"the password in storage {without_password(url)} must not contain @; write %40 in its place, or give it "
            f"in ${PASSWORD_VARIABLE}"
        )
    if url.startswith("grpc"):
        raise ConfigError(
            f"storage must be the URL of a database, but got {without_password(url)}: Optuna's gRPC port has no "
            "authentication and hides what keeps the study; give the URL of the database behind it"
        )


def _check_file_system(address: URL) -> None:
    file = (address.database or "").removeprefix("file:")
    if file and (kind := network_file_system(Path(file))) is not None:
        raise ConfigError(
            f"the sqlite file {file} must be on a local disk, but is on {kind}, whose locks cannot be relied on; leave "
            "--storage out, which keeps the study in the run folder, or give a PostgreSQL URL"
        )


def _with_password(address: URL) -> URL:
    """The address with the password of the environment, where it has none itself."""
    if address.password not in (None, "", HIDDEN):
        return address
    password = os.environ.get(PASSWORD_VARIABLE)
    if address.get_backend_name() == "sqlite":
        return address
    return address.set(password=password) if password else address._replace(password=None)


def _cannot_open(url: str, error: BaseException) -> ConfigError:
    shown = without_password(url)
    return ConfigError(f"storage must be a URL that Optuna can open, but {shown!r} gave: {_reason(error, url)}")


def _reason(error: BaseException, *urls: str) -> str:
    """The message of what the driver raised, in one line and without passwords."""
    cause = _driver_error(error)
    message = one_line(error if cause is None else cause)
    for password in [*(p for url in urls for p in passwords_in(url)), os.environ.get(PASSWORD_VARIABLE, "")]:
        message = message.replace(password, HIDDEN) if password else message
    return message


def _driver_error(error: BaseException | None) -> BaseException | None:
    """The exception of the database's driver behind those of SQLAlchemy and Optuna."""
    while error is not None:
        if (original := getattr(error, "orig", None)) is not None:
            return original if isinstance(original, BaseException) else None
        error = error.__cause__
    return None


def _is_lost(error: BaseException) -> bool:
    """Whether a driver's exception says that the database is away or busy, not that it refuses."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if state is not None:
        return str(state).startswith(_LOST_STATES)
    is_connection = type(error).__name__ in ("OperationalError", "InterfaceError")  # of whichever driver, see PEP 249
    return is_connection and not any(phrase in str(error) for phrase in _REFUSALS)


class _Database:
    """The address of a database, and the patience with it."""

    def __init__(self, url: str, address: URL) -> None:
        self._url, self._address = url, address
        host = address.host or address.query.get("host") or address.database or address.get_backend_name()
        self.name = f"{host}:{address.port}" if address.port else str(host)
        self.has_row_locks = address.get_backend_name() != "sqlite"

    def open(self) -> RDBStorage:
        """Optuna's storage there.

        Raises:
            LostConnectionError: the server does not answer.
            Exception: the server refuses, or there is no driver.
        """
        storage = RDBStorage.__new__(RDBStorage)
        try:
            RDBStorage.__init__(storage, self._address.render_as_string(hide_password=False), self._engine_arguments())
        except Exception as error:
            if (engine := getattr(storage, "engine", None)) is not None:
                engine.dispose()  # Optuna leaves the connection open where it refuses what it found in the database
            if isinstance(error, (SQLAlchemyError, StorageInternalError)):
                self._raise_if_lost(_driver_error(error))
            raise
        event.listen(storage.engine, "handle_error", self._handle_error)
        return storage

    def wait(self, attempt: Callable[[bool], T], *, limit_s: float = math.inf) -> T:
        """The result of an attempt, which is repeated with growing pauses as long as the database is away.

        Args:
            attempt: gets whether an earlier attempt may have been carried out although its answer was lost.
            limit_s: seconds after which waiting is given up.

        Raises:
            ConfigError: the database was away for `limit_s`.
        """
        started: float | None = None
        for doublings in itertools.count():
            try:
                result = attempt(started is not None)
            except LostConnectionError as lost:
                if started is None:
                    started = time.monotonic()
                    logger.warning("waiting for the database at %s: %s", self.name, lost)
                if time.monotonic() - started >= limit_s:
                    raise ConfigError(
                        f"the database at {self.name} must answer, but did not for {limit_s:.0f} s: {lost}; start it, "
                        "or correct --storage"
                    ) from None
                time.sleep(min(FIRST_PAUSE_S * 2 ** min(doublings, 10), LONGEST_PAUSE_S))
            else:
                if started is not None:
                    logger.warning(
                        "the database at %s is back after %.1f s; resuming", self.name, time.monotonic() - started
                    )
                return result
        raise AssertionError("the loop has no end")

    def refusal(self, error: BaseException) -> Exception:
        """What to raise in place of an exception that says that the database refuses, or that its disk is full."""
        cause, reason = _driver_error(error), _reason(error, self._url)
        if isinstance(cause, sqlite3.Error):
            name = "_".join(str(getattr(cause, "sqlite_errorname", "")).split("_")[:2])
            if name in _SQLITE_ERRNOS:
                return OSError(_SQLITE_ERRNOS[name], reason, self._address.database)
        return ConfigError(
            f"the database at {self.name} must keep the study, but refuses: {reason}; correct that there"
        )

    def _engine_arguments(self) -> dict[str, Any]:
        if self._address.get_backend_name() == "sqlite":
            return {}
        has_libpq = self._address.get_driver_name() in ("psycopg", "psycopg2")
        arguments = {k: v for k, v in LIBPQ_ARGUMENTS.items() if k not in self._address.query} if has_libpq else {}
        return {"pool_size": 1, "pool_pre_ping": True, "connect_args": arguments}

    def _handle_error(self, context: ExceptionContext) -> None:
        """Raise past Optuna, which would try again by itself, without knowing whether a transaction was committed."""
        if not context.is_pre_ping:  # after which SQLAlchemy connects anew
            self._raise_if_lost(context.original_exception)

    def _raise_if_lost(self, error: BaseException | None) -> None:
        if error is not None and _is_lost(error):
            raise LostConnectionError(_reason(error, self._url))


def _waiting(name: str) -> Any:
    """The method of Optuna's storage that may be called any number of times with the same result, with patience."""

    def call(self: "DatabaseStorage", *arguments: Any, **keywords: Any) -> Any:
        return self._call(lambda _: getattr(self._storage, name)(*arguments, **keywords))

    call.__name__ = name
    return call


class DatabaseStorage(BaseStorage):
    """Optuna's storage in a database that may be away for a while.

    Promises: no call raises because the database is away, nothing is lost, and nothing is written twice.
    """

    def __init__(self, storage: BaseStorage, database: _Database) -> None:
        self._storage, self._database = storage, database
        self._engine: Engine | None = getattr(getattr(storage, "_backend", None), "engine", None)
        if self._engine is not None:
            weakref.finalize(self, self._engine.dispose)  # the connection ends with its last user

    delete_study = _waiting("delete_study")
    set_study_user_attr = _waiting("set_study_user_attr")
    set_study_system_attr = _waiting("set_study_system_attr")
    get_study_id_from_name = _waiting("get_study_id_from_name")
    get_study_name_from_id = _waiting("get_study_name_from_id")
    get_study_directions = _waiting("get_study_directions")
    get_study_user_attrs = _waiting("get_study_user_attrs")
    get_study_system_attrs = _waiting("get_study_system_attrs")
    get_all_studies = _waiting("get_all_studies")
    set_trial_param = _waiting("set_trial_param")
    set_trial_intermediate_value = _waiting("set_trial_intermediate_value")
    set_trial_user_attr = _waiting("set_trial_user_attr")
    set_trial_system_attr = _waiting("set_trial_system_attr")
    get_trial_id_from_study_id_trial_number = _waiting("get_trial_id_from_study_id_trial_number")
    get_trial = _waiting("get_trial")
    get_best_trial = _waiting("get_best_trial")

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """All trials of a study, in the order of their numbers."""
        return self._call(lambda _: self._storage.get_all_trials(study_id, deepcopy=deepcopy, states=states))

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        """The id of a new study."""

        def attempt(is_repeated: bool) -> int:
            try:
                return self._storage.create_new_study(directions, study_name)
            except DuplicatedStudyError:
                if not is_repeated or study_name is None:
                    raise
                return self._storage.get_study_id_from_name(study_name)

        return self._call(attempt)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """The id of a new trial."""
        token = uuid.uuid4().hex
        trial = copy.copy(template_trial) if template_trial is not None else create_trial(state=TrialState.RUNNING)
        trial.system_attrs = {**trial.system_attrs, TOKEN: token}

        def attempt(is_repeated: bool) -> int:
            if is_repeated:
                self._await_other_transaction(study_id)
                for known in self._storage.get_all_trials(study_id, deepcopy=False):
                    if known.system_attrs.get(TOKEN) == token:
                        return known._trial_id
            return self._storage.create_new_trial(study_id, trial)

        return self._call(attempt)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Set state and values; returns whether a waiting trial was taken, where `state` is RUNNING."""

        def attempt(is_repeated: bool) -> bool:
            try:
                is_set = self._storage.set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                if is_repeated and self._has(trial_id, state, values):
                    return True
                raise
            return is_set or (is_repeated and self._has(trial_id, state, values))

        return self._call(attempt)

    def remove_session(self) -> None:
        """Close the connection; the next call opens it again."""
        self._storage.remove_session()
        if self._engine is not None:
            self._engine.dispose()

    def _has(self, trial_id: int, state: TrialState, values: Sequence[float] | None) -> bool:
        trial = self._storage.get_trial(trial_id)
        return trial.state == state and (values is None or trial.values == list(values))

    def _await_other_transaction(self, study_id: int) -> None:
        """Wait for the transaction whose answer was lost, if the server is still at it: it holds the study's row."""
        if self._engine is not None and self._database.has_row_locks:
            with self._engine.begin() as connection:
                connection.execute(text("SELECT 1 FROM studies WHERE study_id = :id FOR UPDATE"), {"id": study_id})

    def _call(self, attempt: Callable[[bool], T]) -> T:
        try:
            return self._database.wait(attempt)
        except (SQLAlchemyError, StorageInternalError) as error:
            raise self._database.refusal(error) from None
