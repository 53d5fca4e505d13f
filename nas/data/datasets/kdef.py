"""KDEF (Lundqvist, Flykt and Oehman, "The Karolinska Directed Emotional Faces", 1998): 70 persons, seven expressions,
five views, two sessions; 562x762 in colour.

File names are as `AF01ANS.JPG`: session, sex and number of the person, expression, view; also in a folder for each
session, `AF01/AF01ANS.JPG`. Pictures are cut to the square in their middle, which holds the face because eyes and mouth
are at fixed positions. There are no official splits; splits are by person, over both sessions.
"""

import re
from pathlib import Path
from typing import ClassVar, Literal

from nas.data.image_files import ImageFileOptions
from nas.data.images import SQUARE
from nas.data.named_pictures import NamedPictures

_SESSION = re.compile(r"[AB][FM]\d{2}", re.IGNORECASE)


class _Options(ImageFileOptions):
    views: Literal["straight", "half", "all"] = "straight"


class KdefDataset(NamedPictures):
    """Options: `views` (straight; half adds half profiles, all adds full ones), and those of `folder`."""

    name = "kdef"
    title = "KDEF"
    layout = "pictures named as AF01ANS.JPG"
    options = _Options
    pattern = re.compile(
        r"[AB](?P<subject>[FM]\d{2})(?P<label>AF|AN|DI|HA|NE|SA|SU)(?P<view>FL|HL|S|HR|FR)", re.IGNORECASE
    )
    labels: ClassVar = {
        "af": "fear", "an": "angry", "di": "disgust", "ha": "happy", "ne": "neutral", "sa": "sad", "su": "surprise",
    }  # fmt: skip
    box = SQUARE

    def is_part(self, folder: Path) -> bool:
        """See `NamedPictures.is_part`: sessions have folders."""
        return _SESSION.fullmatch(folder.name) is not None

    def is_wanted(self, match: re.Match[str], options: _Options) -> bool:
        """See `NamedPictures.is_wanted`."""
        views = {"straight": ("S",), "half": ("S", "HL", "HR"), "all": ("S", "HL", "HR", "FL", "FR")}
        return match["view"].upper() in views[options.views]

    def group(self, match: re.Match[str], options: _Options) -> str:
        """See `NamedPictures.group`: the person's sex."""
        return "female" if match["subject"][0].upper() == "F" else "male"


DATASET = KdefDataset()
