"""All members of a search together."""

from nas import registry
from nas.compression.pipeline import CompressionPipeline
from nas.targets.catalog import load_target
from tests.random_nets import context_of

MEMBERS = [registry.load("compressor", name) for name in ("quantize", "few_bits")]


def test_a_float_twin_keeps_no_setting_of_its_8_bit_units_and_all_others() -> None:
    compression = CompressionPipeline(compressors=MEMBERS, profile=load_target("jetson"))
    widths = {"stage1": 16, "stage2": 16}
    settings = {"calibration": "entropy", "weight_bits.stage2": 2}
    bits = {"stem": 16, "stage1": 8, "stage2": 16, "head": 16}
    candidate = context_of(bits, widths=widths, pruned=widths, settings=settings).candidate
    twin = compression.fp32_baseline(candidate)
    assert twin is not None
    assert set(twin.bits.values()) == {16}
    assert twin.settings == {"weight_bits.stage2": 2}
    assert compression.fp32_baseline(twin) is None
