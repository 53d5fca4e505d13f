"""Files of the repository as pages: where their links go."""

import pytest

from docs.generated.repository_page import repository_page

PAGES = {
    "RESULTS.md": "project/results.md",
    "examples/clusters/README.md": "project/clusters.md",
    "README.md": "index.md",
}


@pytest.mark.parametrize(
    ("link", "shown"),
    [
        ("[results](RESULTS.md#int8)", "[results](results.md#int8)"),
        ("![front](docs/front.svg)", "![front](../front.svg)"),
        ("[clusters](examples/clusters/README.md)", "[clusters](clusters.md)"),
        ("[home](README.md)", "[home](../index.md)"),
        ("[licence](LICENSE)", "licence (`LICENSE`)"),
        ("[`LICENSE`](LICENSE)", "`LICENSE`"),
        ("[page](https://example.org/a)", "[page](https://example.org/a)"),
        ("[below](#here)", "[below](#here)"),
    ],
)
def test_a_link_goes_to_the_page_or_names_the_file(link: str, shown: str) -> None:
    assert repository_page(link, source="CHANGELOG.md", page="project/changelog.md", pages=PAGES) == shown


def test_links_of_a_file_below_start_at_its_folder() -> None:
    text, source = "[`slurm.sh`](slurm.sh) [r](../../RESULTS.md)", "examples/clusters/README.md"
    shown = repository_page(text, source=source, page="project/clusters.md", pages=PAGES)
    assert shown == "`examples/clusters/slurm.sh` [r](results.md)"


def test_a_section_that_has_a_place_of_its_own_is_linked_there() -> None:
    pages = PAGES | {"README.md#more": "tutorials/machines.md#many"}
    shown = repository_page("[m](README.md#more)", source="RESULTS.md", page="project/results.md", pages=pages)
    assert shown == "[m](../tutorials/machines.md#many)"
