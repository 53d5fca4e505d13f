"""Connection to a board by this system's own ssh and scp, with the user's keys, agent, configuration and jump hosts.

The first ssh is the master of the connection and holds a *keeper* on the board: a shell that makes a private folder,
takes the board's lock, and waits for its standard input to end. All further commands go through the master's socket.
When the connection ends in any way, the keeper kills what still runs and removes the folder; when the network goes
silent, it misses the heartbeat and does the same a minute later. So nothing stays behind on the board.

The lock is on the board's directory for temporary files itself, so that no lock file stays behind either.

All text from a user passes through `shlex.quote`. Passwords are never requested, and the host must have a known key.
"""

import os
import re
import select
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from nas.errors import ConfigError, MissingPackageError, UnreachableError
from nas.files import regular_file_fault

CONNECT_TIMEOUT_S = 8
HEARTBEAT_INTERVAL_S = 15
HEARTBEAT_TIMEOUT_S = 60
"""Seconds without a heartbeat after which the keeper assumes that this side is gone: four missed heartbeats."""
LOCK_TIMEOUT_S = 600
"""Seconds to wait for another session: it holds the lock for a batch of files, each of which may take minutes."""
COMMAND_TIMEOUT_S = 60
"""Seconds that a short command may take."""
MAX_SOCKET_PATH = 80
"""Longest folder for the socket: of the 104 to 108 characters of its path, /master and ssh's suffix need 24."""

_ADDRESS_PATTERN = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9_][A-Za-z0-9_.-]*(?::[0-9]{1,5})?")

# Descriptor 9 holds the lock. It is closed for the heartbeat loop, as a child that outlives the keeper would keep it.
# Each job has a file named by its process group, which is killed first by TERM, then by KILL.
_KEEPER_SCRIPT = """
umask 077
tmp=${TMPDIR:-/tmp}
exec 9<"$tmp" || exit 73
flock -n 9 || { echo busy; flock -w @LOCK@ 9 || { echo "another search holds the lock" >&2; exit 75; }; }
dir=$(mktemp -d "$tmp/nas-XXXXXX") || exit 73
end() {
  trap "" HUP INT TERM
  for signal in TERM KILL; do
    for job in "$dir"/jobs/*; do
      [ -e "$job" ] && kill -$signal "-${job##*/}" 2>/dev/null && sleep 0.3
    done
  done
  rm -rf -- "$dir"
}
trap end EXIT
trap "exit 143" HUP INT TERM
mkdir "$dir/jobs" || exit 73
echo "dir $dir"
while timeout @SILENCE@ sh -c "IFS= read -r beat"; do :; done 9<&-
"""

# timeout makes a process group of the command, whose number is the name of its file in jobs/.
_JOB_SCRIPT = """
cd @DIR@ || exit 73
timeout -k 5 @LIMIT@ @COMMAND@ >@LOG@ 2>&1 </dev/null &
p=$!
: >jobs/$p
@WATCH@
wait $p
r=$?
rm -f jobs/$p
tail -c 200000 @LOG@
exit $r
"""

_REASON_BY_ERROR: dict[str, str] = {
    "IDENTIFICATION HAS CHANGED": "must show the host key that is known of it, but showed another; find out whether "
    "the board was set up anew, and only then type: ssh-keygen -R {host}",
    "Host key verification failed": "must be a host whose key is known, but this one's is not; type once: ssh {host}, "
    "and compare the fingerprint",
    "Permission denied": "must let you in by key and without a password, but does not; type: ssh-copy-id {host}",
    "Could not resolve": "must be a name that resolves to a host, but does not; mend it in nas.toml or ~/.ssh/config",
    "Connection refused": "must run an ssh server, but refused the connection",
    "timed out": "must answer, but was silent; is the board on, and on this network?",
    "No route to host": "must answer, but there is no route to it; is the board on, and on this network?",
    "No space left": "must have room in its directory for temporary files, but the disk is full; free some",
    "another search holds": "must be free, but another search kept its lock for ten minutes; try again later",
}
"""Error texts of ssh, scp and the keeper, and what to tell the user; the first match counts."""


@dataclass(frozen=True, kw_only=True)
class CompletedCommand:
    """A command that ended on the board: exit status, standard output, and standard error."""

    exit_code: int
    stdout: bytes
    stderr: str

    @property
    def stdout_text(self) -> str:
        """Standard output as UTF-8; invalid bytes are replaced."""
        return self.stdout.decode(errors="replace")


def parse_address(address: str) -> tuple[str, int | None]:
    """Split an address `[user@]host[:port]` into `[user@]host` and the port, None without one.

    Raises:
        ConfigError: it has another form; ssh would take a leading dash for an option.
    """
    if not _ADDRESS_PATTERN.fullmatch(address):
        raise ConfigError(
            f"an ssh address must be user@host or user@host:port of letters, digits, '.', '_' and '-', not beginning "
            f"with '-', but got {address!r}; put anything else into ~/.ssh/config under a short name"
        )
    host, _, port = address.partition(":")
    return host, int(port) if port else None


class SshConnection:
    """A connection with a private folder on the board.

    Life: made (nothing happens), entered with `with` (connects, locks, makes the folder), `run`, `run_job` and `upload`
    any number of times, left. Then the processes and the folder on the board are gone, whatever happened. A connection
    that broke cannot be used again.

    Attributes:
        address: the address as given.
        remote_folder: the folder on the board, as the board names it.
        dry_run_commands: list that takes the commands instead of running them; None to run them.
    """

    def __init__(
        self, address: str, *, ssh_config: Path | None = None, dry_run_commands: list[str] | None = None,
        log: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        """Check the address.

        Args:
            address: `[user@]host[:port]`, or a name from ~/.ssh/config.
            ssh_config: file for `ssh -F`; None for the user's own.
            dry_run_commands: takes the commands, which are then not run.
            log: receives progress lines.

        Raises:
            ConfigError: the address has another form, or `ssh_config` is no file that ssh can read to its end.
        """
        if ssh_config is not None and ssh_config != Path(os.devnull) and (fault := regular_file_fault(ssh_config)):
            raise ConfigError(f"ssh_config {ssh_config} {fault}; correct its path in nas.toml")
        self.address = address
        self._host, self._port = parse_address(address)
        self._ssh_config, self.dry_run_commands, self._log = ssh_config, dry_run_commands, log
        self.remote_folder = "/tmp/nas-XXXXXX"  # noqa: S108  a dry run writes this pattern
        self._local_folder = Path()
        self._keeper: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Connect, wait for the board's lock, and make the folder.

        Raises:
            MissingPackageError: this machine has no ssh.
            UnreachableError: the board does not answer, shows another host key, refuses the login, or stays locked.
        """
        if not shutil.which("ssh") or not shutil.which("scp"):
            raise MissingPackageError("a board over ssh needs ssh and scp, which are missing; install openssh-client")
        self._local_folder = Path(tempfile.mkdtemp(prefix="nas-"))  # mode 0700
        if len(str(self._local_folder)) > MAX_SOCKET_PATH:
            self._local_folder.rmdir()
            self._local_folder = Path(tempfile.mkdtemp(prefix="nas-", dir="/tmp"))
        script = _fill_template(_KEEPER_SCRIPT, LOCK=LOCK_TIMEOUT_S, SILENCE=HEARTBEAT_TIMEOUT_S)
        command = self._ssh_command("ControlMaster=yes", script)
        if self._record_dry_run(command):
            return self
        try:
            self._keeper = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
            )
            self.remote_folder = self._read_remote_folder()
        except BaseException:
            self._close()
            raise
        threading.Thread(target=self._send_heartbeats, args=(self._keeper,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def run(self, script: str, *, timeout_s: float = COMMAND_TIMEOUT_S) -> CompletedCommand:
        """Run a POSIX shell script on the board.

        Raises:
            UnreachableError: the connection broke, or the script took longer than `timeout_s` seconds.
        """
        return self._run_local(self._ssh_command("ControlMaster=no", script), timeout_s)

    def run_job(
        self, command: Sequence[str], *, log_file: str, timeout_s: float, watch_script: str = ":"
    ) -> CompletedCommand:
        """Run a long command in the folder.

        Args:
            command: program and arguments.
            log_file: file in the folder that takes both output streams.
            timeout_s: seconds after which the board kills it; the exit status is then 124 or 137.
            watch_script: shell script that runs beside it; `$p` is the process.

        Returns:
            Exit status, and the last 200,000 bytes of the log as standard output.

        Raises:
            UnreachableError: the connection broke.
        """
        words = shlex.join(command)
        script = _fill_template(
            _JOB_SCRIPT,
            DIR=shlex.quote(self.remote_folder),
            LIMIT=f"{timeout_s:g}",
            COMMAND=words,
            LOG=shlex.quote(log_file),
            WATCH=watch_script,
        )
        return self.run(script, timeout_s=timeout_s + COMMAND_TIMEOUT_S)

    def upload(self, files: Sequence[tuple[Path, str]]) -> None:
        """Copy files of this machine into the folder.

        Args:
            files: each file, and its name in the folder.

        Raises:
            UnreachableError: the connection broke, or the board has no room.
        """
        # scp parses names of files (a colon is a host); copies under our own names keep the user's out of its command.
        staged = []
        for path, name in files:
            staged.append(str(self._local_folder / name))
            shutil.copyfile(path, staged[-1])
        target = f"{self._host}:{self.remote_folder}/"
        command = ["scp", "-q", *self._ssh_options("ControlMaster=no"), "--", *staged, target]
        done = self._run_local(command, COMMAND_TIMEOUT_S + 10 * len(files))
        for file in staged:
            Path(file).unlink()
        if done.exit_code:
            raise UnreachableError(
                f"{self.address} must take the files, but did not: {self._explain_error(done.stderr)}"
            )

    @property
    def is_alive(self) -> bool:
        """Whether the master of the connection still runs."""
        return self._keeper is not None and self._keeper.poll() is None

    def _run_local(self, command: list[str], timeout_s: float) -> CompletedCommand:
        if self._record_dry_run(command):
            return CompletedCommand(exit_code=0, stdout=b"", stderr="")
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise UnreachableError(f"{self.address} must answer within {timeout_s:.0f} s, but was silent") from None
        if done.returncode == 255:  # ssh's own failure, or a command that really ended with 255
            time.sleep(0.2)  # the master ends a moment after its sessions
            if not self.is_alive:
                raise UnreachableError(f"the connection to {self.address} broke in the middle of a measurement")
        return CompletedCommand(
            exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr.decode(errors="replace")
        )

    def _ssh_command(self, control_master: str, script: str) -> list[str]:
        return [
            "ssh",
            "-T",
            *self._ssh_options(control_master),
            "--",
            self._host,
            f"exec /bin/sh -c {shlex.quote(script)}",
        ]

    def _ssh_options(self, control_master: str) -> list[str]:
        settings = [
            "BatchMode=yes", "StrictHostKeyChecking=yes", f"ConnectTimeout={CONNECT_TIMEOUT_S}",
            "ServerAliveInterval=5", "ServerAliveCountMax=3",  # a dead network is noticed after 15 s
            "ClearAllForwardings=yes", "ForwardAgent=no", "PermitLocalCommand=no", control_master, "ControlPersist=no",
            f"ControlPath={self._local_folder}/master",
        ]  # fmt: skip
        if control_master == "ControlMaster=no":
            # Without the master ssh would connect anew, past the keeper and its lock; `false` makes that fail.
            settings.append("ProxyCommand=false")
        if self._port:
            settings.append(f"Port={self._port}")
        options = ["-F", str(self._ssh_config.absolute())] if self._ssh_config else []
        return [*options, *(word for setting in settings for word in ("-o", setting))]

    def _record_dry_run(self, command: list[str]) -> bool:
        if self.dry_run_commands is not None:
            self.dry_run_commands.append(shlex.join(command))
        return self.dry_run_commands is not None

    def _read_remote_folder(self) -> str:
        """Name of the folder on the board, from the keeper.

        Raises:
            UnreachableError: the keeper ended, was silent for too long, or the lock was not free in time.
        """
        seen, deadline = b"", time.monotonic() + COMMAND_TIMEOUT_S
        while True:
            line = self._read_keeper_line(deadline)
            if line == b"busy":
                self._log(f"another search is measuring on {self.address}; waiting for it")
                deadline = time.monotonic() + LOCK_TIMEOUT_S + COMMAND_TIMEOUT_S
            elif line.startswith(b"dir /"):
                return line.removeprefix(b"dir ").decode()
            elif not line:
                raise UnreachableError(f"{self.address} {self._explain_error(self._keeper_stderr())}")
            seen += line  # a greeting of the login shell is skipped
            if len(seen) > 100_000:
                raise UnreachableError(
                    f"{self.address} must start a plain POSIX shell, but its login prints without end; "
                    "check the account's shell and profile"
                )

    def _read_keeper_line(self, deadline: float) -> bytes:
        """One line of the keeper; empty where it ended or the deadline passed.

        Read byte by byte from the descriptor: a buffered reader would swallow lines that `select` then never reports.
        """
        assert self._keeper is not None  # noqa: S101
        assert self._keeper.stdout is not None  # noqa: S101
        line = b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._keeper.stdout], [], [], left)[0]:
                return b""
            if not (byte := os.read(self._keeper.stdout.fileno(), 1)):
                return b""
            line += byte
        return line[:-1] or b" "  # an empty line is no end

    def _keeper_stderr(self) -> str:
        assert self._keeper is not None  # noqa: S101
        try:
            _, err = self._keeper.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            return "timed out"
        return err.decode(errors="replace")

    def _explain_error(self, stderr: str) -> str:
        """What to do about an error text of ssh; the last line of the text where it is unknown."""
        for sign, reason in _REASON_BY_ERROR.items():
            if sign in stderr:
                return reason.format(host=self._host)
        lines = [line.strip() for line in stderr.splitlines() if line.strip()]
        return f"must answer, but ssh says: {lines[-1] if lines else 'nothing'}"

    def _send_heartbeats(self, keeper: "subprocess.Popen[bytes]") -> None:
        assert keeper.stdin is not None  # noqa: S101
        while keeper.poll() is None:
            try:
                keeper.stdin.write(b"\n")
                keeper.stdin.flush()
            except (OSError, ValueError):
                return
            time.sleep(HEARTBEAT_INTERVAL_S)

    def _close(self) -> None:
        """End the keeper, which cleans up on the board, and remove the local folder."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            try:
                keeper.communicate(timeout=15)  # closes its input, upon which it cleans up and ends
            except (subprocess.TimeoutExpired, ValueError, OSError):
                keeper.kill()
                keeper.wait()
            for stream in (keeper.stdin, keeper.stdout, keeper.stderr):
                if stream is not None:
                    stream.close()
        if self._local_folder != Path():
            shutil.rmtree(self._local_folder, ignore_errors=True)


def _fill_template(script: str, **values: object) -> str:
    """The script with each @NAME@ replaced; values are quoted by the caller where they need it."""
    for name, value in values.items():
        script = script.replace(f"@{name}@", str(value))
    return script.strip()
