"""False failures: what earlier versions wrote of kills, full disks and want of memory, and of nothing else."""

import pytest

from nas.results.false_failures import is_false_failure


@pytest.mark.parametrize(
    ("reason", "is_false"),
    [
        ("it ended the process 3 times", True),
        ("the process that timed 'm.onnx' must live, but it ended with status -9", True),
        ("OSError: [Errno 28] No space left on device", True),
        ("PermissionError: [Errno 13] Permission denied: 'runs/x'", True),
        ("MemoryError: MemoryError", True),
        ("RuntimeError: [enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory", True),
        ("RuntimeError: [enforce fail at inline_container.cc:588] . PytorchStreamWriter failed writing file", True),
        ("the process that timed 'm.onnx' must live, but it ended with status -11", False),
        ("it crashed its process 2 times: SIGSEGV, SIGSEGV", False),
        ("RuntimeError: sizes do not match", False),
        ("the loss must be finite", False),
        ("", False),
    ],
)
def test_reasons(reason: str, is_false: bool) -> None:
    assert is_false_failure(reason) is is_false
