"""Text of a record's fields for a line or a table cell: widths, bits, settings, INT8 speedup and label."""

from nas.candidate import Candidate
from nas.results.record import Record


def format_bits_compact(bits: dict[str, int]) -> str:
    """Weight bits as a table cell: "32", or "stem:32 stage1:8 head:32" where units differ."""
    if len(set(bits.values())) == 1:
        return str(next(iter(bits.values())))
    return " ".join(f"{unit}:{width}" for unit, width in bits.items())


def format_bits(bits: dict[str, int]) -> str:
    """Weight bits as a phrase: the most common width, then the units that differ from it."""
    most = max(bits.values(), key=list(bits.values()).count)
    return ", ".join([f"{most} bits", *(f"{unit} {width}" for unit, width in bits.items() if width != most)])


def format_widths(candidate: Candidate) -> str:
    """Channels of each stage, before and after pruning where they differ: "16, 32 to 16, 64"."""
    pairs = [(wide, candidate.pruned.get(stage, wide)) for stage, wide in candidate.widths.items()]
    return ", ".join(str(wide) if wide == slim else f"{wide} to {slim}" for wide, slim in pairs)


def format_settings(candidate: Candidate) -> str:
    """Further compression genes that are active: "rank.stage2 0.5, zeros.stage3 0.9"; empty without any."""
    return ", ".join(f"{name} {value}" for name, value in candidate.settings.items())


def format_int8_speedup(record: Record) -> str:
    """Speedup over the FP32 baseline: "INT8 1.42 times as fast as FP32 [1.38, 1.46]"; empty without INT8 units."""
    gain = record.gain
    if gain is None:
        return ""
    interval = f" [{gain.low:.2f}, {gain.high:.2f}]" if gain.kind == "measured" else ", predicted"
    return f"INT8 {gain.speedup:.2f} times as fast as FP32{interval}{'' if gain.is_faster else ': no gain'}"


def record_label(record: Record) -> str:
    """The name of a record in tables and for `--trial`: its trial number, or "base" for the uncompressed model."""
    return "base" if record.phase == "base" else str(record.trial)
