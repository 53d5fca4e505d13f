"""Words for figures that are written out here."""

from dataclasses import replace

from nas.latency.speedup import Gain
from nas.results.formatting import bits_text, bits_words, gain_words, settings_words, widths_words
from tests.fake_runs import some_record

RECORD = some_record(0, 0.5, 4.0)


def test_bits_are_one_number_where_they_are_one() -> None:
    mixed = {"stem": 32, "stage1": 8, "head": 8}
    assert (bits_text({"stem": 8, "head": 8}), bits_words({"stem": 8, "head": 8})) == ("8", "8 bits")
    assert (bits_text(mixed), bits_words(mixed)) == ("stem:32 stage1:8 head:8", "8 bits, stem 32")


def test_widths_are_told_before_and_after_pruning_where_they_differ() -> None:
    assert widths_words(RECORD.candidate) == "16, 32 to 16"
    assert widths_words(replace(RECORD.candidate, pruned={})) == "16, 32"


def test_settings_are_told_by_name() -> None:
    settings = {"rank.stage2": 0.5, "zeros.stage3": 0.9}
    assert settings_words(replace(RECORD.candidate, settings=settings)) == "rank.stage2 0.5, zeros.stage3 0.9"
    assert settings_words(RECORD.candidate) == ""


def test_a_gain_is_told_with_its_interval_or_as_predicted_and_says_when_there_is_none() -> None:
    measured = Gain(speedup=1.42, low=1.38, high=1.46, twin_ms=1.42, own_ms=1.0, kind="measured")
    none = Gain(speedup=0.9, low=0.9, high=0.9, twin_ms=0.9, own_ms=1.0, kind="predicted")
    assert gain_words(RECORD) == ""
    assert gain_words(replace(RECORD, gain=measured)) == "8 bits 1.42 times as fast as in float [1.38, 1.46]"
    assert gain_words(replace(RECORD, gain=none)) == "8 bits 0.90 times as fast as in float, predicted: no gain"
