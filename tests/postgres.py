"""A PostgreSQL server of its own for a test, which can be stopped and started."""

import gc
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PASSWORD = "pass/word?:%"  # what must be quoted in a URL
QUOTED = "pass%2Fword%3F%3A%25"


class Server:
    """One server with the databases that are made in it, on 127.0.0.1; it runs until it is stopped."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder = programs, folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        secret = folder / "password"
        secret.write_text(PASSWORD)
        self._own(secret)
        self._call(
            "initdb", "-D", folder / "data", "-U", "ada", "-A", "scram-sha-256", "--pwfile", secret, "-N", "-E", "UTF8",
            "--locale", "C",
        )  # fmt: skip
        self.start()

    def url(self, database: str = "postgres", *, password: str | None = QUOTED) -> str:
        """URL of a database."""
        login = "ada" if password is None else f"ada:{password}"
        return f"postgresql+psycopg://{login}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Rows of a statement that is run outside of any transaction."""
        import psycopg

        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="ada", password=PASSWORD, dbname="postgres", autocommit=True
        ) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def new_database(self) -> str:
        """URL of a database without tables."""
        name = f"nas{len(self.execute('SELECT 1 FROM pg_database'))}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def cut(self) -> None:
        """End all connections but this one's."""
        self.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'nas'")

    def start(self) -> None:
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self._folder} -c fsync=off "
            "-c shared_buffers=16MB"
        )
        self._call("pg_ctl", "-D", self._folder / "data", "-l", self._folder / "log", "-o", options, "-w", "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server: `immediate` like a crash, `fast` with a word to its clients."""
        self._call("pg_ctl", "-D", self._folder / "data", "-m", mode, "-w", "stop")

    def _own(self, path: Path) -> None:
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(path, "postgres")

    def _call(self, program: str, *words: object) -> None:
        user = "postgres" if os.geteuid() == 0 else None
        done = subprocess.run(
            [str(self._programs / program), *map(str, words)], user=user, cwd=self._folder, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


@contextmanager
def a_server() -> Iterator[Server]:
    """A running server; skips with the reason where there is none to run."""
    pytest.importorskip("psycopg", reason="needs psycopg; install the extra `postgres`")
    programs = _find_programs()
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="nas-postgres-", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        server = Server(programs, folder)
        try:
            yield server
        finally:
            gc.collect()  # connections that the server has cut end here, under this module's filter of warnings
            server.stop()


def _find_programs() -> Path:
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders:
        pytest.skip("needs PostgreSQL's server, which is not installed; apt-get install postgresql")
    if os.geteuid() == 0 and "postgres" not in {user.pw_name for user in pwd.getpwall()}:
        pytest.skip("needs the user postgres, as PostgreSQL's server does not run as root")
    return folders[-1]
