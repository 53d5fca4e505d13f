"""All compressors of a search together."""

from nas import registry
from nas.compression.pipeline import CompressionPipeline
from nas.targets.catalog import load_target
from tests.random_nets import context_of

MEMBERS = [registry.load("compressor", name) for name in ("quantize", "few_bits")]


def test_the_fp32_baseline_drops_int8_settings_only() -> None:
    compression = CompressionPipeline(compressors=MEMBERS, profile=load_target("jetson"))
    widths = {"stage1": 16, "stage2": 16}
    settings = {"calibration": "entropy", "weight_bits.stage2": 2}
    bits = {"stem": 16, "stage1": 8, "stage2": 16, "head": 16}
    candidate = context_of(bits, widths=widths, pruned=widths, settings=settings).candidate
    baseline = compression.fp32_baseline(candidate)
    assert baseline is not None
    assert set(baseline.bits.values()) == {16}
    assert baseline.settings == {"weight_bits.stage2": 2}
    assert compression.fp32_baseline(baseline) is None
