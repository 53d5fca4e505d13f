"""Kill and resume: a search that is killed at random moments ends with the results of one that was not."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
KILLS = 20


@pytest.mark.slow
@pytest.mark.timeout(1800)  # two minutes on two idle cores, many on busy ones
def test_search_that_is_killed_repeatedly_ends_with_the_same_results(tmp_path: Path) -> None:
    flags = f"--kills {KILLS} --inline 0.9 --keep {tmp_path}"
    command = [sys.executable, "-m", "benchmarks.kills", *flags.split()]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    counts = dict(line.split(None, 1) for line in result.stdout.splitlines())
    assert counts["kills"].startswith(f"{KILLS} (")
    assert counts["faults"] == "0"
    assert (tmp_path / "killed" / "run" / "report.html").exists()
