"""Content that a page would load from another host, which must not be: the site opens without a network."""

import re

_LOADS = re.compile(
    r"""<(?:script|img|iframe)\b[^>]*?\bsrc=["']?(?:https?:)?//[^>]*"""
    r"""|<link\b(?![^>]*\brel=["']?canonical)[^>]*?\bhref=["']?(?:https?:)?//[^>]*"""
)


def find_remote_content(html: str) -> str:
    """The first tag that loads from another host, without its end; empty where there is none. Links do not load.

    Examples:
        >>> find_remote_content('<p><img alt="" src="https://example.org/a.svg"></p>')
        '<img alt="" src="https://example.org/a.svg"'
        >>> find_remote_content('<a href="https://example.org">there</a>')
        ''
    """
    found = _LOADS.search(html)
    return found[0] if found else ""
