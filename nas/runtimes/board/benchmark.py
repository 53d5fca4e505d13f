"""Benchmark session on a board: its reference network, and the timing of one file after the other.

A timing that drifts by more than 3 % or was throttled is repeated, up to three times in all; then the least disturbed
attempt counts, with a note. Engines are built and run in the session's folder on the board; none is transferred.
"""

import shlex
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hw_profiles._base import HardwareProfile
from nas.errors import MeasureError, UnreachableError
from nas.intervals import TimesMs
from nas.runtimes import reference_network as _reference
from nas.runtimes.base import DeviceTiming, LayerTiming, Log
from nas.runtimes.board import power as _power
from nas.runtimes.board import state as _board
from nas.runtimes.board.probe import (
    MIN_FREE_MB,
    format_temperature,
    has_enough_disk,
    identify_board,
    probe_trtexec,
)
from nas.runtimes.board.ssh import CompletedCommand, SshConnection
from nas.runtimes.board.state import Board, BoardState
from nas.runtimes.disturbance import DRIFT_LIMIT, TimingAttempt, drift_note, time_least_disturbed
from nas.runtimes.tensorrt import trtexec as _trtexec
from nas.runtimes.tensorrt.breakdown import explain_board, parse_summary
from nas.runtimes.tensorrt.dla import DlaPlacement, parse_placement
from nas.runtimes.tensorrt.trtexec import ModelFormat
from nas.runtimes.time_breakdown import TimeBreakdown

BUILD_TIMEOUT_S = 300
"""Seconds for building and timing one file, unless nas.toml has `build_limit_s`."""
TIMING_DURATION_S = 2.0
REFERENCE_DURATION_S = 1.0
"""Half as long as a file: the reference network takes 0.1 ms, so a second has thousands of runs."""
MAX_VARIATION = 0.025
"""Coefficient of variation above which the notes call the times unsteady."""
MAX_FETCHED_BYTES = 200_000_000
"""Bound on what a file of the board may unpack to here, so that a broken board cannot fill the memory."""
TIMING_CACHE = "timing.cache"

METHOD_NOTE = "GPU time of one image in a CUDA graph, copies not included"


@dataclass(frozen=True, kw_only=True, eq=False)
class _BoardAttempt(TimingAttempt):
    """One timing of a file; `board` is the board after it."""

    board: Board


class RemoteBenchmark:
    """One session on a board.

    Life: made on an open connection, which builds the reference network; `time_model` for each file;
    `save_timing_cache`. It ends with the connection, and leaves nothing on the board.
    """

    def __init__(
        self, connection: SshConnection, profile: HardwareProfile, *, with_layers: bool, with_energy: bool,
        with_breakdown: bool, batch: int, timing_caches: dict[tuple[str, str], bytes], log: Log,
    ) -> None:  # fmt: skip
        """Identify the board, and build and time the reference network.

        Args:
            connection: open connection to the board.
            profile: the target; its facts may name `trtexec` and `build_limit_s`.
            with_layers: whether each layer is timed too.
            with_energy: whether energy is measured too.
            with_breakdown: whether it is told where the time goes.
            batch: images of one run of a file; the reference network runs one.
            timing_caches: timing caches of the boards by address and TensorRT version, read and extended.
            log: receives progress lines.

        Raises:
            MeasureError: the board has no trtexec or no room, or the reference network does not run.
            UnreachableError: the connection broke.
        """
        self._connection, self._log = connection, log
        self._with_layers, self._with_breakdown = with_layers, with_breakdown
        self._batch, self._timing_caches = batch, timing_caches
        self._build_timeout_s = float(profile.facts.get("build_limit_s", BUILD_TIMEOUT_S))
        self._board = identify_board(connection)
        self._trtexec_info = probe_trtexec(connection, profile)
        if not has_enough_disk(self._board.free_disk_mb):
            raise MeasureError(
                f"{connection.address} must have {MIN_FREE_MB} MB free for temporary files, "
                f"but has {self._board.free_disk_mb}; free some, or set TMPDIR for that account"
            )
        self._rails = _power.parse_rails(connection.run(_power.RAILS_SCRIPT).stdout_text) if with_energy else ()
        self._timing_cache_key = (connection.address, self._trtexec_info.version_text)
        self._n_models, self._build_log = 0, ""
        self._send_timing_cache()
        self._reference_ms = self._build_reference()

    def time_model(self, model: Path) -> DeviceTiming | MeasureError:
        """Time one file.

        Returns:
            Its timing, or the reason why there is none.

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
            # On a dead connection the board's keeper removes the files; a command would hide the first error.
            if self._connection.dry_run_commands is not None or self._connection.is_alive:
                self._connection.run(f"rm -f {self._remote_path(f'candidate-{self._n_models}')}*")

    def save_timing_cache(self) -> None:
        """Fetch the board's timing cache for the next session of this process.

        Raises:
            UnreachableError: the connection broke.
        """
        if content := self._fetch(TIMING_CACHE):
            self._timing_caches[self._timing_cache_key] = content

    def _time_model(self, model: Path, remote_name: str) -> DeviceTiming:
        form = _trtexec.read_model_format(model, batch=self._batch)
        self._connection.upload([(model, f"{remote_name}.onnx")])
        engine, runs = f"{remote_name}.plan", f"{remote_name}.json"
        build = _trtexec.build_and_time_command(
            self._trtexec_info, form, model_file=f"{remote_name}.onnx", engine_file=engine, times_file=runs,
            timing_cache_file=TIMING_CACHE, duration_s=TIMING_DURATION_S,
        )  # fmt: skip
        repeat = _trtexec.time_engine_command(
            self._trtexec_info, form, engine_file=engine, times_file=runs, duration_s=TIMING_DURATION_S
        )

        def time_once(earlier: Sequence[_BoardAttempt]) -> _BoardAttempt:
            if earlier:
                reason = earlier[-1].disturbance or _format_drift(earlier[-1].drift, 1)
                self._log(f"{model.name!r}: {reason}; timing it again")
            return self._run_attempt(repeat if earlier else build, runs, model.name)

        best, n_attempts = time_least_disturbed(time_once)
        placement = self._dla_placement()
        return DeviceTiming(
            times_ms=best.times_ms, device=self._device(best.board), drift=best.drift,
            versions=self._versions(best), notes=self._notes(best, form, n_attempts, placement),
            dla_fallback=None if placement is None else len(placement.on_gpu),
            layers=self._layer_times(form, remote_name) if self._with_layers else (),
            energy_mj=self._measure_energy_mj(form, remote_name) if self._rails else None,
            breakdown=self._explain(best, form, remote_name, model.name) if self._with_breakdown else None,
        )  # fmt: skip

    def _dla_placement(self) -> DlaPlacement | None:
        """Where the layers of the engine built last run; None on the GPU, and in a dry run."""
        if self._trtexec_info.dla_core is None or self._connection.dry_run_commands is not None:
            return None
        return parse_placement(self._build_log)

    def _run_attempt(self, command: list[str], times_file: str, what: str) -> _BoardAttempt:
        before = self._board
        times_ms, states = self._run_timing(command, times_file, what)
        # The reference after this file is also the one before the next: one timing of it for each file.
        reference_ms = self._time_reference()
        drift, self._reference_ms = reference_ms / self._reference_ms - 1, reference_ms
        self._board = identify_board(self._connection)
        disturbance = _board.throttling_reason(before, states, self._board)
        return _BoardAttempt(times_ms=times_ms, drift=drift, disturbance=disturbance, board=self._board)

    def _run_timing(self, command: list[str], times_file: str, what: str) -> tuple[TimesMs, list[BoardState]]:
        """Times [runs] and the states of the board meanwhile; `what` names the file in errors."""
        log = self._run_trtexec(command, what, watch_script=_board.watch_script("states"))
        if any(word.startswith("--onnx=") for word in command):
            self._build_log = log
        if self._connection.dry_run_commands is not None:
            self._fetch(times_file), self._fetch("states")  # so that a dry run lists these commands too
            return np.ones(2), []
        states = _board.parse_states(self._fetch("states").decode(errors="replace"))
        try:
            return _trtexec.parse_times(self._fetch(times_file).decode(errors="replace")), states
        except MeasureError as error:
            raise MeasureError(f"{_shorten_name(what)}: {error}", log_lines=_trtexec.log_tail(log)) from None

    def _run_trtexec(self, command: list[str], what: str, *, watch_script: str = ":") -> str:
        """Run trtexec, and return its log.

        Raises:
            MeasureError: it failed or took too long; the error has the last lines of its log.
            UnreachableError: the connection broke.
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
            log_lines=_trtexec.log_tail(done.stdout_text or done.stderr),
        )

    def _failure_reason(self, completed: CompletedCommand, took_s: float) -> str:
        # 124 is timeout's own status, 137 that of SIGKILL: by timeout once the time was up, before that by the kernel.
        if completed.exit_code in {124, 137} and took_s >= self._build_timeout_s:
            return (
                f"the engine must be built and timed within {self._build_timeout_s:.0f} s, but trtexec was stopped then"
            )
        if completed.exit_code == 137:
            return f"trtexec was killed after {took_s:.0f} s; has the board memory left?"
        if "No space left on device" in completed.stdout_text + completed.stderr:
            return "the board's disk must have room for the engine, but it is full; free some"
        error = _trtexec.first_error(completed.stdout_text or completed.stderr)
        return f"trtexec failed with status {completed.exit_code}: {error}"

    def _build_reference(self) -> float:
        """Build the reference network; its median in milliseconds."""
        path, form = _reference.reference_path(), _trtexec.read_model_format(_reference.reference_path())
        self._log("build the reference network")
        self._connection.upload([(path, "reference.onnx")])
        command = _trtexec.build_and_time_command(
            self._trtexec_info, form, model_file="reference.onnx", engine_file="reference.plan",
            times_file="reference.json", timing_cache_file=TIMING_CACHE, duration_s=REFERENCE_DURATION_S,
        )  # fmt: skip
        self._run_timing(command, "reference.json", "the reference network")
        # The times of the building process are not used: it leaves another clock and heat than a mere timing.
        return self._time_reference()

    def _time_reference(self) -> float:
        """Median of the reference network in milliseconds."""
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
        content = self._fetch(f"{name}.layers")
        if self._connection.dry_run_commands is not None:
            return ()
        return _trtexec.parse_layers(content.decode(errors="replace"))

    def _explain(
        self, best: _BoardAttempt, model_format: ModelFormat, remote_name: str, what: str
    ) -> TimeBreakdown | None:
        """The breakdown of a timed engine, from a run as an application calls it and a profile of its layers."""
        command = _trtexec.time_application_command(self._trtexec_info, model_format, engine_file=f"{remote_name}.plan")
        log = self._run_trtexec(command, what)
        layers = self._layer_times(model_format, remote_name)
        if self._connection.dry_run_commands is not None:
            return None
        return explain_board(
            title=f"{what} on {self._device(best.board)}", graph_ms=float(np.median(best.times_ms)),
            application=parse_summary(log), layers=layers, remarks=[best.board.clock_remark],
        )  # fmt: skip

    def _measure_energy_mj(self, model_format: ModelFormat, name: str) -> float | None:
        """Energy of one inference above idle in mJ: power at rest first, then under a steady loop."""
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
        if content := self._timing_caches.get(self._timing_cache_key):
            path = _reference.reference_path().with_name(TIMING_CACHE)
            path.write_bytes(content)
            self._connection.upload([(path, TIMING_CACHE)])
            path.unlink()

    def _fetch(self, name: str) -> bytes:
        """Content of a file in the session's folder; empty where it is missing or damaged."""
        done = self._connection.run(f"gzip -1c {self._remote_path(name)}")
        if done.exit_code or not done.stdout:
            return b""
        try:
            # 31: a gzip header and the largest window (15 + 16).
            return zlib.decompressobj(31).decompress(done.stdout, MAX_FETCHED_BYTES)
        except zlib.error:
            return b""

    def _remote_path(self, name: str) -> str:
        return shlex.quote(f"{self._connection.remote_folder}/{name}")

    def _device(self, board: Board) -> str:
        return f"{board.model} ({board.power_mode or 'power mode unknown'}, clocks {board.clocks_text})"

    def _versions(self, attempt: _BoardAttempt) -> dict[str, str]:
        return {
            "tensorrt": self._trtexec_info.version_text, **attempt.board.versions(),
            "temperature": format_temperature(attempt.board.state), "throttled": attempt.disturbance or "no",
        }  # fmt: skip

    def _notes(
        self, best: _BoardAttempt, model_format: ModelFormat, n_attempts: int, placement: DlaPlacement | None
    ) -> tuple[str, ...]:
        method = METHOD_NOTE.replace("one image", f"{self._batch} images") if self._batch > 1 else METHOD_NOTE
        notes = [method, *_trtexec.build_notes(self._trtexec_info, model_format)]
        if placement is not None and self._trtexec_info.dla_core is not None:
            notes.append(placement.describe(self._trtexec_info.dla_core))
        if not best.board.has_locked_clocks:
            notes.append("clocks not locked: expect a spread of several percent; sudo jetson_clocks steadies them")
        if best.disturbance:
            notes.append(best.disturbance)
        if abs(best.drift) > DRIFT_LIMIT:
            notes.append(_format_drift(best.drift, n_attempts))
        spread = float(np.std(best.times_ms) / np.mean(best.times_ms))
        if spread > MAX_VARIATION:
            notes.append(f"unsteady: coefficient of variation {spread:.1%}")
        return tuple(notes)


def _format_drift(drift: float, n_attempts: int) -> str:
    tried = f" in the least disturbed of {n_attempts} attempts" if n_attempts > 1 else ""
    return drift_note(drift, device="board") + tried


def _shorten_name(name: str) -> str:
    """A file's name in quotes, at most 80 characters; other words as they are."""
    return repr(name if len(name) <= 80 else f"{name[:77]}...") if name.endswith(".onnx") else name
