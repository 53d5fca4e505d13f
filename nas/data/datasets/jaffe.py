"""JAFFE (Lyons, Akamatsu, Kamachi and Gyoba, "Coding facial expressions with Gabor wavelets", FG 1998): 213 grey
pictures of ten women.

File names are as `KA.AN1.39.tiff`: person, expression and take, serial number. The label is the posed expression;
raters see another one in some pictures. There are no official splits; splits are by person.
"""

import re
from typing import ClassVar

from nas.data.image_files import ImageFileOptions
from nas.data.named_pictures import NamedPictures


class JaffeDataset(NamedPictures):
    """Options: those of `folder`; `size` is 96 by default, of 256 pixels on file."""

    name = "jaffe"
    title = "JAFFE"
    layout = "pictures named as KA.AN1.39.tiff"
    pattern = re.compile(r"(?P<subject>[A-Z]{2})[.-](?P<label>AN|DI|FE|HA|NE|SA|SU)\d[.-]\d{1,3}", re.IGNORECASE)
    labels: ClassVar = {
        "an": "angry", "di": "disgust", "fe": "fear", "ha": "happy", "ne": "neutral", "sa": "sad", "su": "surprise",
    }  # fmt: skip

    def is_wanted(self, match: re.Match[str], options: ImageFileOptions) -> bool:
        """See `NamedPictures.is_wanted`: all are."""
        return True


DATASET = JaffeDataset()
