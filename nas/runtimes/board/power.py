"""Power and energy of a board, from the INA3221 monitors of most Jetson boards.

    energy_mj = (mean power in a steady loop - mean power at rest) in mW / inferences a second

The rail that feeds the whole module is used where there is one (VDD_IN, POM_5V_IN), else the sum of all rails. The
carrier board is not measured. Rails are read through hwmon (JetPack 5 and later: volts and amperes) or iio (JetPack 4:
power), as published tools describe them; no Jetson was available to this project.
"""

import re
import shlex
from dataclasses import dataclass

import numpy as np

IDLE_DURATION_S = 3
LOAD_DURATION_S = 6
"""Seconds of the loop: half of its samples remain after both ends are cut off."""
SAMPLE_INTERVAL_S = 0.05
"""Seconds between samples: 60 at rest, and 60 in the steady half of the loop."""

MODULE_RAILS = ("VDD_IN", "POM_5V_IN", "VIN", "SYS_VIN_TOTAL")
"""Rails that feed the whole module."""

RAILS_SCRIPT = """
root=${NAS_ROOT:-}
for l in "$root"/sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/in[1-3]_label; do
  [ -r "$l" ] || continue
  read -r name <"$l"; n=${l##*/in}; n=${n%_label}; d=${l%/*}
  [ -r "$d/curr${n}_input" ] && echo "rail $name $d/in${n}_input $d/curr${n}_input"
done
for l in "$root"/sys/bus/i2c/devices/*/iio:device*/rail_name_[0-2]; do
  [ -r "$l" ] || continue
  read -r name <"$l"; d=${l%/*}
  [ -r "$d/in_power${l##*_}_input" ] && echo "rail $name $d/in_power${l##*_}_input -"
done
"""

_PATH_PATTERN = re.compile(r"/[A-Za-z0-9_./:-]+")


@dataclass(frozen=True, kw_only=True)
class PowerRail:
    """One supply.

    Attributes:
        name: its label.
        voltage_path: file with mV, or with mW where `current_path` is empty.
        current_path: file with mA.
    """

    name: str
    voltage_path: str
    current_path: str = ""


def parse_rails(text: str) -> tuple[PowerRail, ...]:
    """The rails to add up, from the output of `RAILS_SCRIPT`.

    Returns:
        The rail of the whole module, else all connected ones; empty without a monitor. Paths come from the board and
        enter a script, so those with unusual characters are dropped.
    """
    rails = []
    for name, volts, amperes in re.findall(r"^rail (\S+) (\S+) (\S+)$", text, re.MULTILINE):
        paths = [volts] if amperes == "-" else [volts, amperes]
        if name != "NC" and all(_PATH_PATTERN.fullmatch(path) for path in paths):
            rails.append(PowerRail(name=name, voltage_path=volts, current_path="" if amperes == "-" else amperes))
    return tuple(rail for rail in rails if rail.name in MODULE_RAILS)[:1] or tuple(rails)


def sampling_script(rails: tuple[PowerRail, ...], *, until: str) -> str:
    """A shell script that prints the power in mW about every 50 ms, as long as the command `until` succeeds.

    Values stay below 2^31 in the shell's integers: 20,000 mV x 100,000 mA.
    """
    reads = "".join(
        f"read -r v <{shlex.quote(r.voltage_path)} && "
        + (
            f"read -r i <{shlex.quote(r.current_path)} && mw=$((mw + v * i / 1000)); "
            if r.current_path
            else "mw=$((mw + v)); "
        )
        for r in rails
    )
    return f"while {until}; do mw=0; {reads}echo power $mw; sleep {SAMPLE_INTERVAL_S}; done"


def parse_power_mw(text: str) -> list[int]:
    """Output of `sampling_script` in mW, oldest first."""
    return [int(mw) for mw in re.findall(r"^power (\d{1,12})$", text, re.MULTILINE)]


def energy_mj(idle_mw: list[int], load_mw: list[int], inferences_per_s: float | None) -> float | None:
    """Millijoules of one inference above idle.

    Args:
        idle_mw: samples at rest in mW.
        load_mw: samples in mW from the start of the loop's process to its end; both ends are cut off.
        inferences_per_s: inferences a second within the loop.

    Returns:
        The energy; None with fewer than five samples or without a throughput, and where the load does not exceed idle.
    """
    cut = len(load_mw) // 4  # a quarter at each end: the process loads and frees its engine there
    steady = load_mw[cut : len(load_mw) - cut]
    if len(idle_mw) < 5 or len(steady) < 5 or not inferences_per_s:
        return None
    above = float(np.mean(steady) - np.mean(idle_mw))
    return above / inferences_per_s if above > 0 else None
