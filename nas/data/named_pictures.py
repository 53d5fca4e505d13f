"""Named pictures: sets whose file names hold expression and person, as JAFFE, KDEF and RaFD. They have no splits."""

import re
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from nas.data.classes import sort_class_names
from nas.data.images import IMAGE_SUFFIXES, Box
from nas.data.labelled_files import Item, PublishedForm
from nas.data.paths import FolderListing, printable_path
from nas.data.published_set import PublishedDataset, Reading, first_entries
from nas.errors import DataError

TEST_SHARE = 0.2
"""Share of the faces whose persons are held out for the test."""


class NamedPictures(PublishedDataset):
    """Reader of a set whose file names say everything.

    Life: as `PublishedDataset`. Files in the folder and in those below it are read. Names that do not fit the pattern
    are left out, and a note says how many.

    Attributes:
        pattern: of a file's stem; it has the groups `subject` and `label`.
        labels: class by the lower-case text of the group `label`.
        box: part of each picture that is read.
    """

    pattern: re.Pattern[str]
    labels: ClassVar[Mapping[str, str]]
    box: Box | None = None

    def recognises(self, folder: Path) -> bool:
        """See `PublishedDataset.recognises`."""
        if self.is_part(folder):
            return False
        entries = first_entries(folder)
        files = [entry for entry in entries if self._match(entry)]
        parts = [entry for entry in entries if not files and self.is_part(entry)]
        return bool(files) or any(self._match(file) for part in parts[:3] for file in first_entries(part))

    def is_part(self, folder: Path) -> bool:
        """Whether a folder's name is one of a session or person within the set; none is by default."""
        return False

    def read(self, root: Path, options: Any) -> Reading:
        """See `PublishedDataset.read`."""
        listing = FolderListing(IMAGE_SUFFIXES)
        items, misnamed = [], []
        for path in listing.files_below(root):
            match = self._match(path)
            if match is None:
                misnamed.append(path)
            elif self.is_wanted(match, options):
                items.append(self._item(path, match, options))
        if not items:
            raise DataError(
                f"{printable_path(root)} must hold pictures of {self.title} that the options select, but has none; "
                "change the options"
            )
        notes = _left_out_note(misnamed)
        form = PublishedForm(
            classes=sort_class_names(self.labels.values()),
            test_share=TEST_SHARE,
            test_name=f"{TEST_SHARE:.0%} of the faces, by person",
        )
        return Reading(items=items, notes=(*notes, *listing.notes()), form=form)

    @abstractmethod
    def is_wanted(self, match: re.Match[str], options: Any) -> bool:
        """Whether the options select a picture by its name."""

    def group(self, match: re.Match[str], options: Any) -> str | None:
        """The group that a picture's name tells; None by default."""
        return None

    def _match(self, path: Path) -> re.Match[str] | None:
        match = self.pattern.fullmatch(path.stem)
        return match if match and match["label"].lower() in self.labels else None

    def _item(self, path: Path, match: re.Match[str], options: Any) -> Item:
        return Item(
            path=path,
            location=printable_path(path),
            label=self.labels[match["label"].lower()],
            subject=match["subject"].upper(),
            group=self.group(match, options),
            box=self.box,
        )


def _left_out_note(misnamed: list[Path]) -> tuple[str, ...]:
    if not misnamed:
        return ()
    return (f"pictures of other names were left out: {len(misnamed)}, as {printable_path(misnamed[0].name)}",)
