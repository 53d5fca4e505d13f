"""Output of `nas measure`: latencies, throughput at batches, layers, and the memory of files."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nas.cli.render.tables import plain_table
from nas.errors import MeasureError
from nas.latency.latency import Latency
from nas.latency.memory import Memory
from nas.reporting.model_card import describe_latency
from nas.runtimes.time_breakdown import TimeBreakdown


def show_latencies(
    console: Console,
    results: Mapping[str, list[Latency] | MeasureError],
    memories: Mapping[str, Memory | str] = {},
) -> bool:
    """Show the latencies of each file, its layers where they were timed, and how the files compare.

    Args:
        console: where to.
        results: of each file, by its name.
        memories: of each file by its name, or why it is unknown.

    Returns:
        Whether every file has a latency.
    """
    first: tuple[str, Latency] | None = None
    for name, measured in results.items():
        if len(results) > 1:
            console.print(f"[bold]{escape(name)}[/]", soft_wrap=True)
        if isinstance(measured, MeasureError):
            console.print(f"no latency: {measured}", soft_wrap=True, markup=False)
            for line in measured.log_lines:
                console.print(f"  {line}", soft_wrap=True, markup=False, style="dim")
            continue
        for m in measured:
            console.print(describe_latency(m.to_dict()), soft_wrap=True, markup=False)
        if any(m.batch > 1 for m in measured):
            console.print(throughput_table(measured))
        if name in memories:
            console.print(f"memory {describe_memory(memories[name])}", soft_wrap=True, markup=False)
        if measured[0].layers:
            console.print(layers_table(measured[0]))
        if first is None:
            first = (name, measured[0])
        else:
            share = measured[0].latency_ms / first[1].latency_ms
            console.print(f"takes {share:.3f} times as long as {first[0]}", soft_wrap=True, markup=False)
    return not any(isinstance(measured, MeasureError) for measured in results.values())


def throughput_table(measured: Sequence[Latency]) -> Table:
    """Measured latencies at batches: milliseconds of an inference, and images a second, each with its interval."""
    rows = [("batch", "threads", "ms", "95 % interval", "images/s", "95 % interval", "ms an image")]
    for m in (m for m in measured if m.kind == "measured"):
        value, low, high = m.images_per_s
        ms = f"{m.latency_ms:#.4g}", f"[{m.low_ms:#.4g}, {m.high_ms:#.4g}]"
        images = f"{value:,.0f}", f"[{low:,.0f}, {high:,.0f}]"
        rows.append((str(m.batch), str(m.threads), *ms, *images, f"{m.latency_ms / m.batch:#.4g}"))
    return plain_table(rows)


def show_breakdowns(console: Console, results: Mapping[str, list[TimeBreakdown] | MeasureError]) -> bool:
    """Show where the time of each file goes, with remarks.

    Returns:
        Whether every file has a breakdown.
    """
    for name, found in results.items():
        console.print()
        if isinstance(found, MeasureError):
            console.print(f"{name}: {found}", soft_wrap=True, markup=False)
            continue
        for breakdown in found:
            console.print(breakdown_table(breakdown))
            for remark in breakdown.remarks:
                console.print(f"  {remark}", soft_wrap=True, markup=False)
    return not any(isinstance(found, MeasureError) for found in results.values())


def breakdown_table(breakdown: TimeBreakdown) -> Table:
    """Parts of an inference with their milliseconds and shares."""
    total = breakdown.total_ms or 1.0
    rows = [(part.name, f"{part.ms:.4f}", f"{part.ms / total:.1%}", part.detail) for part in breakdown.parts]
    table = plain_table([("where the time goes", "ms", "share", "of what"), *rows, ("sum", f"{total:.4f}", "", "")])
    table.columns[-1].justify = "left"
    table.title, table.title_justify, table.title_style = escape(breakdown.title), "left", "bold"
    return table


def layers_table(latency: Latency) -> Table:
    """Layers in order of execution, each with its share of the sum of all layers."""
    total = sum(ms for _, ms in latency.layers) or 1.0
    rows = [(name, f"{1e3 * ms:.1f}", f"{ms / total:.1%}") for name, ms in latency.layers]
    summed = f"{len(rows)} layers, timed one by one: {total:.3f} ms"
    return plain_table([("layer", "us", "share"), *rows, (summed, f"{1e3 * total:.1f}", "")])


def describe_memory(memory: Memory | str) -> str:
    """Memory of a file as one phrase, or why it is unknown."""
    if isinstance(memory, str):
        return f"unknown: {memory}"
    where = f" (at {memory.peak_kernel})" if memory.peak_kernel else ""
    return (
        f"{memory.total_bytes / 1e3:,.1f} kB by the graph, without the runtime: {memory.weight_bytes / 1e3:,.1f} kB of "
        f"weights, and {memory.activation_bytes / 1e3:,.1f} kB of activations of one image at their peak{where}"
    )
