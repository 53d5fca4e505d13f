"""Profiles of a board in another power mode than that of its fitted constants.

- Peak rates are proportional to clock and multiprocessors, and the bandwidth to the memory's clock.
- The floor of a kernel is taken to be inversely proportional to the GPU's clock: of the boards with one architecture,
  the Orins, floor times clock is about constant.
- The fixed part of an inference is unchanged.

How far the floor follows the clock on other boards is unknown, so a GPU clock that is r times slower or faster widens
the interval of a prediction by a factor of r on the far side.

`benchmarks/jetson_profiles.py` prints the one comparison that published figures allow, between the two sets of clocks
of the Orin Nano 8 GB (two publishers, 17 networks): median errors of 37 % and 33 %, against 119 % and 57 % with the
unscaled constants of the other mode.
"""

from dataclasses import replace

from hw_profiles._base import HardwareProfile, LatencyModel, PowerMode

MAX_RELATIVE_ERROR = 0.95
"""Upper limit: an interval that begins at 0 carries no information."""

_PREFIX = "MODE_"


def is_same_mode(one: str, other: str) -> bool:
    """Whether two names denote one mode; case and the prefix `MODE_` differ between boards."""
    return _normalized_name(one) == _normalized_name(other)


def find_power_mode(profile: HardwareProfile, name: str) -> PowerMode | None:
    """The mode of this name; None where there is none.

    Boards that disable CPU cores have several modes of one power: "30W" is the first of `MODE_30W_ALL`,
    `MODE_30W_6CORE` and so on, provided that all have the same GPU settings.
    """
    exact = [mode for mode in profile.power_modes if is_same_mode(mode.name, name)]
    begun = [
        mode for mode in profile.power_modes if _normalized_name(mode.name).startswith(f"{_normalized_name(name)}_")
    ]
    alike = all(_have_equal_gpu(mode, begun[0]) for mode in begun)
    return exact[0] if exact else begun[0] if begun and alike else None


def with_power_mode(profile: HardwareProfile, name: str) -> HardwareProfile:
    """The profile of the same board in the mode of this name; `profile` itself for its own mode.

    Raises:
        ValueError: the board has no such mode, or the clocks of the mode are not published. The message lists the
            modes in one line.
    """
    own = profile.power_modes and find_power_mode(profile, str(profile.facts["power_mode"]))
    if not own:
        raise ValueError(f"power_mode must be left out for {profile.name}, which has no power modes, but got {name!r}")
    mode = find_power_mode(profile, name)
    if mode is None:
        known = ", ".join(mode.name for mode in profile.power_modes)
        raise ValueError(f"power_mode of {profile.name} must be one of {known}, but got {name!r}")
    if mode == own:
        return profile
    if mode.gpu_mhz is None or mode.multiprocessors is None or mode.memory_mhz is None or own.memory_mhz is None:
        known = ", ".join(mode.name for mode in profile.power_modes if mode.gpu_mhz)
        raise ValueError(f"power_mode must be one whose clocks are published ({known}), but got {name!r}")
    clock = mode.gpu_mhz / float(profile.facts["gpu_mhz"])
    rate = clock * mode.multiprocessors / int(profile.facts["multiprocessors"])
    return replace(
        profile,
        title=f"{profile.title.partition(' (')[0]} ({mode.name}, GPU at {mode.gpu_mhz:g} MHz)",
        peak_gops={bits: round(gops * rate, 1) for bits, gops in profile.peak_gops.items()},
        bandwidth_gb_s=round(profile.bandwidth_gb_s * mode.memory_mhz / own.memory_mhz, 1),
        latency=profile.latency if _have_equal_gpu(mode, own) else _scaled_latency_model(profile, mode, clock),
        facts={
            **profile.facts,
            "power_mode": mode.name,
            "gpu_mhz": mode.gpu_mhz,
            "multiprocessors": mode.multiprocessors,
        },
        sources={
            **profile.sources,
            **dict.fromkeys(("power_mode", "gpu_mhz", "multiprocessors"), profile.sources["power_modes"]),
            "peak_gops": f"{profile.sources['peak_gops']}, of {mode.name}",
            "bandwidth_gb_s": f"that of {own.name} times the memory's clock of {mode.name} over that of {own.name}",
        },
    )


def _scaled_latency_model(profile: HardwareProfile, mode: PowerMode, clock_ratio: float) -> LatencyModel | None:
    """The latency model with its floor scaled, a wider interval, and the original mode in its source."""
    model = profile.latency
    if model is None:
        return None
    wider = (1 + model.relative_error) * max(clock_ratio, 1 / clock_ratio) - 1
    facts = profile.facts
    better = f"{mode.fitted_as} was fitted to this mode: better take that" if mode.fitted_as else ""
    return replace(
        model,
        floor_us=round(model.floor_us / clock_ratio, 2),
        relative_error=round(min(wider, MAX_RELATIVE_ERROR), 2),
        source=f"constants of {facts['power_mode']} ({facts['gpu_mhz']:g} MHz, {facts['multiprocessors']} "
        f"multiprocessors) carried to {mode.name} ({mode.gpu_mhz:g} MHz, {mode.multiprocessors}): rates, bandwidth and "
        f"the floor of a kernel follow the clocks; {better or 'no figure of this mode was fitted to'}; {model.source}",
    )


def _have_equal_gpu(mode: PowerMode, other: PowerMode) -> bool:
    """Whether two modes have the same GPU and memory settings."""
    return replace(mode, name="", fitted_as="") == replace(other, name="", fitted_as="")


def _normalized_name(name: str) -> str:
    return name.strip().upper().removeprefix(_PREFIX)
