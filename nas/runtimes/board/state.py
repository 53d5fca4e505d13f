"""State of a Jetson as a POSIX shell without root can read it: identity, power mode, clocks and temperatures.

The places in sysfs differ between generations; those of the kernels of JetPack 4 to 7 are used, as far as published
tools name them (https://github.com/rbonghi/jetson_stats documents them best). No Jetson was available to this project.
What is not found is recorded as unknown and stops nothing.

The board's account may set `NAS_ROOT`, which is put before each path; the tests use it to simulate a board.
"""

import re
from dataclasses import dataclass

MAX_TEMPERATURE_C = 80.0
"""Temperature in C from which a figure is not trusted: Orin starts to throttle softly between 87 and 97 C."""
MIN_CLOCK_FRACTION = 0.98
"""Share of the locked clock below which the GPU counts as throttled; 2 % allow for rounding of the reported clock."""

_JETPACK_BY_L4T = {
    "32.7": "4.6", "34.1": "5.0", "35.1": "5.0.2", "35.2": "5.1", "35.3": "5.1.1", "35.4": "5.1.2", "35.5": "5.1.3",
    "35.6": "5.1.4 or later", "36.2": "6.0 DP", "36.3": "6.0", "36.4": "6.1", "36.4.3": "6.2", "36.4.4": "6.2.1",
    "36.4.7": "6.2.1", "36.5": "6.2.2", "38.2": "7.0", "38.4": "7.1", "39.0": "7.2", "39.2": "7.2",
}  # fmt: skip
"""JetPack by L4T release; the longest matching prefix counts. Source: NVIDIA's JetPack archive, as in jetson_stats."""

STATE_SCRIPT = """
root=${NAS_ROOT:-}
gpu=
for d in "$root"/sys/class/devfreq/*; do
  case ${d##*/} in *gpu*|*gm20b*|*gp10b*|*gv11b*|*ga10b*|*gb10b*) [ -r "$d/cur_freq" ] && gpu=$d ;; esac
done
state() {
  f=; [ -n "$gpu" ] && read -r f <"$gpu/cur_freq"
  hot=0
  for z in "$root"/sys/class/thermal/thermal_zone*/temp; do
    t=; read -r t <"$z"
    case $t in ""|*[!0-9]*) ;; *) [ "$t" -gt "$hot" ] && hot=$t ;; esac
  done
  echo "$1 $f $hot"
} 2>/dev/null
"""
"""Finds the GPU's clock, and defines `state WORD`: it prints the word, the clock in Hz and the hottest zone in mC.

The patterns name the GPU's device in each generation: gm20b Nano, gp10b TX2, gv11b Xavier, ga10b Orin, gb10b Thor.
"""

IDENTIFY_SCRIPT = (
    STATE_SCRIPT
    + """
say() { printf "%s=%s\\n" "$1" "$2"; }
say model "$(tr -d "\\000" <"$root/proc/device-tree/model" 2>/dev/null)"
say release "$(head -n 1 "$root/etc/nv_tegra_release" 2>/dev/null)"
say mode "$(nvpmodel -q 2>/dev/null | sed -n "s/.*NV Power Mode: *//p" | head -n 1)"
say machine "$(uname -m)"
for b in min max; do
  [ -n "$gpu" ] && read -r f <"$gpu/${b}_freq" && say ${b}_hz "$f"
done 2>/dev/null
for c in "$root"/sys/class/hwmon/hwmon*/oc*_event_cnt; do
  [ -r "$c" ] && { read -r n <"$c"; say over_current "$n"; }
done 2>/dev/null
say free_kb "$(df -Pk . 2>/dev/null | sed -n "2p" | { read -r _ _ _ n _; echo "$n"; })"
say memory_kb "$(sed -n "s/^MemAvailable: *\\([0-9]*\\).*/\\1/p" "$root/proc/meminfo" 2>/dev/null)"
state state
"""
)

WATCH_INTERVAL_S = 0.5


def watch_script(file: str) -> str:
    """A script that writes clock and temperature into a file as long as process `$p` lives; `file` needs no quotes."""
    return f"{STATE_SCRIPT}while kill -0 $p 2>/dev/null; do state state; sleep {WATCH_INTERVAL_S}; done >{file}"


@dataclass(frozen=True, kw_only=True)
class BoardState:
    """GPU clock in Hz and hottest zone in C at one moment; None where unknown."""

    gpu_hz: int | None
    hottest_c: float | None


@dataclass(frozen=True, kw_only=True)
class Board:
    """Identity and state of a board at one moment. Unknown texts are empty, unknown numbers None.

    Attributes:
        model: the module, as in the device tree.
        l4t: release of Linux for Tegra, for example "36.4.3".
        power_mode: name of the power mode; its number means different modes on different modules.
        architecture: processor architecture.
        min_gpu_hz: lower bound of the GPU's clock.
        max_gpu_hz: upper bound of it in this power mode.
        over_current_events: events so far in which the board drew too much current and was slowed.
        free_disk_mb: free space of the file system with the session's folder.
        free_memory_mb: available memory.
        state: clock and temperature.
    """

    model: str
    l4t: str
    power_mode: str
    architecture: str
    min_gpu_hz: int | None
    max_gpu_hz: int | None
    over_current_events: int
    free_disk_mb: int | None
    free_memory_mb: int | None
    state: BoardState

    @property
    def jetpack(self) -> str:
        """The JetPack of this L4T, or "unknown"."""
        fitting = [known for known in _JETPACK_BY_L4T if f"{self.l4t}.".startswith(f"{known}.")]
        return _JETPACK_BY_L4T[max(fitting, key=len)] if fitting else "unknown"

    @property
    def has_locked_clocks(self) -> bool:
        """Whether the GPU's clock is fixed, as `sudo jetson_clocks` sets it."""
        return self.min_gpu_hz is not None and self.min_gpu_hz == self.max_gpu_hz

    @property
    def clocks_text(self) -> str:
        """The GPU's clock, as in "locked at 918 MHz"."""
        if self.max_gpu_hz is None:
            return "unknown"
        return f"{'locked at' if self.has_locked_clocks else 'not locked, up to'} {self.max_gpu_hz / 1e6:.0f} MHz"

    @property
    def clock_remark(self) -> str:
        """What the clocks do to a comparison with a published or predicted figure, as a sentence."""
        state = f"power mode {self.power_mode or 'unknown'}, clocks {self.clocks_text}"
        if self.has_locked_clocks:
            return f"{state}: figures of another mode differ by their clocks"
        return (
            f"{state}: between two images a slow camera lets them fall, and the first kernels then run slower; sudo "
            "jetson_clocks holds them, as most published figures assume"
        )

    def versions(self) -> dict[str, str]:
        """Software and state of the board that every timing carries."""
        known = {"l4t": self.l4t, "jetpack": self.jetpack, "power_mode": self.power_mode, "clocks": self.clocks_text}
        return {name: value or "unknown" for name, value in known.items()}


def parse_board(text: str) -> Board:
    """Parse the output of `IDENTIFY_SCRIPT`; missing or garbled values are unknown."""
    fields: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            fields.setdefault(name.strip(), []).append(_printable(value))

    def one(name: str) -> str:
        return fields.get(name, [""])[0]

    release = re.search(r"R(\d+) \(release\), REVISION: ([0-9.]+)", one("release"))
    states = parse_states(text)
    return Board(
        model=one("model") or "unknown board",
        l4t=f"{release[1]}.{release[2].rstrip('.')}" if release else "",
        power_mode=one("mode"),
        architecture=one("machine"),
        min_gpu_hz=_parse_int(one("min_hz")),
        max_gpu_hz=_parse_int(one("max_hz")),
        over_current_events=sum(_parse_int(n) or 0 for n in fields.get("over_current", [])),
        free_disk_mb=_parse_thousandth(one("free_kb")),
        free_memory_mb=_parse_thousandth(one("memory_kb")),
        state=states[-1] if states else BoardState(gpu_hz=None, hottest_c=None),
    )


def parse_states(text: str) -> list[BoardState]:
    """Parse the output of `state`, oldest first."""
    pairs = re.findall(r"^state (\d{0,18}) (\d{1,18})$", text, re.MULTILINE)
    return [BoardState(gpu_hz=_parse_int(hz), hottest_c=int(mc) / 1e3 if int(mc) else None) for hz, mc in pairs]


def throttling_reason(before: Board, during: list[BoardState], after: Board) -> str:
    """Why a timing between two moments is not to be trusted; empty where nothing speaks against it.

    Args:
        before: the board before the timing.
        during: clock and temperature meanwhile.
        after: the board after it.
    """
    hottest = max((s.hottest_c for s in (*during, after.state) if s.hottest_c is not None), default=0.0)
    if hottest >= MAX_TEMPERATURE_C:
        return f"throttled or about to: {hottest:.0f} C, which should stay below {MAX_TEMPERATURE_C:.0f}"
    if after.over_current_events > before.over_current_events:
        return "throttled: the board counted an over-current event"
    slowest = min((s.gpu_hz for s in during if s.gpu_hz), default=None)
    if before.has_locked_clocks and before.max_gpu_hz and slowest and slowest < MIN_CLOCK_FRACTION * before.max_gpu_hz:
        return f"throttled: the GPU fell to {slowest / 1e6:.0f} MHz, though it was {before.clocks_text}"
    if after.max_gpu_hz != before.max_gpu_hz or after.power_mode != before.power_mode:
        old, new = (f"{board.power_mode}, {board.clocks_text}" for board in (before, after))
        return f"the board changed from {old} to {new}"
    return ""


def _printable(text: str) -> str:
    """At most 120 characters, without those that control a terminal: a board's answers are not trusted."""
    return "".join(c if c.isprintable() else "?" for c in text.strip())[:120]


def _parse_int(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _parse_thousandth(text: str) -> int | None:
    number = _parse_int(text)
    return None if number is None else number // 1000
