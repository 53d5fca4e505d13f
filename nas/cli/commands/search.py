"""`nas search` and `nas compress`: the same flags and the same run, of a space or of a net that there is already."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from nas.cli.commands._errors import handle_errors
from nas.cli.commands._options import DataOption, DataPath, MaxLatency, MaxSize, MinAccuracy, parse_key_values
from nas.config import SearchConfig, make_config, read_config
from nas.errors import ConfigError

app = typer.Typer()

COMMA_SEPARATED_FIELDS = ("compressors", "objectives", "proxies")
"""Flags that hold words with commas between."""


def _config_option(field: str, text: str) -> Any:
    """An option of `nas search` whose default is that of the configuration's field."""
    default = SearchConfig.model_fields[field].default
    if isinstance(default, tuple):
        default = ",".join(f"{part:.3g}" if isinstance(part, float) else part for part in default)
    return typer.Option(help=text if default is None else f"{text} (default {default})")


@app.command(epilog="Example: nas search --target jetson --max-latency 5ms --budget 30m")
@handle_errors
def search(
    target: Annotated[str | None, _config_option("target", "Device to search for; see `nas targets`.")] = None,
    space: Annotated[str | None, _config_option("space", "Search space: darts, plain, ...")] = None,
    dataset: Annotated[str | None, _config_option("dataset", "Data set: synthetic, fer2013, ...")] = None,
    data: DataPath = None,
    data_option: DataOption = None,
    objectives: Annotated[str | None, _config_option("objectives", "accuracy,latency and any of size, energy.")] = None,
    max_latency: MaxLatency = None,
    max_size: MaxSize = None,
    min_accuracy: MinAccuracy = None,
    trials: Annotated[int | None, _config_option("trials", "Stop after so many candidates.")] = None,
    budget: Annotated[
        str | None, _config_option("budget", "Stop after so long, all included: 30m, 4h (4m without --trials).")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="End early when so many more candidates would gain less than 1 % of hypervolume.")
    ] = None,
    search_share: Annotated[
        float | None, _config_option("search_share", "Share of the budget for the search itself.")
    ] = None,
    sampler: Annotated[str | None, _config_option("sampler", "screened, tpe, nsga2 or random.")] = None,
    warm_start: Annotated[
        list[Path] | None, typer.Option(help="Earlier run on the same space and data to learn from; repeat.")
    ] = None,
    proxies: Annotated[
        str | None, typer.Option(help="Zero-cost proxies for the records: jacov, nwot, synflow. None by default.")
    ] = None,
    compressors: Annotated[
        str | None,
        _config_option("compressors", "What may be done to a net: prune_structured, quantize, low_rank, ..."),
    ] = None,
    prune_steps: Annotated[int | None, _config_option("prune_steps", "Steps in which channels leave.")] = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(help="ONNX file, run (RUN or RUN:KEY), .npy of answers, or `votes`; =WEIGHT behind it; repeat."),
    ] = None,
    distill: Annotated[
        str | None, _config_option("distill", "How to learn from it: logits, dkd, bounded, attention, hints.")
    ] = None,
    temperature: Annotated[float | None, _config_option("temperature", "Softens the teacher's answers.")] = None,
    alpha: Annotated[float | None, _config_option("alpha", "Share of the teacher in the loss, 0..1.")] = None,
    distill_during: Annotated[
        str | None, _config_option("distill_during", "final: front only; search: all training.")
    ] = None,
    qat: Annotated[
        float | None, _config_option("qat", "Share of the final epochs trained in 8 bits; 0 is none.")
    ] = None,
    qat_scales: Annotated[
        str | None, _config_option("qat_scales", "Grids of 8 bits: calibrated, or learned as well.")
    ] = None,
    epochs: Annotated[float | None, _config_option("epochs", "Passes over the data in the search.")] = None,
    rungs: Annotated[
        str | None, _config_option("rungs", "Shares of the epochs after which a candidate may stop.")
    ] = None,
    final_epochs: Annotated[
        int | None, _config_option("final_epochs", "Further passes for the front's members.")
    ] = None,
    verify: Annotated[int | None, _config_option("verify", "How many members are trained in full.")] = None,
    verify_seeds: Annotated[int | None, _config_option("verify_seeds", "How often each of them is trained.")] = None,
    seed: Annotated[int | None, _config_option("seed", "Of everything random.")] = None,
    threads: Annotated[int | None, _config_option("threads", "CPU threads for training; 0 is all cores.")] = None,
    device: Annotated[str | None, _config_option("device", "Where to train: auto, cpu or cuda.")] = None,
    storage: Annotated[str | None, typer.Option(help="URL of an Optuna storage; a file in the run by default.")] = None,
    runs: Annotated[Path | None, _config_option("runs", "Folder of all runs.")] = None,
    name: Annotated[str | None, typer.Option(help="Of this run; made of data, space and target if left out.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with these fields; flags go first.")] = None,
) -> None:
    """Search, train the front in full, and write the run folder. The same command again goes on where it stopped."""
    _search(_load_config(config, _config_fields(locals())))


def _inherit_options(command: Callable[..., None], *, without: tuple[str, ...]) -> Callable[[Callable[..., None]], Any]:
    """Give a function that takes `**flags` the flags of a command behind its own, but for some."""

    def widened(function: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
        more = [p for name, p in inspect.signature(command).parameters.items() if name not in without]
        function.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]
        return function

    return widened


@app.command(epilog="Example: nas compress --model mypkg.models:build --weights w.pt --dataset fer2013 --target jetson")
@handle_errors
@_inherit_options(search, without=("space",))
def compress(
    model: Annotated[
        str | None, typer.Option(help="A published net (mini_xception, resnet18, ...), or package.module:function.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="State dict of it; without one it is trained first.")] = None,
    mean: Annotated[float | None, typer.Option(help="What it wants subtracted from pixels 0..255.")] = None,
    std: Annotated[float | None, typer.Option(help="What it wants them divided by then.")] = None,
    input_size: Annotated[int | None, typer.Option(help="Height and width that it wants images resized to.")] = None,
    **flags: Any,
) -> None:
    """Search how far a net that you have can be pruned and quantised: same run folder, front and report as a search."""
    own = {"model": model, "weights": weights, "mean": mean, "std": std, "input_size": input_size}
    config = _load_config(flags["config"], own | _config_fields(flags))
    if config.search.model is None:
        raise ConfigError("nas compress needs a net; give --model NAME or --model package.module:function")
    _search(config)


def _search(config: SearchConfig) -> None:
    from nas.api import search as run_search
    from nas.cli.render import terminal
    from nas.cli.render.progress import ProgressDisplay

    console = terminal.make_console()
    with ProgressDisplay(console) as watch:
        run = run_search(config, on_status=watch)
    terminal.show_front(console, run.folder)
    path = run.folder.path
    lines = (f"report   {path / 'report.html'}", f"pick     nas pick {path}", f"export   nas export {path} --knee")
    console.print("\n" + "\n".join(lines), soft_wrap=True)


def _config_fields(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Flags of a search as fields of its configuration; what holds several values in one word is taken apart."""
    fields = {name: value for name, value in flags.items() if name not in ("config", "data_option")}
    for name in COMMA_SEPARATED_FIELDS:
        fields[name] = tuple(flags[name].split(",")) if flags[name] else None
    fields["rungs"] = _parse_floats(flags["rungs"], "--rungs 0.1,0.3,1") if flags["rungs"] else None
    fields["data_options"] = parse_key_values(flags["data_option"]) if flags["data_option"] else None
    return fields


def _load_config(file: Path | None, flags: dict[str, Any]) -> SearchConfig:
    """The configuration of a file and flags; a flag goes before the file's field."""
    given = {name: value for name, value in flags.items() if value is not None}
    return make_config(**((read_config(file).flat(only_set=True) if file else {}) | given))


def _parse_floats(words: str, example: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in words.split(","))
    except ValueError:
        raise ConfigError(f"need numbers with commas between, but got {words!r}; try {example}") from None
