"""`nas data`: checks of data sets, and data sets of face crops."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from nas.cli.commands._errors import USER_ERROR_STATUS, handle_errors
from nas.cli.commands._options import DataOption, DataPath, parse_key_values
from nas.cli.commands.predict import DetectorFile, DetectorName, MinFace

app = typer.Typer(
    no_args_is_help=True,
    help="Check data sets, and make them of photographs.",
    epilog="Example: nas data check synthetic",
)


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


@app.command("crop", epilog="Example: nas data crop photos --out crops")
@handle_errors
def data_crop(
    photos: Annotated[Path, typer.Argument(metavar="PHOTOS", help="Folder of photographs, in class folders.")],
    out: Annotated[Path, typer.Option(help="Folder of the crops: new, or of an earlier call, which is resumed.")],
    size: Annotated[int, typer.Option(help="Side of the crops in pixels.")] = 96,
    grey: Annotated[bool, typer.Option("--grey", help="Write grey crops instead of colour.")] = False,
    faces: Annotated[Literal["largest", "all"], typer.Option(help="Faces to take of each photograph.")] = "largest",
    framing: Annotated[str, typer.Option(help="Data set whose crops to imitate.")] = "fer2013",
    detector: DetectorName = "haar",
    detector_model: DetectorFile = None,
    min_face: MinFace = 40,
    force: Annotated[bool, typer.Option("--force", help="Begin anew, and write over earlier crops.")] = False,
) -> None:
    """Cut the faces out of photographs: a data set `folder`, whose class folders are those of the photographs."""
    from nas.cli.render import terminal
    from nas.cli.render.vision import crop_table, describe_crops
    from nas.registry import load
    from nas.vision.face_crops import LEFT_OUT, CropSettings, crop_faces
    from nas.vision.framing import find_framing

    settings = CropSettings(detector=detector, framing=framing, size=size, grey=grey, faces=faces, min_face=min_face)
    detect = load("detector", detector).load(model=detector_model, min_face=min_face)
    found, note = find_framing(detector, framing)
    if note:
        terminal.log(note)
    summary = crop_faces(photos, out, settings, detect=detect, framing=found, force=force, log=terminal.log)
    console = terminal.make_console()
    console.print(describe_crops(summary), style="bold", soft_wrap=True)
    console.print(crop_table(summary))
    for line in summary.notes:
        console.print(line, soft_wrap=True, markup=False)
    if summary.changed:
        console.print(
            f"{len(summary.changed)} photographs have changed since they were cropped, such as {summary.changed[0]}; "
            "--force crops them again", soft_wrap=True, markup=False,
        )  # fmt: skip
    if summary.left_out:
        console.print(f"left out   {out / LEFT_OUT}", soft_wrap=True, markup=False)
    if not summary.crops:
        raise typer.Exit(USER_ERROR_STATUS)
    console.print(f"use it   nas data check folder --data {out}", soft_wrap=True, markup=False)
