"""Formatting of a record's fields, compared with text written out by hand."""

from dataclasses import replace

from nas.latency.int8_speedup import Int8Speedup
from nas.results.formatting import format_bits, format_bits_compact, format_int8_speedup, format_settings, format_widths
from tests.fake_runs import some_record

RECORD = some_record(0, 0.5, 4.0)


def test_equal_bits_are_one_number() -> None:
    mixed = {"stem": 32, "stage1": 8, "head": 8}
    assert (format_bits_compact({"stem": 8, "head": 8}), format_bits({"stem": 8, "head": 8})) == ("8", "8 bits")
    assert (format_bits_compact(mixed), format_bits(mixed)) == ("stem:32 stage1:8 head:8", "8 bits, stem 32")


def test_widths_before_and_after_pruning_where_they_differ() -> None:
    assert format_widths(RECORD.candidate) == "16, 32 to 16"
    assert format_widths(replace(RECORD.candidate, pruned={})) == "16, 32"


def test_settings_by_name() -> None:
    settings = {"rank.stage2": 0.5, "zeros.stage3": 0.9}
    assert format_settings(replace(RECORD.candidate, settings=settings)) == "rank.stage2 0.5, zeros.stage3 0.9"
    assert format_settings(RECORD.candidate) == ""


def test_an_int8_speedup_has_its_interval_or_is_called_predicted() -> None:
    measured = Int8Speedup(speedup=1.42, low=1.38, high=1.46, twin_ms=1.42, own_ms=1.0, kind="measured")
    none = Int8Speedup(speedup=0.9, low=0.9, high=0.9, twin_ms=0.9, own_ms=1.0, kind="predicted")
    assert format_int8_speedup(RECORD) == ""
    assert format_int8_speedup(replace(RECORD, gain=measured)) == "INT8 1.42 times as fast as FP32 [1.38, 1.46]"
    assert format_int8_speedup(replace(RECORD, gain=none)) == "INT8 0.90 times as fast as FP32, predicted: no gain"
