"""Power modes of Jetson modules, named as by `nvpmodel -q`, most power first.

A clock is the maximum of its mode, from the files that NVIDIA ships for `nvpmodel` (/etc/nvpmodel/nvpmodel_*.conf), as
redistributed by LineageOS. Where a file sets no limit, the clock is that of the module's data sheet. The files disable
texture processing clusters by a mask; from Volta to Ampere each enabled one has two multiprocessors. Later releases add
modes, of which those known by name alone have no clocks.
"""

from dataclasses import dataclass, replace

from hw_profiles._base import PowerMode

_NO_LIMIT = "where a file sets no limit, the module's data sheet"


def _cite_files(device: str, *boards: str) -> str:
    names = " and ".join(f"nvpmodel_{board}.conf" for board in boards)
    return f"NVIDIA's {names} in https://github.com/LineageOS/android_device_nvidia_{device} (nvpmodel/)"


@dataclass(frozen=True, kw_only=True)
class ModulePowerModes:
    """Modes of one module, and their source."""

    modes: tuple[PowerMode, ...]
    source: str


def _power_mode(name: str, gpu_mhz: float, multiprocessors: int, memory_mhz: float) -> PowerMode:
    return PowerMode(name=name, gpu_mhz=gpu_mhz, multiprocessors=multiprocessors, memory_mhz=memory_mhz)


def _core_variants(
    name: str, endings: str, gpu_mhz: float, multiprocessors: int, memory_mhz: float
) -> tuple[PowerMode, ...]:
    """Modes that differ in the CPU cores alone."""
    return tuple(_power_mode(f"{name}_{ending}", gpu_mhz, multiprocessors, memory_mhz) for ending in endings.split())


def _tx2(memory_mhz: float, maxq_memory_mhz: float) -> tuple[PowerMode, ...]:
    return (
        _power_mode("MAXN", 1300, 2, memory_mhz),
        *_core_variants("MAXP", "CORE_ALL CORE_ARM", 1120, 2, 1600),
        _power_mode("MAXQ", 850, 2, maxq_memory_mhz),
    )


def _orin_nx(maxn_mhz: float, medium: str) -> tuple[PowerMode, ...]:
    return (
        _power_mode("MAXN_SUPER", 1173, 8, 3200),
        _power_mode("40W", 1173, 8, 3200),
        _power_mode("MAXN", maxn_mhz, 8, 3200),
        _power_mode(medium, 408, 8, 3200),
        _power_mode("15W", 612, 4, 3200),
        _power_mode("10W", 612, 4, 2133),
    )


POWER_MODES = {
    "jetson-nano": ModulePowerModes(
        modes=(_power_mode("MAXN", 921.6, 1, 1600), _power_mode("5W", 640, 1, 1600)),
        source="NVIDIA's nvpmodel_t210_jetson-nano.conf as owners quote it; MAXN, 10 W, sets no limit: the module's "
        "data sheet",
    ),
    "jetson-tx2": ModulePowerModes(modes=_tx2(1866, 1331.2), source=f"{_cite_files('quill', 't186')}; {_NO_LIMIT}"),
    "jetson-tx2-nx": ModulePowerModes(
        modes=_tx2(1600, 1600), source=f"{_cite_files('quill', 't186_p3636')}; {_NO_LIMIT}"
    ),
    "jetson-xavier-nx": ModulePowerModes(
        modes=(
            *_core_variants("MODE_20W", "6CORE 4CORE 2CORE", 1100, 6, 1866),
            *_core_variants("MODE_15W", "6CORE 4CORE 2CORE", 1100, 6, 1600),
            *_core_variants("MODE_10W", "4CORE 2CORE", 803.25, 6, 1600),
            _power_mode("MODE_10W_DESKTOP", 510, 6, 1600),
        ),
        source=f"{_cite_files('galen', 't194_p3668')} (there 20W and 15W are 1109.25 MHz)",
    ),
    "jetson-agx-xavier": ModulePowerModes(
        modes=(
            _power_mode("MAXN", 1377, 8, 2133),
            *_core_variants("MODE_30W", "ALL 6CORE 4CORE 2CORE", 900, 8, 1600),
            _power_mode("MODE_15W", 670, 8, 1331.2),
            _power_mode("MODE_15W_DESKTOP", 670, 8, 1331.2),
            _power_mode("MODE_10W", 520, 4, 1065.6),
        ),
        source=f"{_cite_files('galen', 't194')}; {_NO_LIMIT}",
    ),
    "jetson-orin-nano-4gb": ModulePowerModes(
        modes=(
            _power_mode("MAXN_SUPER", 1020, 4, 3199),
            _power_mode("25W", 1020, 4, 3199),
            _power_mode("10W", 625, 4, 2133),
            _power_mode("7W_AI", 408, 4, 2133),
            _power_mode("7W_CPU", 306, 4, 2133),
        ),
        source=f"{_cite_files('concord', 'p3767_0004', 'p3767_0004_super')} (there 10W is 612 MHz); {_NO_LIMIT}",
    ),
    "jetson-orin-nano": ModulePowerModes(
        modes=(
            replace(_power_mode("MAXN_SUPER", 1020, 8, 3199), fitted_as="jetson-orin-nano-super"),
            _power_mode("25W", 918, 8, 3199),
            _power_mode("15W", 625, 8, 2133),
            _power_mode("7W", 408, 4, 2133),
        ),
        source=f"{_cite_files('concord', 'p3767_0003', 'p3767_0003_super')} (there 15W is 612 MHz); {_NO_LIMIT}",
    ),
    "jetson-orin-nano-super": ModulePowerModes(
        modes=(
            _power_mode("MAXN_SUPER", 1020, 8, 3199),
            _power_mode("25W", 918, 8, 3199),
            _power_mode("15W", 612, 8, 2133),
            PowerMode(name="7W"),
        ),
        source=f"{_cite_files('concord', 'p3767_0003_super')}; {_NO_LIMIT}; owners name a 7W of later "
        "releases, without clocks",
    ),
    "jetson-orin-nx-8gb": ModulePowerModes(
        modes=_orin_nx(765, "20W"),
        source=f"{_cite_files('concord', 'p3767_0001', 'p3767_0001_super')}; {_NO_LIMIT}",
    ),
    "jetson-orin-nx": ModulePowerModes(
        modes=_orin_nx(918, "25W"),
        source=f"{_cite_files('concord', 'p3767_0000', 'p3767_0000_super')}; {_NO_LIMIT}",
    ),
    "jetson-agx-orin-32gb": ModulePowerModes(
        modes=(
            _power_mode("MAXN", 930, 14, 3200),
            _power_mode("MODE_40W", 816, 14, 3200),
            _power_mode("MODE_30W", 612, 8, 3200),
            _power_mode("MODE_15W", 408, 6, 2133),
        ),
        source=f"{_cite_files('concord', 'p3701_0004')}; {_NO_LIMIT}",
    ),
    "jetson-agx-orin": ModulePowerModes(
        modes=(
            _power_mode("MAXN", 1300, 16, 3200),
            _power_mode("MODE_50W", 816, 16, 3200),
            _power_mode("MODE_30W", 612, 8, 3200),
            _power_mode("MODE_15W", 408, 6, 2133),
        ),
        source=f"{_cite_files('concord', 'p3701_0000')}, the developer kit's, whose modes the 64 GB module names too; "
        f"{_NO_LIMIT}",
    ),
    "jetson-thor": ModulePowerModes(
        modes=(_power_mode("MAXN", 1575, 20, 4266), PowerMode(name="120W")),
        source="names: https://github.com/anduril/jetpack-nixos/pull/460; clocks of MAXN: NVIDIA developer forum, "
        "Jetson Thor device query; none is published for 120W",
    ),
}
"""Name of a profile to the modes of its module."""
