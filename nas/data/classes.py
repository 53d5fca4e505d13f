"""Names of expressions. Every source orders its classes differently, so labels are matched by name, never by index."""

from collections.abc import Iterable

EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt")
"""The canonical names in their canonical order: FER2013's own, then FER+'s eighth."""

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
    """The canonical name of an expression ("Happiness" is "happy"); any other name only loses case and outer spaces."""
    word = name.strip().lower()
    return _SYNONYMS.get(word, word)


def sort_class_names(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct class names in label order: expressions in canonical order, then others, numbers by value."""
    known = {name: index for index, name in enumerate(EXPRESSIONS)}

    def place(name: str) -> tuple[int, int, str]:
        return known.get(name, len(known)), int(name) if name.isdecimal() else -1, name

    return tuple(sorted(set(names), key=place))
