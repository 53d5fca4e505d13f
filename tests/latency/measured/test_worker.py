"""Worker process: replies, reasons, pinning, and independence of the lives of both processes."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nas.latency.measured.worker
from nas.errors import ConfigError, MeasureError
from nas.latency.measured.timing_loop import TimingPlan
from nas.latency.measured.worker import TimingTask, TimingWorker, handle_task
from nas.runtimes.reference_network import INPUT_SHAPE, reference_path

QUICK = TimingPlan(runs=20)


def timed(timer: TimingWorker, *models: Path) -> list[float]:
    found = timer.measure(
        models, runtime="onnxruntime", device="here", input_shape=[INPUT_SHAPE] * len(models), plan=QUICK
    )
    return [m.latency_ms for m in found]


def a_task(reference_cache: Path | None) -> TimingTask:
    return TimingTask(
        models=[str(reference_path())], runtime="onnxruntime", device="here", threads=1, batches=[1],
        input_shape=[list(INPUT_SHAPE)], plan={"runs": 20},
        reference_cache=None if reference_cache is None else str(reference_cache),
    )  # fmt: skip


def test_the_worker_times_one_file_and_several_and_survives_a_bad_one(tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no net")
    with TimingWorker() as timer:
        assert len(timed(timer, reference_path())) == 1
        first = timer._process
        with pytest.raises(MeasureError, match="must be an ONNX file that ONNX Runtime loads"):
            timed(timer, bad)
        one, other = timed(timer, reference_path(), reference_path())
        assert min(one, other) > 0
        assert timer._process is first
        assert first is not None
        assert first.pid != os.getpid()
    assert first.poll() == 0


def test_a_crash_costs_one_measurement() -> None:
    with TimingWorker() as timer:
        process = timer._process = timer._start()
        process.kill()
        with pytest.raises(MeasureError, match=r"the process that timed 'reference-1.onnx' must live, but it ended"):
            timed(timer, reference_path())
        assert timed(timer, reference_path())[0] > 0


def test_a_timing_that_does_not_end_is_killed() -> None:
    with TimingWorker(time_limit_s=0.3, grace_s=0.1) as timer:
        process = timer._process = timer._start()
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(MeasureError, match=r"a timing must end within 0\.3 s, but this one did not"):
            timed(timer, reference_path())
        assert process.poll() == -signal.SIGKILL
        process = timer._process = timer._start()
        process.send_signal(signal.SIGSTOP)
        plan = TimingPlan(runs=20, max_duration_s=0.1, idle_wait_s=0.1)
        with pytest.raises(MeasureError, match=r"within 0\.5 s"):
            timer.measure(
                [reference_path()] * 2, runtime="onnxruntime", device="", input_shape=[INPUT_SHAPE] * 2, plan=plan
            )
    with TimingWorker() as timer:
        assert timed(timer, reference_path())[0] > 0


def test_a_worker_amid_a_task_ends_with_its_pipe() -> None:
    """A file that never ends must not spin on as an orphan."""
    code = (
        "import nas.latency.measured.worker as worker, time\n"
        "worker.handle_task = lambda _: print('at it') or time.sleep(600)\nworker.serve()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write("{}\n")
        process.stdin.flush()
        assert process.stderr.readline() == "at it\n"
        process.stdin.close()
        assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("error", "lacks"),
    [
        (OSError(errno.EMFILE, "Too many open files"), [errno.EMFILE, "Too many open files"]),
        (MemoryError(), []),
        (MeasureError("the file must load: std::bad_alloc"), None),
    ],
)
def test_what_the_machine_lacks_is_told_from_what_the_file_does(
    monkeypatch: pytest.MonkeyPatch, error: Exception, lacks: list[object] | None
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(nas.latency.measured.worker, "measure", fails)
    reply = handle_task(a_task(None))
    assert reply == ({"failed": str(error)} if lacks is None else {"lacks": lacks})
    with TimingWorker() as timer:
        monkeypatch.setattr(timer, "_send_task", lambda *_: reply)
        with pytest.raises(type(error), match=r"Too many open files|timing a file|must load"):
            timed(timer, reference_path())


def test_after_an_interrupt_the_worker_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with TimingWorker() as timer:
        first = timer._process = timer._start()
        assert first.stdout is not None
        monkeypatch.setattr(first.stdout, "readline", interrupted, raising=False)
        with pytest.raises(KeyboardInterrupt):
            timed(timer, reference_path())
        assert timer._process is None
    assert first.poll() is not None


def test_the_worker_ends_with_the_process_that_started_it() -> None:
    script = (
        "import os; from nas.latency.measured.worker import TimingWorker; "
        "print(TimingWorker()._start().pid, flush=True); os._exit(1)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    pid, end = int(done.stdout), time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < end, "the process lives on"
        time.sleep(0.05)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin")
def test_a_pinned_worker_runs_on_its_core_and_reports_it() -> None:
    core = min(os.sched_getaffinity(0))
    with TimingWorker(cpu_cores=[core]) as timer:
        (found,) = timer.measure(
            [reference_path()], runtime="onnxruntime", device="here", input_shape=[INPUT_SHAPE], plan=QUICK
        )
        assert timer._process is not None
        assert os.sched_getaffinity(timer._process.pid) == {core}
    assert found.versions["pinned"] == f"to core {core}"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin")
def test_a_core_that_this_process_may_not_use_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cores to pin to must be among .*, but got 4096"):
        TimingWorker(cpu_cores=[4096])


def test_pinning_is_refused_where_the_system_cannot_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(nas.latency.measured.worker.os, "sched_getaffinity", raising=False)
    with pytest.raises(ConfigError, match="among none, as this system cannot pin, but got 0"):
        TimingWorker(cpu_cores=[0])


def test_the_reply_to_a_task_is_a_latency_or_a_reason(tmp_path: Path) -> None:
    task = a_task(tmp_path / "reference.json")
    (found,) = handle_task(task)["found"]
    assert found["latency_ms"] > 0
    assert (tmp_path / "reference.json").exists()
    assert "must fit the input" in handle_task({**task, "input_shape": [[3, 48, 48]]})["failed"]


def test_a_runtime_that_loads_no_files_is_a_reason() -> None:
    task = TimingTask(
        models=["net.onnx"], runtime="trtexec_ssh", device="here", threads=1, input_shape=[list(INPUT_SHAPE)],
        plan={"runs": 20}, reference_cache=None,
    )  # fmt: skip
    assert "'net.onnx' cannot be loaded by trtexec_ssh: it times files on a board" in handle_task(task)["failed"]
