"""The page of one target, read back as text."""

import io

from rich.console import Console
from rich.table import Table

from hw_profiles.cpu import PROFILES as CPUS
from hw_profiles.jetson import PROFILES
from nas.cli.render.target_tables import UNPUBLISHED, facts_table, modes_table


def shown(table: Table) -> str:
    console = Console(width=400, file=io.StringIO())
    console.print(table)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_each_fact_stands_with_its_source() -> None:
    profile = PROFILES["jetson-nano"]
    lines = shown(facts_table(profile)).splitlines()
    for name, value in profile.facts.items():
        row = next(line for line in lines if line.startswith(name))
        assert str(value) in row
        assert profile.sources.get(name, profile.sources["*"])[:40] in row
    assert any(line.startswith("latency") and "12.2 us a kernel" in line for line in lines)


def test_a_device_without_a_latency_model_has_a_page_too() -> None:
    assert "latency" not in shown(facts_table(CPUS["cpu"]))


def test_modes_show_clocks_and_which_is_the_profiles_own() -> None:
    text = shown(modes_table(PROFILES["jetson-agx-orin"]))
    assert "MAXN (this profile)" in text
    (row,) = (line for line in text.splitlines() if line.startswith("MODE_15W"))
    assert row.split() == ["MODE_15W", "408", "6", "2133"]


def test_a_mode_without_published_clocks_says_so() -> None:
    (row,) = (line for line in shown(modes_table(PROFILES["jetson-thor"])).splitlines() if line.startswith("120W"))
    assert row.split() == ["120W", *UNPUBLISHED.split()]
