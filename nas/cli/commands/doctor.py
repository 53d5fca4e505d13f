"""`nas doctor`: a check of the installation and the machine."""

import typer

from nas.cli.commands._errors import handle_errors

app = typer.Typer()


@app.command(epilog="Example: nas doctor")
@handle_errors
def doctor() -> None:
    """Check versions, devices and missing packages. Exit status 1 where a search cannot run."""
    from nas.cli.render import terminal
    from nas.targets.environment import check_environment

    findings = check_environment()
    terminal.make_console().print(terminal.environment_table(findings))
    if not all(f.is_ok for f in findings):
        raise typer.Exit(1)
