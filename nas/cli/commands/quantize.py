"""`nas quantize`: post-training quantisation of one model, without a search."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nas.cli.commands._config_options import config_fields, takes_config_options
from nas.cli.commands._errors import handle_errors

app = typer.Typer()

FIELDS = ("weights", "mean", "std", "input_size", "keep", "dataset", "data", "data_options", "seed", "threads")

Target = Annotated[str, typer.Option(help="Target device, which is measured or predicted; `nas targets` lists them.")]


@app.command(epilog="Example: nas quantize model.onnx --dataset fer2013 --data fer2013.csv")
@handle_errors
@takes_config_options(only=FIELDS)
def quantize(
    model: Annotated[str, typer.Argument(help="ONNX file, published network, or factory file.py:function.")],
    bits: Annotated[
        str | None,
        typer.Option(
            help="8, 16 or 32 for everything, or NAME=BITS for units and layers, such as stem=32,head=32; by default "
            "INT8 where it is measured to pay.", show_default=False,
        ),
    ] = None,
    calibration: Annotated[
        str, typer.Option(help="How ranges of activations are found: entropy, mse, minmax or percentile.")
    ] = "entropy",
    target: Target = "cpu",
    classes: Annotated[
        str | None,
        typer.Option(help="Classes of an ONNX file that does not name them, in order of its outputs, as a,b,c."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; NAME-quantised.onnx by default.")] = None,
    **options: Any,
) -> None:  # fmt: skip
    """Quantise one trained model in seconds, without training, and compare the file with the model as given."""
    from nas import api
    from nas.cli.render import terminal
    from nas.cli.render.post_training import show_result

    result = api.quantize(
        model, bits=bits, calibration=calibration, target=target, classes=classes.split(",") if classes else (),
        out=out, log=terminal.log, **config_fields(options),
    )  # fmt: skip
    show_result(terminal.make_console(), result)
