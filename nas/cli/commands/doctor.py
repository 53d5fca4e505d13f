"""`nas doctor`: what is installed here, and what is missing."""

import typer

from nas.cli.commands._errors import told

app = typer.Typer()


@app.command(epilog="Example: nas doctor")
@told
def doctor() -> None:
    """Look at versions, devices and what is missing. Exit status 1 where a search could not go on."""
    from nas.cli.render import terminal
    from nas.targets.environment import doctor as examine

    findings = examine()
    terminal.console().print(terminal.findings_table(findings))
    if not all(f.ok for f in findings):
        raise typer.Exit(1)
