"""`nas search`, `nas compress` and `nas train`: searches of a space or of a model's compression; one training."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from nas.cli.commands._config_options import load_config, takes_config_options
from nas.cli.commands._errors import handle_errors
from nas.config import MODEL_FIELDS, TRAIN_FIELDS, SearchConfig, training_config
from nas.errors import ConfigError

app = typer.Typer()

ConfigPath = Annotated[
    Path | None, typer.Option("--config", help="TOML file with any of these fields; options take precedence.")
]


@app.command(epilog="Example: nas search --target jetson --max-latency 5ms --budget 30m")
@handle_errors
@takes_config_options(without=("model", *MODEL_FIELDS))
def search(config: ConfigPath = None, **options: Any) -> None:
    """Search a space for the Pareto front, train the front in full, and write the run folder.

    The same command resumes an interrupted search.
    """
    _search(load_config(config, options))


@app.command(epilog="Example: nas compress --model mypkg.models:build --weights w.pt --dataset fer2013 --target jetson")
@handle_errors
@takes_config_options(without=("space",))
def compress(
    config: ConfigPath = None,
    sensitivity: Annotated[
        bool,
        typer.Option(
            "--sensitivity",
            help="Search nothing: show what pruning by half and INT8 cost and gain in each layer, in minutes.",
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="File to write, with --sensitivity or for an ONNX model.", show_default=False)
    ] = None,
    **options: Any,
) -> None:
    """Search how far a model can be pruned and quantised: same run folder, front and report as a search.

    The same command resumes an interrupted search. An ONNX file without its source is only quantised, as by nas
    quantize.
    """
    from nas.post_training.loading import is_onnx

    loaded = load_config(config, options)
    if loaded.search.model is None:
        raise ConfigError("nas compress requires a model; give --model NAME or --model package.module:function")
    if sensitivity:
        _show_sensitivity(loaded, out)
    elif is_onnx(loaded.search.model):
        _quantize(loaded, out)
    elif out is not None:
        raise ConfigError("--out needs --sensitivity or an ONNX model; a search writes its run folder, see --name")
    else:
        _search(loaded)


@app.command(epilog="Example: nas train --model resnet10 --dataset fer2013 --data fer2013.csv --epochs 100")
@handle_errors
@takes_config_options(only=TRAIN_FIELDS)
def train(
    epochs: Annotated[float, typer.Option(help="Passes over the training images, in one schedule.")] = 100,
    config: ConfigPath = None,
    **options: Any,
) -> None:
    """Train one model whole, from teachers where there are any, and write its run folder: file, figures and report.

    The same command resumes an interrupted training, to the same weights. The run is a teacher for others (--teacher
    RUN), and nas compress with the same words goes on from its weights.
    """
    loaded = load_config(config, options)
    if loaded.search.model is None:
        raise ConfigError("nas train requires a model; give --model NAME or --model package.module:function")
    if not epochs > 0:
        raise ConfigError(f"--epochs must be positive, but got {epochs:g}")
    _search(training_config(loaded, epochs), is_training=True)


def _show_sensitivity(config: SearchConfig, out: Path | None) -> None:
    from nas import api
    from nas.cli.render import terminal
    from nas.cli.render.post_training import show_sensitivity

    figures, path = api.layer_sensitivity(config, out=out, log=terminal.log)
    console = terminal.make_console()
    show_sensitivity(console, figures)
    console.print(f"\nplot  {path}", soft_wrap=True, markup=False)


def _quantize(config: SearchConfig, out: Path | None) -> None:
    from nas import api
    from nas.cli.render import terminal
    from nas.cli.render.post_training import show_result

    show_result(terminal.make_console(), api.quantize_configured(config, out=out, log=terminal.log))


def _search(config: SearchConfig, *, is_training: bool = False) -> None:
    from nas import api
    from nas.cli.render import terminal
    from nas.cli.render.progress import ProgressDisplay

    console = terminal.make_console()
    with ProgressDisplay(console) as display:
        run = api.search(config, on_status=display)
    terminal.show_front(console, run.folder)
    path = run.folder.path
    name = shlex.quote(str(path))
    lines = [f"report   {path / 'report.html'}"]
    if is_training:
        lines.append(f"export   nas export {name} --trial base")
    else:
        lines += [f"pick     nas pick {name}", f"export   nas export {name} --knee"]
    console.print("\n" + "\n".join(lines), soft_wrap=True)
