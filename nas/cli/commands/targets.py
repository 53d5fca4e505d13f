"""`nas targets`: the devices, and those of the user."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.commands._errors import handle_errors

app = typer.Typer()


@app.callback(invoke_without_command=True, epilog="Example: nas targets")
@handle_errors
def targets(context: typer.Context) -> None:
    """List the devices that can be searched for, show one, or add and check one of your own."""
    from nas.api import calibrations
    from nas.cli.render import terminal
    from nas.targets.catalog import load_targets

    if context.invoked_subcommand is None:
        terminal.make_console().print(terminal.targets_table(load_targets(), calibrations()))


@app.command("show", epilog="Example: nas targets show jetson-agx-orin")
@handle_errors
def targets_show(name: Annotated[str, typer.Argument(help="The device.")]) -> None:
    """Show what is known of a device, where each figure was read, and its power modes."""
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
    name: Annotated[str, typer.Argument(help="Word for the device.")],
    like: Annotated[str, typer.Option(help="The known target that it is one of.")],
    ssh: Annotated[str | None, typer.Option(help="Where it is: user@host or user@host:port; by key.")] = None,
    local: Annotated[bool, typer.Option("--local", help="It is this machine, by the tensorrt package.")] = False,
    power_mode: Annotated[
        str | None, typer.Option(help="Its power mode, where it is another one; `nas targets show` lists them.")
    ] = None,
    trtexec: Annotated[str | None, typer.Option(help="Path on the board, where it is not the usual one.")] = None,
    ssh_config: Annotated[Path | None, typer.Option(help="File for ssh -F.")] = None,
) -> None:
    """Write a device of yours into nas.toml in this folder, so that searches measure on it.

    With --power-mode and no way to it, a known board in another power mode, whose latency is predicted.
    """
    from nas.cli.render import terminal
    from nas.targets.catalog import add_target

    fields = {
        "like": like, "ssh": ssh, "local": local or None, "power_mode": power_mode, "trtexec": trtexec,
        "ssh_config": ssh_config,
    }  # fmt: skip
    profile = add_target(name, fields)
    then = f"check   nas targets check {name}" if ssh or local else f"show    nas targets show {name}"
    terminal.make_console().print(f"{name}: {profile.title}\n{then}", soft_wrap=True, markup=False)


@app.command("check", epilog="Example: nas targets check mynano")
@handle_errors
def targets_check(name: Annotated[str, typer.Argument(help="The device.")]) -> None:
    """Tell in a minute whether a device can be measured, and how it stands. Exit status 1 where it cannot."""
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
    name: Annotated[str, typer.Argument(help="The device: this machine, or a board of yours.")],
    nets: Annotated[
        int, typer.Option(help="How many nets to measure, 10 or more, 20 to 50 are usual; a fifth is held out.")
    ] = 40,
    space: Annotated[str, typer.Option(help="Search spaces they are drawn from, commas between.")] = "plain,darts",
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
) -> None:
    """Measure a few nets on a device and learn to predict all others. The same command goes on where it stopped."""
    from nas.api import calibrate
    from nas.cli.render import terminal

    found = calibrate(name, nets=nets, spaces=tuple(space.split(",")), seed=seed, log=terminal.log)
    console = terminal.make_console()
    for line in found.summary_lines():
        console.print(line, soft_wrap=True, markup=False)
