"""RaFD (Langner et al., "Presentation and validation of the Radboud Faces Database", Cognition and Emotion 2010): 67
persons, eight expressions, five angles of the camera, three directions of the gaze; 681x1024 in colour.

File names are as `Rafd090_01_Caucasian_female_angry_frontal.jpg`: angle, person, ethnicity, sex, expression, gaze; 090
is frontal. Pictures are cut to the square in their middle, which holds the face because they are aligned. There are no
official splits; splits are by person.
"""

import re
from typing import ClassVar, Literal

from nas.data.image_files import ImageFileOptions
from nas.data.images import SQUARE
from nas.data.named_pictures import NamedPictures


class _Options(ImageFileOptions):
    angles: Literal["frontal", "half", "all"] = "frontal"
    group: Literal["ethnicity", "sex"] = "ethnicity"


class RafdDataset(NamedPictures):
    """Options, besides those of `folder`.

    - `angles`: frontal; half adds 045 and 135, all adds full profiles.
    - `group`: ethnicity or sex.
    """

    name = "rafd"
    title = "RaFD"
    layout = "pictures named as Rafd090_01_Caucasian_female_angry_frontal.jpg"
    options = _Options
    pattern = re.compile(
        r"Rafd(?P<angle>000|045|090|135|180)_(?P<subject>\d{2})_(?P<ethnicity>[A-Za-z]+)_(?P<sex>female|male)_"
        r"(?P<label>[a-z]+)_(frontal|left|right)",
        re.IGNORECASE,
    )
    labels: ClassVar = {
        "angry": "angry", "contemptuous": "contempt", "disgusted": "disgust", "fearful": "fear", "happy": "happy",
        "neutral": "neutral", "sad": "sad", "surprised": "surprise",
    }  # fmt: skip
    box = SQUARE

    def is_wanted(self, match: re.Match[str], options: _Options) -> bool:
        """See `NamedPictures.is_wanted`."""
        angles = {"frontal": ("090",), "half": ("045", "090", "135"), "all": ("000", "045", "090", "135", "180")}
        return match["angle"] in angles[options.angles]

    def group(self, match: re.Match[str], options: _Options) -> str:
        """See `NamedPictures.group`."""
        return match[options.group]


DATASET = RafdDataset()
