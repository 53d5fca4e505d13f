"""Probe of a board: the trtexec that a connection reports, and the wording of its state."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from nas.errors import MeasureError
from nas.runtimes.board.probe import (
    MIN_FREE_MB,
    TRTEXEC_PATHS,
    format_megabytes,
    format_temperature,
    has_enough_disk,
    probe_trtexec,
)
from nas.runtimes.board.ssh import CompletedCommand
from nas.runtimes.board.state import BoardState
from nas.targets.catalog import load_target

PROFILE = load_target("jetson-orin-nano")


def answering(text: str, exit_code: int = 0, dry_run_commands: list[str] | None = None) -> Any:
    """A connection whose commands all give the same answer."""
    answer = CompletedCommand(exit_code=exit_code, stdout=text.encode(), stderr="")
    return SimpleNamespace(address="board", dry_run_commands=dry_run_commands, run=lambda script, **_: answer)


def test_path_version_and_flags_are_read() -> None:
    text = "path=/opt/trtexec\n&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # trtexec\n  --stronglyTyped\n"
    tool = probe_trtexec(answering(text), PROFILE)
    assert (tool.path, tool.version) == ("/opt/trtexec", (10, 3, 0))
    assert "--stronglyTyped" in tool.help_text


@pytest.mark.parametrize(("text", "exit_code"), [("", 44), ("hello\n", 0)])
def test_a_board_without_trtexec_is_refused(text: str, exit_code: int) -> None:
    with pytest.raises(MeasureError, match=f"board must have trtexec at {TRTEXEC_PATHS[0]} or .*, but has none"):
        probe_trtexec(answering(text, exit_code), PROFILE)


def test_a_dry_run_assumes_the_version_of_the_profile() -> None:
    commands: list[str] = []
    profile = replace(PROFILE, facts={**PROFILE.facts, "tensorrt": "8.6", "trtexec": "/my/trtexec"})
    tool = probe_trtexec(answering("", dry_run_commands=commands), profile)
    assert (tool.path, tool.version) == ("/my/trtexec", (8, 6, 0))
    assert commands == ["# the flags below are for TensorRT 8.6; the board's trtexec names its version"]


def test_state_is_worded_and_unknown_values_say_so() -> None:
    assert format_temperature(BoardState(gpu_hz=None, hottest_c=48.4)) == "48 C"
    assert format_temperature(BoardState(gpu_hz=None, hottest_c=None)) == "unknown"
    assert (format_megabytes(5400), format_megabytes(None)) == ("5,400 MB", "unknown")


def test_an_unknown_disk_passes_and_a_full_one_does_not() -> None:
    assert has_enough_disk(None)
    assert has_enough_disk(MIN_FREE_MB)
    assert not has_enough_disk(MIN_FREE_MB - 1)
