"""Energy of one inference, from the INA3221 power monitors that most Jetson boards carry.

    energy_mj = (mean power in a steady loop - mean power at rest) in mW / inferences a second

The rail that feeds the whole module is taken where there is one (VDD_IN, POM_5V_IN), else the sum of all. The carrier
board is not measured. Rails are read through hwmon (JetPack 5 and later: volts and amperes) or iio (JetPack 4: power),
as published tools describe them; no Jetson was looked at for this project.
"""

import re
import shlex
from dataclasses import dataclass

import numpy as np

IDLE_DURATION_S = 3
LOAD_DURATION_S = 6
SAMPLE_INTERVAL_S = 0.05

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
    """One supply: files with mV and mA, or one with mW where `amperes` is empty."""

    name: str
    voltage_path: str
    current_path: str = ""


def parse_rails(text: str) -> tuple[PowerRail, ...]:
    """The rails to add up: the one that feeds all, else all that are connected; empty where there is no monitor."""
    rails = []
    for name, volts, amperes in re.findall(r"^rail (\S+) (\S+) (\S+)$", text, re.MULTILINE):
        paths = [volts] if amperes == "-" else [volts, amperes]
        if name != "NC" and all(_PATH_PATTERN.fullmatch(path) for path in paths):
            rails.append(PowerRail(name=name, voltage_path=volts, current_path="" if amperes == "-" else amperes))
    return tuple(rail for rail in rails if rail.name in MODULE_RAILS)[:1] or tuple(rails)


def sampling_script(rails: tuple[PowerRail, ...], *, until: str) -> str:
    """A shell script that prints the power in mW about every 50 ms, as long as the command `until` succeeds."""
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
    """What `sampling` printed, mW, oldest first."""
    return [int(mw) for mw in re.findall(r"^power (\d+)$", text, re.MULTILINE)]


def energy_mj(idle_mw: list[int], load_mw: list[int], inferences_per_s: float | None) -> float | None:
    """Millijoules of one inference above rest; None where samples or throughput are missing, or the load is hidden.

    Args:
        idle_mw: mW at rest.
        load_mw: mW from the start of the loop's process to its end; both ends are cut off.
        inferences_per_s: inferences a second within the loop.
    """
    cut = len(load_mw) // 4
    steady = load_mw[cut : len(load_mw) - cut]
    if len(idle_mw) < 5 or len(steady) < 5 or not inferences_per_s:
        return None
    above = float(np.mean(steady) - np.mean(idle_mw))
    return above / inferences_per_s if above > 0 else None
