"""Content from another host."""

import pytest

from docs.generated.remote_content import find_remote_content


@pytest.mark.parametrize(
    "tag",
    [
        '<script src="https://example.org/a.js"',
        "<script async src=//example.org/a.js",
        '<link rel="stylesheet" href="https://example.org/a.css"',
        "<img src='http://example.org/a.png'",
        '<iframe width="1" src="https://example.org"',
    ],
)
def test_what_loads_is_found(tag: str) -> None:
    assert find_remote_content(f"<p>a</p>{tag}>b") == tag


@pytest.mark.parametrize(
    "html",
    [
        '<a href="https://example.org">a</a>',
        '<link rel="canonical" href="https://example.org/a.html">',
        '<img src="../front.svg">',
        '<script>var a = "https://example.org"</script>',
    ],
)
def test_what_does_not_load_is_not(html: str) -> None:
    assert find_remote_content(html) == ""
