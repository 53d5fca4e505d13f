"""Selection of one member of the front, with the reason and the trade-offs against its neighbours.

- With `knee`, or without limits, it is the knee of the members within the limits.
- With a limit on latency, size or memory, it is the most accurate member within the limits.
- With a minimum accuracy alone, it is the fastest member that reaches it.
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
    """Limits of a selection; None means no limit.

    Attributes:
        max_latency: milliseconds on the target; text may carry a unit ("5ms").
        max_size: bytes of the file; text may carry a unit ("500kB").
        max_memory: bytes of weights and activations; text may carry a unit ("1MiB").
        min_accuracy: on the selection split, 0..1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_latency: Milliseconds | None = None
    max_size: Bytes | None = None
    max_memory: Bytes | None = None
    min_accuracy: float | None = Field(default=None, ge=0, le=1)

    def describe_violations(self, record: Record) -> list[str]:
        """The limits that a record violates, as text; an unknown figure violates its limit."""
        checks = (
            (self.max_latency, record.objective("latency"), 1, "{:.3g} ms is above the limit of {:.3g} ms"),
            (self.max_size, record.objective("size"), 1, "{:.0f} bytes are above the limit of {:.0f}"),
            (self.max_memory, record.objective("memory"), 1, "{:.0f} bytes of memory are above the limit of {:.0f}"),
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
    """Validated limits, from numbers or from text with a unit.

    Raises:
        ConfigError: a value is not a number with a known unit or out of range; one line for the first.
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
        reason: one phrase.
        faster: the next faster member of the front; None at its end.
        slower: the next slower one; None at its end.
    """

    record: Record
    reason: str
    faster: Record | None
    slower: Record | None

    def describe_trade_offs(self) -> list[str]:
        """One line for each neighbour: accuracy and latency against the selected member."""
        sides = (("faster", self.faster), ("slower", self.slower))
        return [f"the next {word} one, {_describe_trade_off(self.record, other)}" for word, other in sides if other]


def pick(
    records: Sequence[Record], objectives: Sequence[str], *, limits: Limits = NO_LIMITS, knee: bool = False
) -> Selection:
    """Select one member of the front of these records.

    Args:
        records: all records of a run.
        objectives: of the run.
        limits: what the member must satisfy.
        knee: take the knee of the members within the limits, instead of the best in the objective without a limit.

    Raises:
        ConfigError: the front is empty, or none of its members is within the limits; the message names the nearest.
    """
    members = pareto_front(records, objectives)
    if not members:
        raise ConfigError("a pick needs a front, but this run has no complete candidate yet; continue the search")
    within = [m for m in members if not limits.describe_violations(m)]
    if not within:
        nearest = min(members, key=lambda m: len(limits.describe_violations(m)))
        raise ConfigError(
            f"no member of the front satisfies all limits; trial {nearest.trial} comes nearest: "
            f"{'; '.join(limits.describe_violations(nearest))}; relax a limit, or continue the search with it"
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
    if limits.max_latency is None and limits.max_size is None and limits.max_memory is None:
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
    """The record of a candidate.

    Of several records of the same candidate, the first of these criteria that differs decides: it has a file; it is of
    seed 0, which is the one on the front; it is feasible; it is verified; it is the latest.

    Args:
        records: all records of a run.
        which: trial number, at least four first digits of a key, or `base` for the uncompressed model.

    Raises:
        ConfigError: no candidate matches, or several do.
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
