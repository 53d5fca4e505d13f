"""`nas predict`: labelled faces of pictures, videos and cameras, and the benchmark of the chain."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.commands._errors import INTERRUPTED_STATUS, USER_ERROR_STATUS, handle_errors
from nas.errors import ConfigError

app = typer.Typer()

DetectorName = Annotated[str, typer.Option(help="Face detector: haar, dlib or yunet.")]
DetectorFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="File of the detector; yunet needs one, haar takes another cascade.")
]
MinFace = Annotated[int, typer.Option(help="Side in pixels of the smallest face to look for.", min=8)]


@app.command(epilog="Example: nas predict resnet-56k holiday.jpg --out labelled")
@handle_errors
def predict(
    model: Annotated[
        str,
        typer.Argument(
            help="ONNX file, run folder (its pick), RUN:TRIAL, exported folder, or a reference network: resnet-56k."
        ),
    ],
    source: Annotated[str, typer.Argument(help="Picture, folder, video, or number of a camera.")],
    out: Annotated[Path | None, typer.Option(help="Folder or file of annotated copies; FILE.mp4 for a video.")] = None,
    json: Annotated[Path | None, typer.Option(help="File of JSON lines, one a face.")] = None,
    csv: Annotated[Path | None, typer.Option(help="File of a table, one row a face.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Show the frames in a window; q ends it.")] = False,
    detector: DetectorName = "haar",
    detector_model: DetectorFile = None,
    min_face: MinFace = 40,
    framing: Annotated[
        str | None, typer.Option(help="Data set whose crops the model expects; by default the one its file names.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Class names a,b,c in the order of the outputs, where the file has none.")
    ] = None,
    pixels: Annotated[
        str | None, typer.Option(help="Pixels that a foreign file takes: 0..255, 0..1, -1..1 or imagenet.")
    ] = None,
    smoothing: Annotated[
        float, typer.Option(help="Seconds over which labels of a video are smoothed; 0 for not at all.", min=0)
    ] = 0.5,
    frames: Annotated[int | None, typer.Option(help="Stop after this many frames.", min=1)] = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after this many seconds.", min=0)] = None,
    threads: Annotated[int, typer.Option(help="Threads of the model's runtime.", min=1)] = 1,
    benchmark: Annotated[
        bool,
        typer.Option("--benchmark", help="Print parameters, CPU, memory and frames/s, by stage; needs no display."),
    ] = False,
) -> None:
    """Find the faces in a picture, a folder, a video or a camera, and label their expressions."""
    from nas.api import prediction
    from nas.cli.render import terminal
    from nas.cli.render.vision import benchmark_tables, describe_benchmark, describe_summary, labels_table
    from nas.vision.benchmark import DEFAULT_FRAMES
    from nas.vision.labelling import Limits

    options = prediction.ModelOptions(
        detector=detector, detector_model=detector_model, min_face=min_face, framing=framing, pixels=pixels,
        classes=tuple(word.strip() for word in classes.split(",")) if classes is not None else (),
        smoothing_s=smoothing, threads=threads,
    )  # fmt: skip
    console = terminal.make_console()
    if benchmark:
        if out or json or csv or show:
            raise ConfigError("--benchmark writes and shows nothing; leave --out, --json, --csv and --show out")
        figures = prediction.benchmark_prediction(
            model, source, options, frames=frames or DEFAULT_FRAMES, seconds=seconds, log=terminal.log
        )
        for line in describe_benchmark(figures):
            console.print(line, style="bold", soft_wrap=True)
        for table in benchmark_tables(figures):
            console.print(table)
        return
    summary = prediction.label_faces(
        model, source, options, out=out, json=json, csv=csv, show=show,
        limits=Limits(frames=frames, seconds=seconds), log=terminal.log,
    )  # fmt: skip
    if not summary.sources and not summary.is_interrupted:  # the reasons were said
        raise typer.Exit(USER_ERROR_STATUS)
    console.print(describe_summary(summary), style="bold", soft_wrap=True)
    if summary.faces:
        console.print(labels_table(summary))
    for path in (out, json, csv):
        if path is not None:
            console.print(f"written   {path}", soft_wrap=True, markup=False)
    if summary.is_interrupted and not source.isdigit():  # a camera is ended in no other way
        raise typer.Exit(INTERRUPTED_STATUS)
