"""`nas data`: checks of data sets."""

from typing import Annotated

import typer

from nas.cli.commands._errors import handle_errors
from nas.cli.commands._options import DataOption, DataPath, parse_key_values

app = typer.Typer(no_args_is_help=True, help="Check data sets.", epilog="Example: nas data check synthetic")


@app.command("check", epilog="Example: nas data check fer2013 --data fer2013.csv")
@handle_errors
def data_check(
    dataset: Annotated[
        str, typer.Argument(help="Data set: synthetic, fer2013, folder, csv, or a published one, such as rafdb.")
    ] = "synthetic",
    data: DataPath = None,
    data_option: DataOption = None,
    protocol: Annotated[
        str,
        typer.Option(help="Division of the faces: official, holdout, kfold:K, loso or folds:FILE; of fold 1."),
    ] = "official",
) -> None:
    """Count faces by class, subjects and groups, and find copies within and across splits; say what a search does."""
    from nas.cli.render import terminal
    from nas.cli.render.tables import plain_table
    from nas.config import make_config
    from nas.data.loading import load_data
    from nas.data.quality_check import check_quality

    config = make_config(dataset=dataset, data=data, protocol=protocol)
    loaded = load_data(
        dataset, data, options=parse_key_values(data_option or []), keep_duplicates=True,
        protocol=config.search.protocol,
    )  # fmt: skip
    result = check_quality(loaded)
    console = terminal.make_console()
    console.print(plain_table(result.class_balance_rows()))
    counts = [(finding, str(count)) for finding, count in result.count_findings()]
    console.print(plain_table([("finding", "count"), *counts]))
    if rows := result.group_rows():
        console.print(plain_table(rows))
    for note in (*result.consequences(), *result.notes, f"digest {result.digest}"):
        console.print(note, soft_wrap=True)
