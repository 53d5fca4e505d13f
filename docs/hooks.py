"""Hooks of mkdocs: pages that are generated from the code, and a check that no page loads anything from elsewhere."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from generated.column_page import column_page
from generated.command_page import command_page
from generated.config_page import config_page
from generated.member_page import member_page
from generated.profile_page import profile_page
from generated.remote_content import find_remote_content
from generated.repository_page import repository_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

logger = logging.getLogger("mkdocs.hooks")
ROOT = Path(__file__).resolve().parents[1]
GENERATED: dict[str, Callable[[], str]] = {
    "reference/commands.md": command_page,
    "reference/config.md": config_page,
    "reference/columns.md": column_page,
    "reference/profiles.md": profile_page,
    "reference/members.md": member_page,
}
COPIED = {
    "runs/README.md": "reference/run-folder.md",
    "RESULTS.md": "project/results.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "examples/clusters/README.md": "project/clusters.md",
    "examples/fer2013-front/README.md": "project/fer2013-front.md",
}
"""Files of the repository, and their places on the site."""
HOME = {
    "README.md": "index.md",
    "README.md#more-than-one-machine": "tutorials/several-machines.md#more-than-one-machine",
    "README.md#from-a-photograph-to-labels": "tutorials/photographs.md",
}
"""Places on the site that say what README.md and its sections say."""


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the generated pages and those that are files of the repository."""
    for page, generate in GENERATED.items():
        files.append(File.generated(config, page, content=generate()))
    for source, page in COPIED.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        content = repository_page(text, source=source, page=page, pages=COPIED | HOME)
        files.append(File.generated(config, page, content=content))
    return files


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Warn, which ends a strict build, where a page loads a script, style or picture from another host."""
    if tag := find_remote_content(output):
        logger.warning("%s must open without a network, but loads from another host: %s; remove it", page.url, tag)
    return output
