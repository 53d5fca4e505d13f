"""`nas data`: a look at data sets."""

from typing import Annotated

import typer

from nas.cli.commands._errors import told
from nas.cli.commands._options import DataOption, DataPath, pairs

app = typer.Typer(no_args_is_help=True, help="Look at data sets.", epilog="Example: nas data check synthetic")


@app.command("check", epilog="Example: nas data check fer2013 --data fer2013.csv")
@told
def data_check(
    dataset: Annotated[str, typer.Argument(help="Data set: synthetic, fer2013, folder, csv.")] = "synthetic",
    data: DataPath = None,
    data_option: DataOption = None,
) -> None:
    """Count faces and classes, and look for copies within and across splits and for constant images."""
    from nas.cli.render import terminal
    from nas.cli.render.tables import plain_table
    from nas.data.loading import load_data
    from nas.data.quality_check import check

    result = check(load_data(dataset, data, options=pairs(data_option or [])))
    console = terminal.console()
    console.print(plain_table(result.table()))
    found = [(what, str(count)) for what, count in result.findings()]
    console.print(plain_table([("found", "times"), *found]))
    for note in (*result.notes, f"digest {result.digest}"):
        console.print(note, soft_wrap=True)
