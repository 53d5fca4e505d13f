"""Class names: synonyms and order."""

import unicodedata

import pytest

from nas.data.classes import EXPRESSIONS, canonical_class_name, sort_class_names


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Happiness", "happy"),
        (" ANGER ", "angry"),
        ("surprised", "surprise"),
        ("neutral", "neutral"),
        ("Bored", "bored"),
    ],
)
def test_synonyms_become_one_name_and_other_names_stay(written: str, name: str) -> None:
    assert canonical_class_name(written) == name


def test_canonical_names_are_unchanged() -> None:
    assert tuple(map(canonical_class_name, EXPRESSIONS)) == EXPRESSIONS


def test_order_is_expressions_then_words_then_numbers() -> None:
    assert sort_class_names(["sad", "10", "bored", "2", "angry", "sad"]) == ("angry", "sad", "bored", "2", "10")


def test_both_unicode_forms_of_a_name_are_one() -> None:
    forms = {unicodedata.normalize(form, " Colère ") for form in ("NFC", "NFD")}
    assert len(forms) == 2
    assert {canonical_class_name(form) for form in forms} == {"colère"}  # the composed form


def test_numbers_of_thousands_of_digits_are_words() -> None:
    assert sort_class_names(["9" * 5000, "10", "2"]) == ("9" * 5000, "2", "10")
