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
from nas.runtimes.base import Layer, Say, Timing
from nas.runtimes.board import power as _power
from nas.runtimes.board import state as _board
from nas.runtimes.board.ssh import Connection, Finished
from nas.runtimes.board.state import Board, State
from nas.runtimes.tensorrt import trtexec as _trtexec
from nas.runtimes.tensorrt.trtexec import Form, Times, Tool

TRTEXECS = (
    "/usr/src/tensorrt/bin/trtexec",
    "/usr/local/tensorrt/bin/trtexec",
    "/opt/tensorrt/bin/trtexec",
    "/usr/bin/trtexec",
)
"""Where JetPack and NVIDIA's packages put it; nothing else is executed unless nas.toml names it."""
BUILD_LIMIT_S = 300
DURATION_S = 2.0
REFERENCE_S = 1.0
ATTEMPTS = 3
DRIFT_LIMIT = 0.03
UNSTEADY = 0.025
FREE_MB = 100
LARGEST_BYTES = 200_000_000

_PROBE = """
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

HOW = "GPU time of one image in a CUDA graph, copies not included"


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    """One timing of a file, and what speaks against it."""

    times: Times
    drift: float
    trouble: str
    board: Board

    @property
    def is_good(self) -> bool:
        return not self.trouble and abs(self.drift) <= DRIFT_LIMIT


class Bench:
    """One session on a board. Life: made on an open connection, `measured` for each file."""

    def __init__(
        self, link: Connection, profile: HardwareProfile, *, layers: bool, energy: bool,
        cache: dict[tuple[str, str], bytes], say: Say,
    ) -> None:  # fmt: skip
        self._link, self._layers, self._say, self._caches = link, layers, say, cache
        self._limit_s = float(profile.facts.get("build_limit_s", BUILD_LIMIT_S))
        self._board = identified(link)
        self._tool = probed(link, profile)
        if not enough(self._board.free_mb):
            raise MeasureError(
                f"{link.address} must have {FREE_MB} MB free for temporary files, but has {self._board.free_mb}; "
                "free some, or set TMPDIR for that account"
            )
        self._rails = _power.parse_rails(link.run(_power.RAILS).text) if energy else ()
        self._cache_key = (link.address, self._tool.version_text)
        self._count = 0
        self._send_cache()
        self._reference_ms = self._build_reference()

    def measured(self, model: Path) -> Timing | MeasureError:
        """A file's timing, or why there is none.

        Raises:
            UnreachableError: the connection broke.
        """
        self._count += 1
        self._say(f"{model.name!r}: build the engine and time it")
        try:
            return self._measured(model, f"candidate-{self._count}")
        except UnreachableError:
            raise
        except MeasureError as error:
            return error
        finally:
            if self._link.dry is not None or self._link.is_alive:
                self._link.run(f"rm -f {self._remote(f'candidate-{self._count}')}*")

    def keep_cache(self) -> None:
        """Take the board's timing cache along, for the next session of this process."""
        if found := self._fetch("timing.cache"):
            self._caches[self._cache_key] = found

    def _measured(self, model: Path, name: str) -> Timing:
        form = _trtexec.form_of(model)
        self._link.send([(model, f"{name}.onnx")])
        engine, runs = f"{name}.plan", f"{name}.json"
        command = _trtexec.build_and_time(
            self._tool, form, model=f"{name}.onnx", engine=engine, times=runs, cache="timing.cache",
            duration_s=DURATION_S,
        )  # fmt: skip
        attempts = [self._attempt(command, runs, model.name)]
        again = _trtexec.time_again(self._tool, form, engine=engine, times=runs, duration_s=DURATION_S)
        while not attempts[-1].is_good and len(attempts) < ATTEMPTS:
            self._say(f"{model.name!r}: {attempts[-1].trouble or _drifted(attempts[-1].drift, 1)}; timing it again")
            attempts.append(self._attempt(again, runs, model.name))
        best = min(attempts, key=lambda a: (bool(a.trouble), abs(a.drift)))
        return Timing(
            times_ms=best.times, device=self._device(best.board), drift=best.drift,
            versions=self._versions(best), notes=self._notes(best, form, len(attempts)),
            layers=self._layer_times(form, name) if self._layers else (),
            energy_mj=self._energy(form, name) if self._rails else None,
        )  # fmt: skip

    def _attempt(self, command: list[str], runs: str, what: str) -> _Attempt:
        before = self._board
        times, states = self._timed(command, runs, what)
        reference_ms = self._time_reference()
        drift, self._reference_ms = reference_ms / self._reference_ms - 1, reference_ms
        self._board = identified(self._link)
        trouble = _board.throttling(before, states, self._board)
        return _Attempt(times=times, drift=drift, trouble=trouble, board=self._board)

    def _timed(self, command: list[str], runs: str, what: str) -> tuple[Times, list[State]]:
        log = self._job(command, what, watch=_board.watch("states"))
        if self._link.dry is not None:
            self._fetch(runs), self._fetch("states")
            return np.ones(2), []
        states = _board.parse_states(self._fetch("states").decode(errors="replace"))
        try:
            return _trtexec.parse_times(self._fetch(runs).decode(errors="replace")), states
        except MeasureError as error:
            raise MeasureError(f"{_short(what)}: {error}", log=_trtexec.tail(log)) from None

    def _job(self, command: list[str], what: str, *, watch: str = ":") -> str:
        """Run trtexec; its log.

        Raises:
            MeasureError: it failed, or took too long; with the last lines of its log.
        """
        begin = time.monotonic()
        done = self._link.job(command, log="log", limit_s=self._limit_s, watch=watch)
        if done.status == 0:
            return done.text
        took_s = time.monotonic() - begin
        raise MeasureError(f"{_short(what)}: {self._reason(done, took_s)}", log=_trtexec.tail(done.text or done.err))

    def _reason(self, done: Finished, took_s: float) -> str:
        if done.status in {124, 137} and took_s >= self._limit_s:
            return f"the engine must be built and timed within {self._limit_s:.0f} s, but trtexec was stopped then"
        if done.status == 137:
            return f"trtexec was killed after {took_s:.0f} s; has the board memory left?"
        if "No space left on device" in done.text + done.err:
            return "the board's disk must have room for the engine, but it is full; free some"
        return f"trtexec failed with status {done.status}: {_trtexec.failure(done.text or done.err)}"

    def _build_reference(self) -> float:
        path, form = _reference.reference_path(), _trtexec.form_of(_reference.reference_path())
        self._say("build the reference network")
        self._link.send([(path, "reference.onnx")])
        command = _trtexec.build_and_time(
            self._tool, form, model="reference.onnx", engine="reference.plan", times="reference.json",
            cache="timing.cache", duration_s=REFERENCE_S,
        )  # fmt: skip
        self._timed(command, "reference.json", "the reference network")
        return self._time_reference()  # not the time after the build: all of them are taken alike

    def _time_reference(self) -> float:
        form = _trtexec.form_of(_reference.reference_path())
        command = _trtexec.time_again(
            self._tool, form, engine="reference.plan", times="reference.json", duration_s=REFERENCE_S
        )
        times, _ = self._timed(command, "reference.json", "the reference network")
        return float(np.median(times))

    def _layer_times(self, form: Form, name: str) -> tuple[Layer, ...]:
        command = _trtexec.time_layers(self._tool, form, engine=f"{name}.plan", profile=f"{name}.layers")
        self._job(command, "the layers")
        found = self._fetch(f"{name}.layers")
        return _trtexec.parse_layers(found.decode(errors="replace")) if self._link.dry is None else ()

    def _energy(self, form: Form, name: str) -> float | None:
        steps = round(_power.REST_S / _power.STEP_S)
        rest = self._link.run(f"k=0; {_power.sampling(self._rails, until=f'[ $((k=k+1)) -le {steps} ]')}")
        command = _trtexec.time_again(
            self._tool, form, engine=f"{name}.plan", times=f"{name}.energy", duration_s=_power.LOOP_S
        )
        watch = f"{{ {_power.sampling(self._rails, until='kill -0 $p 2>/dev/null')}; }} >power"
        log = self._job(command, "the energy", watch=watch)
        loop = _power.parse_power(self._fetch("power").decode(errors="replace"))
        return _power.energy_mj(_power.parse_power(rest.text), loop, _trtexec.throughput(log))

    def _send_cache(self) -> None:
        if found := self._caches.get(self._cache_key):
            path = _reference.reference_path().with_name("timing.cache")
            path.write_bytes(found)
            self._link.send([(path, "timing.cache")])
            path.unlink()

    def _fetch(self, name: str) -> bytes:
        """A file of the session's folder; empty when there is none."""
        done = self._link.run(f"gzip -1c {self._remote(name)}")
        if done.status or not done.out:
            return b""
        try:
            return zlib.decompressobj(31).decompress(done.out, LARGEST_BYTES)
        except zlib.error:
            return b""

    def _remote(self, name: str) -> str:
        return shlex.quote(f"{self._link.folder}/{name}")

    def _device(self, board: Board) -> str:
        return f"{board.model} ({board.mode or 'power mode unknown'}, clocks {board.clocks})"

    def _versions(self, attempt: _Attempt) -> dict[str, str]:
        return {
            "tensorrt": self._tool.version_text, **attempt.board.versions(),
            "temperature": heat(attempt.board.state), "throttled": attempt.trouble or "no",
        }  # fmt: skip

    def _notes(self, best: _Attempt, form: Form, attempts: int) -> tuple[str, ...]:
        notes = [HOW, *_trtexec.notes_of(self._tool, form)]
        if not best.board.is_locked:
            notes.append("clocks not locked: expect a spread of several percent; sudo jetson_clocks steadies them")
        if best.trouble:
            notes.append(best.trouble)
        if abs(best.drift) > DRIFT_LIMIT:
            notes.append(_drifted(best.drift, attempts))
        spread = float(np.std(best.times) / np.mean(best.times))
        if spread > UNSTEADY:
            notes.append(f"unsteady: coefficient of variation {spread:.1%}")
        return tuple(notes)


def identified(link: Connection) -> Board:
    return _board.parse_board(link.run(f"cd {shlex.quote(link.folder)} || exit 73\n{_board.IDENTIFY}").text)


def probed(link: Connection, profile: HardwareProfile) -> Tool:
    """The board's trtexec, asked for its version and flags.

    Raises:
        MeasureError: there is none, or it does not say its version.
    """
    named = profile.facts.get("trtexec")
    paths = (str(named),) if named else TRTEXECS
    done = link.run(_PROBE.replace("@PATHS@", shlex.join(paths)).strip(), limit_s=180)
    if link.dry is not None:
        assumed = str(profile.facts.get("tensorrt", "10.3")).split(".")
        link.dry.append(
            f"# the flags below are for TensorRT {'.'.join(assumed)}; the board's trtexec names its version"
        )
        return Tool(path=paths[0], version=(int(assumed[0]), int(assumed[1]), 0))
    first, _, rest = done.text.partition("\n")
    if done.status or not first.startswith("path="):
        raise MeasureError(
            f"{link.address} must have trtexec at {' or '.join(paths)}, but has none; install TensorRT's samples with "
            'JetPack, or name its path in nas.toml: trtexec = "/..."'
        )
    return Tool(path=first.removeprefix("path="), version=_trtexec.version_of(rest), help=rest)


def _drifted(drift: float, attempts: int) -> str:
    tried = f" in the least disturbed of {attempts} attempts" if attempts > 1 else ""
    return f"busy board: the reference network drifted by {drift:+.1%}{tried}"


def _short(what: str) -> str:
    return repr(what if len(what) <= 80 else f"{what[:77]}...") if what.endswith(".onnx") else what


def heat(state: State) -> str:
    return "unknown" if state.hottest_c is None else f"{state.hottest_c:.0f} C"


def megabytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,} MB"


def enough(free_mb: int | None) -> bool:
    return free_mb is None or free_mb >= FREE_MB
