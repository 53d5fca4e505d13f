"""Page of the configuration: every field, and a file that the tool reads."""

from pathlib import Path

from docs.generated.config_page import config_page
from nas.config import FIELD_GROUPS, read_config


def test_every_field_has_a_row_with_its_flag() -> None:
    rows = [line.split(" | ") for line in config_page().splitlines() if line.startswith("| `")]
    by_name = {row[0].split("`")[1]: row for row in rows}
    assert list(by_name) == list(FIELD_GROUPS)
    assert by_name["data_options"][0] == "| `data_options`<br>`--data-option`"
    assert by_name["rungs"][1:3] == ["several numbers", "`0.111,0.333,1`"]
    assert by_name["device"][1] == "`auto` or `cpu` or `cuda`"
    assert by_name["mean"][1] == "number or several numbers"
    assert by_name["budget"][-1].strip(" |") == "free"


def test_the_example_is_a_file_that_the_tool_reads(tmp_path: Path) -> None:
    text = config_page().partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "nas.toml").write_text(text)
    assert read_config(tmp_path / "nas.toml").fields_set == {
        "target", "space", "dataset", "data", "budget", "max_latency"
    }  # fmt: skip
