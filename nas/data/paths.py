"""Paths of data sets: which entries of folders count, and names in any encoding.

Python decodes file names by the locale, with a surrogate for each byte that does not fit. Class names are decoded as
UTF-8 here instead, whatever the locale.
"""

import os
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from nas.errors import DataError, printable
from nas.files import regular_file_fault

_SYSTEM_NAMES = frozenset(
    {
        "__macosx", "__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "@eadir",
        "system volume information", "lost+found",
    }
)  # fmt: skip
"""Lower-case names of files and folders that archivers and operating systems leave in every folder."""


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden (".ipynb_checkpoints", "._face.png") or left by an operating system."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def printable_path(path: Path | str) -> str:
    """A path as text of one line that JSON can hold: bytes that are no UTF-8 and control characters become escapes."""
    return printable_text(os.fsencode(path).decode("utf-8", "backslashreplace"))


def printable_text(text: str) -> str:
    """Text with escapes for control characters, which could end a line or change a terminal."""
    return printable(text)


def decode_name(path: Path) -> str:
    """The last part of a path as text.

    Raises:
        DataError: it is no UTF-8.
    """
    try:
        return os.fsencode(path.name).decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(
            f"{printable_path(path)}: the name of a class folder must be UTF-8 text, but is not; rename the folder"
        ) from None


def path_from_text(folder: Path, text: str) -> Path:
    """The path that a table's text names: as written, else in the Unicode form (NFC or NFD) of an existing file."""
    forms = (text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text))
    paths = [folder / os.fsdecode(form.encode("utf-8", "surrogateescape")) for form in forms]
    return next((path for path in paths if _exists(path)), paths[0])


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, or holds a zero byte
        return False


@dataclass
class FolderListing:
    """Lists folders, and counts what it leaves out.

    Attributes:
        suffixes: lower-case suffixes of the files to list.
        hidden: hidden files and folders that were left out, by name.
        others: other files that were left out, by suffix or kind.
    """

    suffixes: frozenset[str]
    hidden: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)

    def folders(self, folder: Path) -> list[Path]:
        """The folders in a folder, sorted."""
        return [entry for entry in self._visible(folder) if entry.is_dir()]

    def files(self, folder: Path) -> list[Path]:
        """The files in a folder that have one of the suffixes, sorted."""
        return [entry for entry in self._visible(folder, count=True) if not entry.is_dir() and self._is_wanted(entry)]

    def files_below(self, folder: Path) -> list[Path]:
        """The files in a folder and in its folders that have one of the suffixes, sorted by path.

        Links to folders are left out, because they may lead back.
        """
        files: list[Path] = []
        pending = [folder]
        while pending:  # folders may be nested deeper than Python's stack
            current = pending.pop()
            files += self.files(current)
            for sub in self.folders(current):
                if sub.is_symlink():
                    self.others["links to folders"] += 1
                else:
                    pending.append(sub)
        return sorted(files)

    def notes(self) -> tuple[str, ...]:
        """One sentence for each kind of entry that was left out."""
        counts = {"hidden and system entries": self.hidden, "entries that are no images": self.others}
        return tuple(f"{kind} were left out: {_format_counts(n)}" for kind, n in counts.items() if n)

    def _visible(self, folder: Path, *, count: bool = False) -> list[Path]:
        entries = sorted(folder.iterdir())
        if count:
            self.hidden.update(_hidden_kind(entry.name) for entry in entries if is_hidden(entry.name))
        return [entry for entry in entries if not is_hidden(entry.name)]

    def _is_wanted(self, path: Path) -> bool:
        suffix = path.suffix.lower()
        if suffix not in self.suffixes:
            self.others[printable_path(suffix) or "without suffix"] += 1
            return False
        # A broken link is listed, so that its name appears in an error.
        if (fault := regular_file_fault(path)) is not None and fault.startswith("must be"):
            self.others[fault.rpartition(" a ")[2] + "s"] += 1
            return False
        return True


def _hidden_kind(name: str) -> str:
    return "._*" if name.startswith("._") else printable_path(name)


def _format_counts(counter: Counter[str]) -> str:
    """Names with their counts, the most frequent first, at most eight."""
    shown = [f"{name} ({count})" for name, count in sorted(counter.items(), key=lambda pair: (-pair[1], pair[0]))[:8]]
    return ", ".join(shown) + (f" and {len(counter) - 8} more" if len(counter) > 8 else "")
