"""Progress of a search on the terminal: a live panel, or a line now and then where there is no terminal."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nas.results.status import SearchStatus
from nas.results.throughput import format_duration

LOG_EVERY_CANDIDATES = 10
LOG_EVERY_S = 60.0
"""Without a terminal a line is printed after this many candidates or seconds, and at each change of stage."""
STAGE_TITLES = {
    "base": "preparing the model",
    "search": "searching",
    "verify": "training the front in full",
    "done": "done",
}
PROGRESS_UNITS = {"base": "candidates", "search": "candidates", "verify": "verified", "done": "verified"}


class ProgressDisplay:
    """Shows the status of a search: a live panel on a terminal, single lines elsewhere.

    Life: entered as a context, called with each status, left; the panel then disappears.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, transient=True, refresh_per_second=4) if console.is_terminal else None
        self._logged_at, self._logged_done, self._logged_stage = time.monotonic(), 0, "search"

    def __enter__(self) -> Self:
        if self._live:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.__exit__(kind, error, trace)

    def __call__(self, status: SearchStatus) -> None:
        """Show a status."""
        if self._live:
            self._live.update(status_panel(status))
        elif self._is_due(status):
            self._logged_at, self._logged_done, self._logged_stage = time.monotonic(), status.done, status.stage
            self._console.print(format_status(status), soft_wrap=True)

    def _is_due(self, status: SearchStatus) -> bool:
        if status.total == 0 and status.stage != "base":
            return False  # nothing is searched: the figures of the model are all that follows
        if status.stage != self._logged_stage:
            return True
        has_progressed = status.done >= self._logged_done + LOG_EVERY_CANDIDATES
        return status.stage != "done" and (has_progressed or time.monotonic() - self._logged_at >= LOG_EVERY_S)


def status_panel(status: SearchStatus) -> Panel:
    """The status as a panel of a few lines."""
    activity = Text(status.activity or "...", style="dim", no_wrap=True, overflow="ellipsis")
    title = f"{status.run}: {STAGE_TITLES[status.stage]}"
    if status.stage == "base":
        return Panel(activity, title=title, title_align="left", border_style="cyan")
    figures = Table.grid(padding=(0, 3))
    for _ in range(4):
        figures.add_column()
    figures.add_row(
        Text.assemble(f"{PROGRESS_UNITS[status.stage]} ", (_format_progress(status), "bold")),
        Text.assemble("feasible ", (f"{status.feasible_share:.0%}", "bold")),
        Text.assemble("hypervolume ", (f"{status.hypervolume:.4g}", "bold")),
        Text.assemble("time left ", (format_duration(status.left_s), "bold")),
    )
    best = Text.assemble("best within the limits: ", (status.best, "bold green"))
    forecast = [Text(f"forecast: {status.forecast}", overflow="fold")] if status.forecast else []
    bar = [ProgressBar(total=status.total, completed=min(status.done, status.total))] if status.total else []
    return Panel(Group(figures, best, *forecast, activity, *bar), title=title, title_align="left", border_style="cyan")


def format_status(status: SearchStatus) -> str:
    """The status as one plain line."""
    if status.stage == "base":
        return f"{STAGE_TITLES['base']}: {status.activity or 'begins'}"
    left = f", {format_duration(status.left_s)} left" if status.left_s is not None else ""
    forecast = f"; {status.forecast}" if status.forecast else ""
    unit = PROGRESS_UNITS[status.stage]
    return (
        f"{STAGE_TITLES[status.stage]}: {_format_progress(status)} {unit}, {status.feasible_share:.0%} feasible, "
        f"hypervolume {status.hypervolume:.4g}, best {status.best}{left}{forecast}"
    )


def _format_progress(status: SearchStatus) -> str:
    return f"{status.done} of {status.total}" if status.total else str(status.done)
