"""What a user may ask for with --bits, and what it becomes."""

import pytest

from nas.errors import ConfigError
from nas.post_training.bits import BitsPlan, BitsRequest, parse_bits, resolve_pins

LAYERS = {"stage1.blocks.0.conv": "blocks.0.conv", "stage2.blocks.1.conv": "blocks.1.conv"}


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        (None, BitsRequest()),
        ("auto", BitsRequest()),
        ("16", BitsRequest(base=16)),
        ("stem=32,head=32", BitsRequest(pins=(("stem", 32), ("head", 32)))),
        ("8, blocks.1.*=32", BitsRequest(base=8, pins=(("blocks.1.*", 32),))),
    ],
)
def test_requests(text: str | None, request_: BitsRequest) -> None:
    assert parse_bits(text) == request_


@pytest.mark.parametrize("text", ["", "4", "eight", "=8", "8,16", "stem=", "stem=7", "8,,stem=8"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--bits must be 8, 16 or 32, alone or as NAME=BITS, but got"):
        parse_bits(text)


def test_units_and_layers_are_pinned_by_name_and_the_last_pin_counts() -> None:
    request = parse_bits("stem=32,blocks.*=8,blocks.1.*=32")
    units, layers = resolve_pins(request, units=("stem", "stage1", "stage2", "head"), layers=LAYERS)
    assert units == {"stem": 32}
    assert layers == {"stage1.blocks.0.conv": 8, "stage2.blocks.1.conv": 32}


def test_a_name_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--bits must name layers of the model, but 'stage3' matches none of blocks"):
        resolve_pins(parse_bits("stage3=8"), units=("stem", "stage1"), layers=LAYERS)


def test_a_plan_is_described_by_bit_width() -> None:
    assert BitsPlan(units={"stem": 32, "stage1": 8}).describe() == "8 bits: stage1; 32 bits: stem"
    assert BitsPlan(units={"stem": 8, "stage1": 8}).describe() == "8 bits everywhere"
