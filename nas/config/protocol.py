"""Protocol: how the faces of a data set are divided into training, selection and test, as a user writes it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MAX_FOLDS = 1000
"""More are a mistake: every member of the front is trained once for each."""
FORMS = "official, holdout, kfold:K, loso or folds:FILE"


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A parsed protocol.

    Attributes:
        kind: official keeps the splits of the source; holdout divides all faces anew; kfold, loso (leave one subject
            out) and folds (as a file says) train and test several times, so that each face is tested once.
        n_folds: of kfold.
        file: of folds.
    """

    kind: Literal["official", "holdout", "kfold", "loso", "folds"]
    n_folds: int | None = None
    file: Path | None = None

    @property
    def has_folds(self) -> bool:
        """Whether there is more than one division of the faces."""
        return self.kind in ("kfold", "loso", "folds")


OFFICIAL = Protocol(kind="official")


def parse_protocol(text: str) -> Protocol:
    """The protocol of "official", "holdout", "kfold:10", "loso" or "folds:FILE".

    Raises:
        ValueError: the text has another form.

    Examples:
        >>> parse_protocol("kfold:10").n_folds
        10
    """
    kind, _, argument = text.strip().partition(":")
    if not argument and kind in ("official", "holdout", "loso"):
        return Protocol(kind=kind)  # type: ignore[arg-type]  # one of the words
    if kind == "folds" and argument:
        return Protocol(kind="folds", file=Path(argument))
    if kind == "kfold" and re.fullmatch(r"\d{1,9}", argument) and 2 <= int(argument) <= MAX_FOLDS:
        return Protocol(kind="kfold", n_folds=int(argument))
    raise ValueError(f"protocol must be {FORMS} with 2 to {MAX_FOLDS} folds, but got {text!r}")
