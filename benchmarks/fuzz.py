"""Random damage to every kind of file that a user hands over: read, or refused in one line, in bounded time.

    python -m benchmarks.fuzz --inputs 100000 --kinds table,run --failures failures --json OUT.json

An input is a small valid file, or a folder of them, with one to four random changes: of bytes, numbers, words, lines,
values of JSON, fields of an ONNX graph, tensors of a checkpoint; or a pipe, a device, a folder or nothing stands in its
place. Input `I` of kind `K` depends on `--seed`, `K` and `I` alone, so `--kinds K --first I --inputs 1` makes it again.

A worker process reads the inputs, by the functions that the commands call. It answers each within `--limit` seconds
or is killed, which counts as a hang. Its death counts as a traceback, except where an ONNX file ends it that a search
reads in a child process of its own. Printed are, for each kind, the numbers of inputs that were

- read, and hold nothing impossible such as a latency of 0;
- refused by an error of this package, or of the system, in one printable line;
- answered by any other exception ("tracebacks"), and by none ("hangs"); these are kept below `--failures`.
"""

import argparse
import contextlib
import json
import logging
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks._fuzz_base import Kind
from benchmarks._fuzz_kinds import KINDS, make_input
from benchmarks._fuzz_mutation import write_files
from nas.errors import MeasureError, NasError, describe_system_error
from nas.runtimes.onnx_trial import check_in_child

SERVE = "from benchmarks.fuzz import serve; serve()"
"""Code of the worker process."""
OUTCOMES = ("read", "refused", "traceback", "hang")
MEMORY_LIMIT_BYTES = 8 * 2**30
"""Bound of the worker's address space, of which torch reserves some GiB."""


@dataclass(kw_only=True)
class Tally:
    """Counts of one kind.

    Attributes:
        kind: name of the kind.
        outcomes: number of inputs by outcome.
        faults: index of each input that ended in a traceback or hang, with what was seen.
        seconds: wall time.
        slowest_s: longest time of one input.
    """

    kind: str
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0
    slowest_s: float = 0.0

    def __str__(self) -> str:
        counts = " ".join(f"{self.outcomes[outcome]:>10}" for outcome in OUTCOMES)
        return (
            f"{self.kind:12} {sum(self.outcomes.values()):>10} {counts} {self.seconds:>10.0f} {self.slowest_s:>10.2f}"
        )


def main() -> None:
    """Read the inputs of each kind, print the table; exit status 1 with a traceback or a hang."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=5000, help="number of inputs, of all kinds together")
    parser.add_argument("--kinds", default=",".join(KINDS), help="kinds, separated by commas")
    parser.add_argument("--seed", type=int, default=0, help="of the generator")
    parser.add_argument("--first", type=int, default=0, help="index of the first input of each kind")
    parser.add_argument("--limit", type=float, default=10.0, help="seconds for one input")
    parser.add_argument("--failures", type=Path, default=Path("fuzz-failures"), help="folder for inputs that fail")
    parser.add_argument("--json", type=Path, help="write the counts to this file as well")
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        parser.error(f"--kinds must be among {', '.join(KINDS)}, but got {', '.join(unknown)}")
    titles = " ".join(
        f"{title:>10}" for title in ("tried", "read", "refused", "tracebacks", "hangs", "seconds", "slowest s")
    )
    print(f"{'kind':12} {titles}")
    tallies = []
    with Worker(limit_s=options.limit) as worker:
        for position, kind in enumerate(kinds):
            count = options.inputs // len(kinds) + (position < options.inputs % len(kinds))
            indices = range(options.first, options.first + count)
            tallies.append(try_inputs(worker, kind, indices, seed=options.seed, progress=sys.stderr.isatty()))
            print(tallies[-1], flush=True)
            for index, fault in tallies[-1].faults.items():
                save_failure(options.failures, kind, index, seed=options.seed, fault=fault)
    total = Tally(
        kind="all", outcomes=sum((t.outcomes for t in tallies), Counter()), seconds=sum(t.seconds for t in tallies)
    )
    total.slowest_s = max(t.slowest_s for t in tallies)
    print(total)
    if options.json:
        options.json.write_text(
            json.dumps({"seed": options.seed, "kinds": [vars(t) for t in tallies]}, indent=1) + "\n"
        )
    if any(tally.faults for tally in tallies):
        sys.exit(f"\ninputs that fail are below {options.failures}")


def try_inputs(worker: "Worker", kind: str, indices: Sequence[int], *, seed: int = 0, progress: bool = False) -> Tally:
    """Have a worker read inputs of one kind.

    Args:
        worker: that reads them.
        kind: name of the kind.
        indices: of the inputs.
        seed: of the generator.
        progress: write a line about the progress to standard error.
    """
    tally, begin = Tally(kind=kind), time.perf_counter()
    for count, index in enumerate(indices):
        answer = worker.read(kind, seed, index)
        tally.outcomes[answer.outcome] += 1
        tally.slowest_s = max(tally.slowest_s, answer.seconds)
        if answer.outcome in ("traceback", "hang"):
            tally.faults[index] = answer.seen
        if progress and count % 50 == 0:
            print(
                f"\r{kind} {count} of {len(indices)}, {len(tally.faults)} failed ", end="", file=sys.stderr, flush=True
            )
    if progress:
        print("\r" + " " * 60, end="\r", file=sys.stderr)
    tally.seconds = time.perf_counter() - begin
    return tally


def save_failure(folder: Path, kind: str, index: int, *, seed: int, fault: str) -> None:
    """Write an input and what was seen below `folder/KIND-SEED-INDEX`, in the place of an earlier one."""
    place = folder / f"{kind}-{seed}-{index}"
    shutil.rmtree(place, ignore_errors=True)
    (place / "input").mkdir(parents=True)
    write_files(make_input(KINDS[kind], seed, index)[0], place / "input")
    (place / "seen.txt").write_text(
        f"{fault}\n\npython -m benchmarks.fuzz --kinds {kind} --seed {seed} --first {index} --inputs 1\n"
    )


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How an input was answered: the outcome, one of `OUTCOMES`, the message or traceback, and the seconds."""

    outcome: str
    seen: str = ""
    seconds: float = 0.0


class Worker:
    """A process that reads inputs. It starts at the first one, and again after it was killed or died.

    Args:
        limit_s: seconds for one input.
    """

    def __init__(self, *, limit_s: float = 10.0) -> None:
        self._limit_s = limit_s
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def read(self, kind: str, seed: int, index: int) -> Answer:
        """Read one input."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        begin = time.perf_counter()
        process.stdin.write(f"{kind} {seed} {index}\n".encode())
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], self._limit_s)
        line = process.stdout.readline() if ready else b""
        if line.endswith(b"\n"):
            return Answer(**json.loads(line), seconds=time.perf_counter() - begin)
        self._stop()
        if not ready:
            return Answer(outcome="hang", seen=f"no answer in {self._limit_s:g} s", seconds=self._limit_s)
        return self._explain_death(KINDS[kind], seed, index, process.returncode)

    def _explain_death(self, kind: Kind, seed: int, index: int, status: int) -> Answer:
        """Whether the child process that a search starts for ONNX files catches what ended this one."""
        if kind.name == "onnx":
            with tempfile.TemporaryDirectory() as place:
                write_files(make_input(kind, seed, index)[0], Path(place))
                try:
                    check_in_child(Path(place) / "net.onnx", input_shape=(1, 1, 16, 16))
                except MeasureError as error:
                    return Answer(outcome="refused", seen=str(error))
        return Answer(outcome="traceback", seen=f"the process ended with status {status}")

    def _start(self) -> "subprocess.Popen[bytes]":
        root = str(Path(__file__).resolve().parents[1])
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
        command = [sys.executable, "-c", SERVE]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        assert process.stdout is not None
        process.stdout.readline()  # it has imported everything
        return process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


def serve() -> None:
    """Answer lines of kind, seed and index until standard input ends. For the worker process only."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    quiet = os.open(os.devnull, os.O_WRONLY)  # native code that prints must not mix with the answers
    os.dup2(quiet, sys.stdout.fileno())
    os.dup2(quiet, sys.stderr.fileno())
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        kind, seed, index = line.split()
        print(json.dumps(_read(KINDS[kind], int(seed), int(index))), file=answers, flush=True)


def _read(kind: Kind, seed: int, index: int) -> dict[str, str]:
    with _folder() as folder:
        try:
            files, rng = make_input(kind, seed, index)
            write_files(files, folder)
            kind.read(folder, rng)
        except NasError as error:
            line = str(error)
        except (OSError, MemoryError, UnicodeError) as error:  # as nas.cli.commands._errors does
            line = describe_system_error(error)
        except Exception:
            return {"outcome": "traceback", "seen": traceback.format_exc()}
        else:
            return {"outcome": "read", "seen": ""}
    if not line or not line.isprintable():
        return {"outcome": "traceback", "seen": f"a refusal must be one printable line, but is {line!r}"}
    return {"outcome": "refused", "seen": line}


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="fuzz"))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
