"""Page of the members: every word that an option takes, with the first sentence of the module behind it."""

import ast
import re
from importlib.util import find_spec
from pathlib import Path

from nas.registry import FAMILIES, names

from .markdown import code, table

INTRODUCTION = """\
# Words of the options

Generated from the families: a module in the folder is a member, and its file name is the word. How one file adds a
member is in [Contributing](../project/contributing.md#one-file-per-extension).
"""
TITLES = {
    "space": ("Search spaces", "`--space`"),
    "dataset": ("Data sets", "`--dataset`"),
    "model": ("Published networks", "`--model`"),
    "compressor": ("Compressors", "`--compressors`"),
    "importance": ("Criteria of channels", "`--importance`"),
    "method": ("Distillation methods", "`--distill`"),
    "sampler": ("Samplers", "`--sampler`"),
    "executor": ("Executors", "`--executor`"),
    "proxy": ("Zero-cost proxies", "`--proxies`"),
    "runtime": ("Runtimes", "named by a device's profile"),
}
"""Title and option of a family, in the order of the page; devices have a page of their own."""


ADDRESS = re.compile(r"(?:https?://|(?<![\w/.]))((?:arxiv|doi)\.org/[\w./-]*[\w/])")


def member_page() -> str:
    """The page; a family that `TITLES` does not know comes last under its own name."""
    parts = [INTRODUCTION.rstrip()]
    for family in [*TITLES, *sorted(set(FAMILIES) - {*TITLES, "target"})]:
        title, option = TITLES.get(family, (family.capitalize(), "a family"))
        rows = [[code(name), first_sentence(_source(FAMILIES[family][0], name))] for name in names(family)]
        parts += [f"## {title}", f"{option[:1].upper()}{option[1:]}.", table(["word", "member"], rows)]
    return "\n\n".join(parts) + "\n"


def first_sentence(source: str) -> str:
    """The first sentence of a module's docstring; addresses in it become links.

    Examples:
        >>> first_sentence('\"\"\"L1 norm (see arxiv.org/abs/1).\\n\\nMore.\"\"\"')
        'L1 norm (see <https://arxiv.org/abs/1>).'
    """
    paragraph = " ".join((ast.get_docstring(ast.parse(source)) or "").partition("\n\n")[0].split())
    sentence = re.split(r"(?<=\.)\s+(?=[A-Z])", paragraph)[0]
    return ADDRESS.sub(lambda found: f"<https://{found[1]}>", sentence)


def _source(package: str, name: str) -> str:
    """Read without importing it, as a member may need an optional package."""
    spec = find_spec(package)
    folder = Path((spec.submodule_search_locations if spec else None or [])[0])  # type: ignore[index]
    file = folder / f"{name}.py"
    return (file if file.exists() else folder / name / "__init__.py").read_text(encoding="utf-8")
