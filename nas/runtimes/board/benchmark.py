"""One session on a board: who it is, its reference network, and the timing of one file after the other.

What drifts by more than 3 % or was throttled is timed anew, three times at most; then the least disturbed attempt is
kept, and says so. Engines are built and run in the session's folder, and never fetched or sent.
"""

import shlex
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hw_profiles._base import HardwareProfile
from nas.errors import MeasureError, UnreachableError
from nas.runtimes import reference_network as _reference
from nas.runtimes.base import DeviceTiming, LayerTiming, Log
from nas.runtimes.board import power as _power
from nas.runtimes.board import state as _board
from nas.runtimes.board.ssh import CompletedCommand, SshConnection
from nas.runtimes.board.state import Board, BoardState
from nas.runtimes.tensorrt import trtexec as _trtexec
from nas.runtimes.tensorrt.trtexec import ModelFormat, TimesMs, TrtexecInfo

TRTEXEC_PATHS = (
    "/usr/src/tensorrt/bin/trtexec",
    "/usr/local/tensorrt/bin/trtexec",
    "/opt/tensorrt/bin/trtexec",
    "/usr/bin/trtexec",
)
"""Where JetPack and NVIDIA's packages put it; nothing else is executed unless nas.toml names it."""
BUILD_TIMEOUT_S = 300
TIMING_DURATION_S = 2.0
REFERENCE_DURATION_S = 1.0
MAX_ATTEMPTS = 3
DRIFT_LIMIT = 0.03
MAX_VARIATION = 0.025
MIN_FREE_MB = 100
MAX_FETCHED_BYTES = 200_000_000

_PROBE_SCRIPT = """
for t in @PATHS@; do
  [ -x "$t" ] || continue
  echo "path=$t"
  said=$(timeout 60 "$t" --help 2>&1 | head -c 200000)
  case $said in *"RUNNING TensorRT"*) ;; *) said=$(timeout 60 "$t" 2>&1 | head -c 200000) ;; esac
  printf "%s\\n" "$said"
  exit 0
done
exit 44
"""

METHOD_NOTE = "GPU time of one image in a CUDA graph, copies not included"


@dataclass(frozen=True, kw_only=True)
class _TimingAttempt:
    """One timing of a file, and what speaks against it."""

    times_ms: TimesMs
    drift: float
    disturbance: str
    board: Board

    @property
    def is_undisturbed(self) -> bool:
        return not self.disturbance and abs(self.drift) <= DRIFT_LIMIT


class RemoteBenchmark:
    """One session on a board. Life: made on an open connection, `measured` for each file."""

    def __init__(
        self, connection: SshConnection, profile: HardwareProfile, *, with_layers: bool, with_energy: bool,
        timing_caches: dict[tuple[str, str], bytes], log: Log,
    ) -> None:  # fmt: skip
        self._connection, self._with_layers, self._log, self._timing_caches = (
            connection,
            with_layers,
            log,
            timing_caches,
        )
        self._build_timeout_s = float(profile.facts.get("build_limit_s", BUILD_TIMEOUT_S))
        self._board = identify_board(connection)
        self._trtexec_info = probe_trtexec(connection, profile)
        if not has_enough_disk(self._board.free_disk_mb):
            raise MeasureError(
                f"{connection.address} must have {MIN_FREE_MB} MB free for temporary files, but has {self._board.free_disk_mb}; "
                "free some, or set TMPDIR for that account"
            )
        self._rails = _power.parse_rails(connection.run(_power.RAILS_SCRIPT).stdout_text) if with_energy else ()
        self._timing_cache_key = (connection.address, self._trtexec_info.version_text)
        self._n_models = 0
        self._send_timing_cache()
        self._reference_ms = self._build_reference()

    def time_model(self, model: Path) -> DeviceTiming | MeasureError:
        """A file's timing, or why there is none.

        Raises:
            UnreachableError: the connection broke.
        """
        self._n_models += 1
        self._log(f"{model.name!r}: build the engine and time it")
        try:
            return self._time_model(model, f"candidate-{self._n_models}")
        except UnreachableError:
            raise
        except MeasureError as error:
            return error
        finally:
            if self._connection.dry_run_commands is not None or self._connection.is_alive:
                self._connection.run(f"rm -f {self._remote_path(f'candidate-{self._n_models}')}*")

    def save_timing_cache(self) -> None:
        """Take the board's timing cache along, for the next session of this process."""
        if found := self._fetch("timing.cache"):
            self._timing_caches[self._timing_cache_key] = found

    def _time_model(self, model: Path, remote_name: str) -> DeviceTiming:
        form = _trtexec.read_model_format(model)
        self._connection.upload([(model, f"{remote_name}.onnx")])
        engine, runs = f"{remote_name}.plan", f"{remote_name}.json"
        command = _trtexec.build_and_time_command(
            self._trtexec_info, form, model_file=f"{remote_name}.onnx", engine_file=engine, times_file=runs, timing_cache_file="timing.cache",
            duration_s=TIMING_DURATION_S,
        )  # fmt: skip
        attempts = [self._run_attempt(command, runs, model.name)]
        again = _trtexec.time_engine_command(
            self._trtexec_info, form, engine_file=engine, times_file=runs, duration_s=TIMING_DURATION_S
        )
        while not attempts[-1].is_undisturbed and len(attempts) < MAX_ATTEMPTS:
            self._log(
                f"{model.name!r}: {attempts[-1].disturbance or _format_drift(attempts[-1].drift, 1)}; timing it again"
            )
            attempts.append(self._run_attempt(again, runs, model.name))
        best = min(attempts, key=lambda a: (bool(a.disturbance), abs(a.drift)))
        return DeviceTiming(
            times_ms=best.times_ms, device=self._device(best.board), drift=best.drift,
            versions=self._versions(best), notes=self._notes(best, form, len(attempts)),
            layers=self._layer_times(form, remote_name) if self._with_layers else (),
            energy_mj=self._measure_energy_mj(form, remote_name) if self._rails else None,
        )  # fmt: skip

    def _run_attempt(self, command: list[str], times_file: str, what: str) -> _TimingAttempt:
        before = self._board
        times, states = self._run_timing(command, times_file, what)
        reference_ms = self._time_reference()
        drift, self._reference_ms = reference_ms / self._reference_ms - 1, reference_ms
        self._board = identify_board(self._connection)
        trouble = _board.throttling_reason(before, states, self._board)
        return _TimingAttempt(times_ms=times, drift=drift, disturbance=trouble, board=self._board)

    def _run_timing(self, command: list[str], times_file: str, what: str) -> tuple[TimesMs, list[BoardState]]:
        log = self._run_trtexec(command, what, watch_script=_board.watch_script("states"))
        if self._connection.dry_run_commands is not None:
            self._fetch(times_file), self._fetch("states")
            return np.ones(2), []
        states = _board.parse_states(self._fetch("states").decode(errors="replace"))
        try:
            return _trtexec.parse_times(self._fetch(times_file).decode(errors="replace")), states
        except MeasureError as error:
            raise MeasureError(f"{_shorten_name(what)}: {error}", log=_trtexec.log_tail(log)) from None

    def _run_trtexec(self, command: list[str], what: str, *, watch_script: str = ":") -> str:
        """Run trtexec; its log.

        Raises:
            MeasureError: it failed, or took too long; with the last lines of its log.
        """
        begin = time.monotonic()
        done = self._connection.run_job(
            command, log_file="log", timeout_s=self._build_timeout_s, watch_script=watch_script
        )
        if done.exit_code == 0:
            return done.stdout_text
        took_s = time.monotonic() - begin
        raise MeasureError(
            f"{_shorten_name(what)}: {self._failure_reason(done, took_s)}",
            log=_trtexec.log_tail(done.stdout_text or done.stderr),
        )

    def _failure_reason(self, completed: CompletedCommand, took_s: float) -> str:
        if completed.exit_code in {124, 137} and took_s >= self._build_timeout_s:
            return (
                f"the engine must be built and timed within {self._build_timeout_s:.0f} s, but trtexec was stopped then"
            )
        if completed.exit_code == 137:
            return f"trtexec was killed after {took_s:.0f} s; has the board memory left?"
        if "No space left on device" in completed.stdout_text + completed.stderr:
            return "the board's disk must have room for the engine, but it is full; free some"
        return f"trtexec failed with status {completed.exit_code}: {_trtexec.first_error(completed.stdout_text or completed.stderr)}"

    def _build_reference(self) -> float:
        path, form = _reference.reference_path(), _trtexec.read_model_format(_reference.reference_path())
        self._log("build the reference network")
        self._connection.upload([(path, "reference.onnx")])
        command = _trtexec.build_and_time_command(
            self._trtexec_info, form, model_file="reference.onnx", engine_file="reference.plan", times_file="reference.json",
            timing_cache_file="timing.cache", duration_s=REFERENCE_DURATION_S,
        )  # fmt: skip
        self._run_timing(command, "reference.json", "the reference network")
        return self._time_reference()  # not the time after the build: all of them are taken alike

    def _time_reference(self) -> float:
        form = _trtexec.read_model_format(_reference.reference_path())
        command = _trtexec.time_engine_command(
            self._trtexec_info,
            form,
            engine_file="reference.plan",
            times_file="reference.json",
            duration_s=REFERENCE_DURATION_S,
        )
        times, _ = self._run_timing(command, "reference.json", "the reference network")
        return float(np.median(times))

    def _layer_times(self, model_format: ModelFormat, name: str) -> tuple[LayerTiming, ...]:
        command = _trtexec.time_layers_command(
            self._trtexec_info, model_format, engine_file=f"{name}.plan", profile_file=f"{name}.layers"
        )
        self._run_trtexec(command, "the layers")
        found = self._fetch(f"{name}.layers")
        return (
            _trtexec.parse_layers(found.decode(errors="replace")) if self._connection.dry_run_commands is None else ()
        )

    def _measure_energy_mj(self, model_format: ModelFormat, name: str) -> float | None:
        steps = round(_power.IDLE_DURATION_S / _power.SAMPLE_INTERVAL_S)
        rest = self._connection.run(f"k=0; {_power.sampling_script(self._rails, until=f'[ $((k=k+1)) -le {steps} ]')}")
        command = _trtexec.time_engine_command(
            self._trtexec_info,
            model_format,
            engine_file=f"{name}.plan",
            times_file=f"{name}.energy",
            duration_s=_power.LOAD_DURATION_S,
        )
        watch = f"{{ {_power.sampling_script(self._rails, until='kill -0 $p 2>/dev/null')}; }} >power"
        log = self._run_trtexec(command, "the energy", watch_script=watch)
        loop = _power.parse_power_mw(self._fetch("power").decode(errors="replace"))
        return _power.energy_mj(_power.parse_power_mw(rest.stdout_text), loop, _trtexec.parse_throughput(log))

    def _send_timing_cache(self) -> None:
        if found := self._timing_caches.get(self._timing_cache_key):
            path = _reference.reference_path().with_name("timing.cache")
            path.write_bytes(found)
            self._connection.upload([(path, "timing.cache")])
            path.unlink()

    def _fetch(self, name: str) -> bytes:
        """A file of the session's folder; empty when there is none."""
        done = self._connection.run(f"gzip -1c {self._remote_path(name)}")
        if done.exit_code or not done.stdout:
            return b""
        try:
            return zlib.decompressobj(31).decompress(done.stdout, MAX_FETCHED_BYTES)
        except zlib.error:
            return b""

    def _remote_path(self, name: str) -> str:
        return shlex.quote(f"{self._connection.remote_folder}/{name}")

    def _device(self, board: Board) -> str:
        return f"{board.model} ({board.power_mode or 'power mode unknown'}, clocks {board.clocks_text})"

    def _versions(self, attempt: _TimingAttempt) -> dict[str, str]:
        return {
            "tensorrt": self._trtexec_info.version_text, **attempt.board.versions(),
            "temperature": format_temperature(attempt.board.state), "throttled": attempt.disturbance or "no",
        }  # fmt: skip

    def _notes(self, best: _TimingAttempt, model_format: ModelFormat, attempts: int) -> tuple[str, ...]:
        notes = [METHOD_NOTE, *_trtexec.typing_notes(self._trtexec_info, model_format)]
        if not best.board.has_locked_clocks:
            notes.append("clocks not locked: expect a spread of several percent; sudo jetson_clocks steadies them")
        if best.disturbance:
            notes.append(best.disturbance)
        if abs(best.drift) > DRIFT_LIMIT:
            notes.append(_format_drift(best.drift, attempts))
        spread = float(np.std(best.times_ms) / np.mean(best.times_ms))
        if spread > MAX_VARIATION:
            notes.append(f"unsteady: coefficient of variation {spread:.1%}")
        return tuple(notes)


def identify_board(connection: SshConnection) -> Board:
    return _board.parse_board(
        connection.run(f"cd {shlex.quote(connection.remote_folder)} || exit 73\n{_board.IDENTIFY_SCRIPT}").stdout_text
    )


def probe_trtexec(connection: SshConnection, profile: HardwareProfile) -> TrtexecInfo:
    """The board's trtexec, asked for its version and flags.

    Raises:
        MeasureError: there is none, or it does not say its version.
    """
    named = profile.facts.get("trtexec")
    paths = (str(named),) if named else TRTEXEC_PATHS
    done = connection.run(_PROBE_SCRIPT.replace("@PATHS@", shlex.join(paths)).strip(), timeout_s=180)
    if connection.dry_run_commands is not None:
        assumed = str(profile.facts.get("tensorrt", "10.3")).split(".")
        connection.dry_run_commands.append(
            f"# the flags below are for TensorRT {'.'.join(assumed)}; the board's trtexec names its version"
        )
        return TrtexecInfo(path=paths[0], version=(int(assumed[0]), int(assumed[1]), 0))
    first, _, rest = done.stdout_text.partition("\n")
    if done.exit_code or not first.startswith("path="):
        raise MeasureError(
            f"{connection.address} must have trtexec at {' or '.join(paths)}, but has none; install TensorRT's samples with "
            'JetPack, or name its path in nas.toml: trtexec = "/..."'
        )
    return TrtexecInfo(path=first.removeprefix("path="), version=_trtexec.parse_version(rest), help_text=rest)


def _format_drift(drift: float, attempts: int) -> str:
    tried = f" in the least disturbed of {attempts} attempts" if attempts > 1 else ""
    return f"busy board: the reference network drifted by {drift:+.1%}{tried}"


def _shorten_name(name: str) -> str:
    return repr(name if len(name) <= 80 else f"{name[:77]}...") if name.endswith(".onnx") else name


def format_temperature(state: BoardState) -> str:
    return "unknown" if state.hottest_c is None else f"{state.hottest_c:.0f} C"


def format_megabytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,} MB"


def has_enough_disk(free_disk_mb: int | None) -> bool:
    return free_disk_mb is None or free_disk_mb >= MIN_FREE_MB
