"""Class names of facial expressions: labels are matched by name, because every source has its own order of classes."""

import unicodedata
from collections.abc import Iterable

EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt")
"""Canonical names in canonical order: the seven of FER2013 in its own order, then contempt of FER+."""
FER2013_CLASSES = EXPRESSIONS[:7]
"""Classes of FER2013, in the order of its labels 0 to 6."""

_SYNONYMS = {
    "anger": "angry",
    "disgusted": "disgust",
    "afraid": "fear",
    "fearful": "fear",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "surprised": "surprise",
    "contemptuous": "contempt",
}


def canonical_class_name(name: str) -> str:
    """The canonical name of an expression ("happy" for "Happiness"); other names in lower case without outer spaces.

    Names are in Unicode's composed form (NFC): file systems and archives of macOS hold the decomposed form of the same
    name.
    """
    word = unicodedata.normalize("NFC", name.strip().lower())
    return _SYNONYMS.get(word, word)


def sort_class_names(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct class names in label order: expressions in canonical order, then other words, then numbers by value."""
    ranks = {name: rank for rank, name in enumerate(EXPRESSIONS)}

    def sort_key(name: str) -> tuple[int, int, str]:
        # Python refuses to convert numbers of more than 4,300 digits; eighteen digits are one in any case.
        number = int(name) if name.isdecimal() and len(name) <= 18 else -1
        return ranks.get(name, len(ranks)), number, name

    return tuple(sorted(set(names), key=sort_key))
