"""Pick one point of a front, and say why this one and what its neighbours would give.

Rules: `knee` takes the knee of the members within the limits. Without it, limits from above (latency, size) ask for the
most accurate member within them, and a lower limit of accuracy alone asks for the fastest that reaches it. With nothing
asked, it is the knee.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nas.config import Bytes, Milliseconds
from nas.errors import ConfigError
from nas.pareto import knee as knee_of
from nas.results.front import is_feasible, maximize_flags, objective_values, pareto_front
from nas.results.record import Record


class Limits(BaseModel):
    """What a pick must keep; None means no limit.

    Attributes:
        max_latency: milliseconds on the target; text may carry a unit ("5ms").
        max_size: bytes of the file; text may carry a unit ("500kB").
        min_accuracy: on the selection split, 0..1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_latency: Milliseconds | None = None
    max_size: Bytes | None = None
    min_accuracy: float | None = Field(default=None, ge=0, le=1)

    def describe_violations(self, record: Record) -> list[str]:
        """The limits that a record breaks, in words; an unknown figure breaks its limit."""
        checks = (
            (self.max_latency, record.objective("latency"), 1, "{:.3g} ms is above the limit of {:.3g} ms"),
            (self.max_size, record.objective("size"), 1, "{:.0f} bytes are above the limit of {:.0f}"),
            (self.min_accuracy, record.objective("accuracy"), -1, "accuracy {:.1%} is below the limit of {:.1%}"),
        )
        nan = float("nan")
        return [
            words.format(nan if got is None else got, limit)
            for limit, got, sign, words in checks
            if limit is not None and (got is None or sign * got > sign * limit)
        ]


NO_LIMITS = Limits()


def make_limits(**fields: Any) -> Limits:
    """Checked limits, from numbers or from text with a unit.

    Raises:
        ConfigError: one line for the first that does not fit.
    """
    try:
        return Limits(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        message = str(first["msg"]).removeprefix("Value error, ")
        raise ConfigError(f"{'.'.join(map(str, first['loc']))}: {message}") from None


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The chosen member of the front.

    Attributes:
        record: the member.
        why: one sentence.
        faster: the next faster member of the front, None at its end.
        slower: the next slower one, None at its end.
    """

    record: Record
    reason: str
    faster: Record | None
    slower: Record | None

    def describe_trade_offs(self) -> list[str]:
        """One sentence for each neighbour: what going there would give and take."""
        sides = (("faster", self.faster), ("slower", self.slower))
        return [f"the next {word} one, {_describe_trade_off(self.record, other)}" for word, other in sides if other]


def pick(
    records: Sequence[Record], objectives: Sequence[str], *, limits: Limits = NO_LIMITS, knee: bool = False
) -> Selection:
    """Choose one member of the front of these records.

    Args:
        records: all records of a run.
        objectives: the run's.
        limits: what the choice must keep.
        knee: take the knee of what is within the limits, instead of the best in what is not limited.

    Raises:
        ConfigError: the front is empty, or none of its members is within the limits; the message names the nearest.
    """
    members = pareto_front(records, objectives)
    if not members:
        raise ConfigError("a pick needs a front, but this run has no complete candidate yet; let the search go on")
    within = [m for m in members if not limits.describe_violations(m)]
    if not within:
        nearest = min(members, key=lambda m: len(limits.describe_violations(m)))
        raise ConfigError(
            f"no member of the front keeps all limits; trial {nearest.trial} comes nearest: "
            f"{'; '.join(limits.describe_violations(nearest))}; loosen a limit or search on with it"
        )
    chosen, why = _select(within, objectives, limits, knee)
    why += f", of {len(members)} on the {'verified' if chosen.phase == 'verified' else 'search'} front"
    at = members.index(chosen)
    return Selection(
        record=chosen,
        reason=why,
        faster=members[at - 1] if at else None,
        slower=members[at + 1] if at + 1 < len(members) else None,
    )


def _select(within: list[Record], objectives: Sequence[str], limits: Limits, knee: bool) -> tuple[Record, str]:
    limited = limits != NO_LIMITS
    if knee or not limited:
        chosen = within[knee_of(objective_values(within, objectives), maximize_flags(objectives))]
        where = " within the limits" if limited else ""
        return chosen, f"the knee{where}: beyond it, more of one costs most of another"
    if limits.max_latency is None and limits.max_size is None:
        return min(within, key=lambda m: m.objective("latency") or 0.0), "the fastest that is accurate enough"
    return max(within, key=lambda m: m.objective("accuracy") or 0.0), "the most accurate within the limits"


def _describe_trade_off(here: Record, there: Record) -> str:
    score, other = here.score, there.score
    latency, its = here.latency, there.latency
    if not (score and other and latency and its):
        return f"trial {there.trial}, lacks a figure"
    overlap = " (the intervals overlap)" if other.high >= score.low and other.low <= score.high else ""
    return (
        f"trial {there.trial}, has {100 * (other.accuracy - score.accuracy):+.1f} points of accuracy{overlap} "
        f"at {its.latency_ms / latency.latency_ms:.2f} times the latency"
    )


def find_record(records: list[Record], which: int | str) -> Record:
    """The record of a trial's number or of a key's first digits: verified if there is one, with a file, the latest.

    `base` names the uncompressed net of a compression. Of a member that was trained with several seeds it is the first
    training, which is the one on the front, unless that has no file.

    Raises:
        ConfigError: none fits, or several keys do.
    """
    text = str(which).strip()
    hits = [r for r in records if text == r.phase == "base" or (text.isdigit() and r.trial == int(text))] or [
        r for r in records if len(text) >= 4 and r.key.startswith(text)
    ]
    if len({r.key for r in hits}) > 1:
        keys = ", ".join(sorted({r.key for r in hits}))
        raise ConfigError(f"{which} names several candidates ({keys}); give more digits of the key")
    if not hits:
        raise ConfigError(f"no trial and no key is {which!r}; `nas report` lists them")
    return max(reversed(hits), key=lambda r: (bool(r.model), not r.seed, is_feasible(r), r.phase == "verified"))
