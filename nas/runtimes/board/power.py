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

REST_S = 3
LOOP_S = 6
STEP_S = 0.05

WHOLE = ("VDD_IN", "POM_5V_IN", "VIN", "SYS_VIN_TOTAL")
"""Rails that feed the whole module."""

RAILS = """
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

_PATH = re.compile(r"/[A-Za-z0-9_./:-]+")


@dataclass(frozen=True, kw_only=True)
class Rail:
    """One supply: files with mV and mA, or one with mW where `amperes` is empty."""

    name: str
    volts: str
    amperes: str = ""


def parse_rails(text: str) -> tuple[Rail, ...]:
    """The rails to add up: the one that feeds all, else all that are connected; empty where there is no monitor."""
    rails = []
    for name, volts, amperes in re.findall(r"^rail (\S+) (\S+) (\S+)$", text, re.MULTILINE):
        paths = [volts] if amperes == "-" else [volts, amperes]
        if name != "NC" and all(_PATH.fullmatch(path) for path in paths):
            rails.append(Rail(name=name, volts=volts, amperes="" if amperes == "-" else amperes))
    return tuple(rail for rail in rails if rail.name in WHOLE)[:1] or tuple(rails)


def sampling(rails: tuple[Rail, ...], *, until: str) -> str:
    """A shell script that prints the power in mW about every 50 ms, as long as the command `until` succeeds."""
    reads = "".join(
        f"read -r v <{shlex.quote(r.volts)} && "
        + (f"read -r i <{shlex.quote(r.amperes)} && mw=$((mw + v * i / 1000)); " if r.amperes else "mw=$((mw + v)); ")
        for r in rails
    )
    return f"while {until}; do mw=0; {reads}echo power $mw; sleep {STEP_S}; done"


def parse_power(text: str) -> list[int]:
    """What `sampling` printed, mW, oldest first."""
    return [int(mw) for mw in re.findall(r"^power (\d+)$", text, re.MULTILINE)]


def energy_mj(rest: list[int], loop: list[int], per_second: float | None) -> float | None:
    """Millijoules of one inference above rest; None where samples or throughput are missing, or the load is hidden.

    Args:
        rest: mW at rest.
        loop: mW from the start of the loop's process to its end; both ends are cut off.
        per_second: inferences a second within the loop.
    """
    cut = len(loop) // 4
    steady = loop[cut : len(loop) - cut]
    if len(rest) < 5 or len(steady) < 5 or not per_second:
        return None
    above = float(np.mean(steady) - np.mean(rest))
    return above / per_second if above > 0 else None
