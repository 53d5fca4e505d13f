"""`nas prune`: structured pruning of one model with a short fine-tuning, without a search."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from nas.cli.commands._config_options import config_fields, takes_config_options
from nas.cli.commands._errors import handle_errors
from nas.cli.commands.quantize import FIELDS, Target

app = typer.Typer()


@app.command(epilog="Example: nas prune resnet18 --weights w.pt --sparsity 0.5 --dataset fer2013 --data fer2013.csv")
@handle_errors
@takes_config_options(only=(*FIELDS, "device"))
def prune(
    model: Annotated[str, typer.Argument(help="Published network, or factory file.py:function.")],
    sparsity: Annotated[
        float, typer.Option(help="Share of the channels of every stage to remove, or of the MACs with scope global.")
    ] = 0.5,
    epochs: Annotated[float, typer.Option(help="Epochs of the fine-tuning; 0 for none.")] = 2.0,
    importance: Annotated[
        str, typer.Option(help="Criterion that ranks the channels: l1, l2, taylor, bn_scale, similarity, ...")
    ] = "l1",
    pruning_scope: Annotated[
        Literal["layer", "global"],
        typer.Option(help="Whether each stage loses the same share, or the whole net its least important channels."),
    ] = "layer",
    steps: Annotated[int, typer.Option(help="Pruning steps, which share the epochs.", min=1)] = 1,
    target: Target = "cpu",
    out: Annotated[Path | None, typer.Option(help="ONNX file to write; NAME-pruned.onnx by default.")] = None,
    **options: Any,
) -> None:
    """Remove channels of one trained model, fine-tune it, and compare the file with the model as given.

    The weights are written beside the ONNX file, under the names of the model's own code.
    """
    from nas import api
    from nas.cli.render import terminal
    from nas.cli.render.post_training import show_result

    result = api.prune(
        model, sparsity=sparsity, epochs=epochs, importance=importance, scope=pruning_scope, steps=steps,
        target=target, out=out, log=terminal.log, **config_fields(options),
    )  # fmt: skip
    show_result(terminal.make_console(), result)
