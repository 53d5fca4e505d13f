"""Page of the devices: each target of the registry."""

from docs.generated.profile_page import profile_page
from nas.registry import load, names


def test_every_target_has_a_row() -> None:
    page = profile_page()
    for family in names("target"):
        for word, profile in load("target", family).items():
            row = next(line for line in page.splitlines() if line.startswith(f"| `{word}`"))
            assert profile.local or profile.title in row
    assert "| `jetson`, which is `jetson-orin-nano` |" in page
    assert "| `relative_error` | `float` |" in page
