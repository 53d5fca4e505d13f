"""Comparison of a published baseline with the members of a front, in one sentence."""

from collections.abc import Sequence
from dataclasses import dataclass

from nas.latency.latency import Latency
from nas.metrics import Score
from nas.results.published_baseline import PublishedBaseline
from nas.results.record import Record


@dataclass(frozen=True, kw_only=True)
class _Member:
    """A member of the front with both figures."""

    record: Record
    score: Score
    latency: Latency

    @property
    def name(self) -> str:
        return "the model of this run" if self.record.phase == "base" else f"trial {self.record.trial}"


def describe_comparison(baseline: PublishedBaseline, members: Sequence[Record]) -> str:
    """Whether a member is more accurate and faster than a baseline: which one, and by how much.

    Of several such members the most accurate is named; at equal accuracy the faster one. Figures are compared as they
    are; where the 95 % intervals overlap, the sentence says so. Latencies of different kinds, devices or numbers of
    threads are not compared.

    Args:
        baseline: the baseline.
        members: of the front.

    Returns:
        One sentence without a full stop.
    """
    known = [_Member(record=r, score=r.score, latency=r.latency) for r in members if r.score and r.latency]
    if not known:
        return f"{baseline.name} is not compared, because no member has both accuracy and latency yet"
    comparable = [member for member in known if _origin(member.latency) == _origin(baseline.latency)]
    if not comparable:
        return (
            f"{baseline.name} is not compared, because its latency is {_describe_origin(baseline.latency)}, but those "
            f"of the members are {_describe_origin(known[0].latency)}"
        )
    better = [member for member in comparable if _beats(member, baseline)]
    if not better:
        is_single = all(member.record.phase == "base" for member in comparable)
        nobody = "The model of this run does not beat" if is_single else "No member of the front beats"
        return (
            f"{nobody} {baseline.name} ({baseline.score.accuracy:.1%}, {baseline.latency.latency_ms:.3g} ms "
            f"{baseline.latency.kind}) in both accuracy and latency"
        )
    best = max(better, key=lambda member: (member.score.accuracy, -member.latency.latency_ms))
    others = f"; {len(better)} of {len(comparable)} members beat it" if len(better) > 1 else ""
    return (
        f"{best.name[0].upper()}{best.name[1:]} beats {baseline.name} in both accuracy and latency: "
        f"{_describe_margin(best, baseline)}{others}"
    )


def _origin(latency: Latency) -> tuple[str, str, int]:
    return latency.kind, latency.device, latency.threads


def _describe_origin(latency: Latency) -> str:
    return f"{latency.kind} {'for' if latency.kind == 'predicted' else 'on'} {latency.device}"


def _beats(member: _Member, baseline: PublishedBaseline) -> bool:
    is_more_accurate = member.score.accuracy > baseline.score.accuracy
    return is_more_accurate and member.latency.latency_ms < baseline.latency.latency_ms


def _describe_margin(member: _Member, baseline: PublishedBaseline) -> str:
    """Both margins with their figures, and which intervals overlap."""
    own_ms, other_ms = member.latency.latency_ms, baseline.latency.latency_ms
    text = (
        f"{100 * (member.score.accuracy - baseline.score.accuracy):+.1f} percentage points "
        f"({member.score.accuracy:.1%} against {baseline.score.accuracy:.1%}), and {other_ms / own_ms:.2f} times as "
        f"fast ({own_ms:.3g} against {other_ms:.3g} ms, {member.latency.kind})"
    )
    overlaps = (
        ("accuracy", member.score.low <= baseline.score.high),
        ("latency", member.latency.high_ms >= baseline.latency.low_ms),
    )
    uncertain = " and ".join(name for name, overlap in overlaps if overlap)
    return f"{text}; the 95 % intervals of {uncertain} overlap" if uncertain else text
