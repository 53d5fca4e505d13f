"""Warm start of a run as text: the earlier runs whose results it started with."""

import json
from pathlib import Path

WARM_START_FILE = "warm_start.json"
"""In the run folder; see `nas.searcher.warm_start`."""


def warm_start_lines(run_dir: Path) -> list[str]:
    """One line for each earlier run that this run was started with; empty without a warm start."""
    file = run_dir / WARM_START_FILE
    if not file.exists():
        return []
    return [
        f"begun with {each['path']}: accuracies of {len(each['told'])} nets"
        + (f", first looks at {len(each['stopped'])} more" if each.get("stopped") else "")
        + (", latencies and sizes" if each["same_target"] else f" (it was for {each['target']}, so no latencies)")
        + f", and {len(each['front'])} nets of its front asked first"
        for each in json.loads(file.read_text())
    ]
