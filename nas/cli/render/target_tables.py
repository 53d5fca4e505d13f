"""Tables of one target for the terminal: its facts with sources, its latency model, and its power modes."""

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from hw_profiles._base import HardwareProfile, PowerMode
from hw_profiles._power_modes import is_same_mode

UNPUBLISHED = "not published"


def facts_table(profile: HardwareProfile) -> Table:
    """Facts of a device, one a row, with their sources."""
    table = Table(title=escape(profile.title), title_justify="left", header_style="dim", box=None, pad_edge=False)
    for head in ("fact", "value", "source"):
        table.add_column(head, overflow="fold")
    for name, value, source in _rows(profile):
        table.add_row(name, escape(value), escape(source), style=None)
    return table


def modes_table(profile: HardwareProfile) -> Table:
    """Power modes of a board, one a row; a mode that a profile was fitted to shows that profile's name."""
    table = Table(
        title="power modes; another one: nas targets add NAME --like BOARD --power-mode MODE", title_justify="left",
        header_style="dim", box=None, pad_edge=False,
        caption=escape(f"source: {profile.sources['power_modes']}"), caption_justify="left",
    )  # fmt: skip
    table.add_column("mode")
    for head in ("GPU MHz", "multiprocessors", "memory MHz"):
        table.add_column(head, justify="right")
    for mode in profile.power_modes:
        own = is_same_mode(mode.name, str(profile.facts["power_mode"]))
        whose = "this profile" if own else mode.fitted_as
        table.add_row(f"{mode.name} ({whose})" if whose else mode.name, *_clocks(mode))
    return table


def _clocks(mode: PowerMode) -> tuple[str, str, str]:
    if mode.gpu_mhz is None:
        return UNPUBLISHED, "", ""
    return f"{mode.gpu_mhz:g}", f"{mode.multiprocessors}", f"{mode.memory_mhz:g}"


def _rows(profile: HardwareProfile) -> Iterator[tuple[str, str, str]]:
    """Name, value and source of each fact and of the latency model."""
    figures = {
        "runtime": profile.runtime,
        "precisions": ", ".join(f"{bits} bits" for bits in profile.precisions),
        "channel_multiple": f"{profile.channel_multiple}",
        "activation_signed": "yes" if profile.activation_signed else "no",
        "peak_gops": ", ".join(f"{gops:g} at {bits} bits" for bits, gops in sorted(profile.peak_gops.items())),
        "bandwidth_gb_s": f"{profile.bandwidth_gb_s:g}",
        "memory_gb": f"{profile.memory_gb:g}",
        **{name: f"{value}" for name, value in profile.facts.items()},
    }
    for name, value in figures.items():
        source = "" if name == "runtime" else profile.sources.get(name, profile.sources.get("*", ""))
        yield name, value, source
    if model := profile.latency:
        shares = ", ".join(f"{kind} {share:.3g}" for kind, share in model.efficiency.items())
        value = (
            f"{model.fixed_us:g} us a network and {model.floor_us:g} us a kernel; share of the peak: {shares}; "
            f"+-{model.relative_error:.0%}"
        )
        yield "latency", value, model.source
