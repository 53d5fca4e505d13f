"""`nas targets`: the known devices, and those that a user adds."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.commands._errors import handle_errors

app = typer.Typer()


@app.callback(invoke_without_command=True, epilog="Example: nas targets")
@handle_errors
def targets(context: typer.Context) -> None:
    """List the target devices, show one, or add, check and calibrate one of your own."""
    from nas.api import calibrations
    from nas.cli.render import terminal
    from nas.targets.catalog import load_targets

    if context.invoked_subcommand is None:
        terminal.make_console().print(terminal.targets_table(load_targets(), calibrations()))


@app.command("show", epilog="Example: nas targets show jetson-agx-orin")
@handle_errors
def targets_show(name: Annotated[str, typer.Argument(help="Name of the target.")]) -> None:
    """Show the facts of a device with their sources, and its power modes."""
    from nas.cli.render import terminal
    from nas.cli.render.target_tables import facts_table, modes_table
    from nas.targets.catalog import load_target

    profile, console = load_target(name), terminal.make_console()
    console.print(facts_table(profile))
    if profile.power_modes:
        console.print()
        console.print(modes_table(profile))


@app.command("add", epilog="Example: nas targets add mynano --like jetson-orin-nano --ssh user@host")
@handle_errors
def targets_add(
    name: Annotated[str, typer.Argument(help="Name of the new target.")],
    like: Annotated[str, typer.Option(help="Known target that the device is one of.")],
    ssh: Annotated[str | None, typer.Option(help="Address: user@host or user@host:port; login is by key.")] = None,
    local: Annotated[
        bool, typer.Option("--local", help="The device is this machine, measured with the tensorrt package.")
    ] = False,
    runtime: Annotated[
        str | None,
        typer.Option(help="Runtime on this machine, with --local: tensorrt, onnxruntime_cuda, onnxruntime_tensorrt."),
    ] = None,
    power_mode: Annotated[
        str | None, typer.Option(help="Power mode, if not the known target's; `nas targets show` lists them.")
    ] = None,
    dla: Annotated[
        int | None, typer.Option(help="DLA core of the board that networks run on; the rest falls back to the GPU.")
    ] = None,
    trtexec: Annotated[str | None, typer.Option(help="Path of trtexec on the board, if not the usual one.")] = None,
    ssh_config: Annotated[Path | None, typer.Option(help="Configuration file for ssh -F.")] = None,
) -> None:
    """Add a device of your own to nas.toml in this folder, so that searches measure on it.

    With --power-mode alone, it is a known board in another power mode, whose latency is predicted.
    """
    from nas.cli.render import terminal
    from nas.targets.catalog import add_target

    fields = {
        "like": like, "ssh": ssh, "local": local or None, "runtime": runtime, "power_mode": power_mode,
        "dla": dla, "trtexec": trtexec, "ssh_config": ssh_config,
    }  # fmt: skip
    profile = add_target(name, fields)
    next_command = f"check   nas targets check {name}" if ssh or local else f"show    nas targets show {name}"
    terminal.make_console().print(f"{name}: {profile.title}\n{next_command}", soft_wrap=True, markup=False)


@app.command("check", epilog="Example: nas targets check mynano")
@handle_errors
def targets_check(name: Annotated[str, typer.Argument(help="Name of the target.")]) -> None:
    """Check in about a minute whether a device can be measured. Exit status 1 where it cannot."""
    from nas.api import check_target
    from nas.cli.render import terminal

    findings = check_target(name)
    console = terminal.make_console()
    console.print(terminal.device_checks_table(findings))
    if not all(f.is_ok for f in findings):
        raise typer.Exit(1)


@app.command("calibrate", epilog="Example: nas targets calibrate mynano --nets 40 --space plain,darts")
@handle_errors
def targets_calibrate(
    name: Annotated[str, typer.Argument(help="Name of the target: this machine, or a board over ssh.")],
    nets: Annotated[
        int, typer.Option(help="Networks to measure, at least 10, usually 20 to 50; 20 % are held out.")
    ] = 40,
    space: Annotated[str, typer.Option(help="Search spaces to draw them from, separated by commas.")] = "plain,darts",
    seed: Annotated[int, typer.Option(help="Random seed of the draw.")] = 0,
) -> None:
    """Measure random networks on a device and fit a latency model to them. The same command resumes."""
    from nas.api import calibrate
    from nas.cli.render import terminal

    calibration = calibrate(name, nets=nets, spaces=tuple(space.split(",")), seed=seed, log=terminal.log)
    console = terminal.make_console()
    for line in calibration.summary_lines():
        console.print(line, soft_wrap=True, markup=False)
