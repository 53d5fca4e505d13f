"""Pages that are files of the repository, with their links turned to where those files are on the site."""

import posixpath
import re
from collections.abc import Mapping

LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]*)(#[^)\s]*)?(\))")


def repository_page(text: str, *, source: str, page: str, pages: Mapping[str, str]) -> str:
    """The text of a file as a page.

    - A link to a file that is a page goes to that page, one to a file below docs/ to that file.
    - A link to any other file of the repository becomes its path as code: the site does not hold it.

    Args:
        text: the Markdown of the file.
        source: its path in the repository.
        page: path of the page on the site.
        pages: path in the repository to path on the site, of all such files; with an anchor, of one section.
    """

    def replace(match: re.Match[str]) -> str:
        opening, target, anchor, closing = match.groups(default="")
        if not target or "://" in target:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        place = pages.get(path + anchor) or _place_of(path, pages) + anchor
        if place == anchor:
            return _path_as_code(opening, path)
        return f"{opening}{posixpath.relpath(place, posixpath.dirname(page) or '.')}{closing}"

    return LINK.sub(replace, text)


def _place_of(path: str, pages: Mapping[str, str]) -> str:
    """Where a file of the repository is on the site; empty where it is not."""
    return pages.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else "")


def _path_as_code(opening: str, path: str) -> str:
    """A link's words, and the path in brackets where they do not name it already."""
    words = opening[1:-2].lstrip("[")
    return f"`{path}`" if words.strip("`").rstrip("/") in path else f"{words} (`{path}`)"
