"""Page of the commands: complete, and as the command line itself says it."""

from typer.main import get_command

from docs.generated.command_page import command_page, commands
from nas.cli.main import app


def test_every_command_has_a_section_with_all_its_options() -> None:
    page, command_line = command_page(), get_command(app)
    assert {words[1] for words, _ in commands()} == set(command_line.commands)
    for words, command in commands():
        section = page.partition(f"## {' '.join(words)} {{")[2].partition("\n## ")[0]
        assert section, words
        for parameter in command.params:
            if parameter.opts[0].startswith("-") and not parameter.hidden:
                assert f"`{parameter.opts[0]}`" in section, (words, parameter.opts)
    assert "| `--layers` |  | Also show the time of each layer. |" in page
    assert "| `--device` | `auto, cpu, cuda` |" in page
    assert "nas measure MODEL.onnx... [OPTIONS]" in page


def test_groups_come_with_the_commands_below_them() -> None:
    assert ("nas", "targets", "add") in [words for words, _ in commands()]
