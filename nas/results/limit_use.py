"""Use of the latency limit: whether the front comes near it, and what to try where it does not.

A limit that is far from every member does not bind: either no slower network was trained, or slower ones were and
gained nothing in the epochs that a search gives them.
"""

from collections.abc import Sequence

from nas.results.front import compute_fronts
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.results.train_command import train_command

UNUSED_FACTOR = 2.0
"""Factor between the limit and the slowest member of the front from which on the limit does not bind."""
WHOLE_EPOCHS = 60.0
"""Epochs of the training that is advised: networks of FER2013 gain until about 60, see `nas.training.recipe`."""


def describe_limit_use(folder: RunFolder, records: Sequence[Record]) -> list[str]:
    """One line where the front of a search of architectures leaves half of the latency limit unused; else empty.

    Args:
        folder: the run.
        records: of the run.
    """
    config = folder.config
    limit_ms = config.limits.max_latency
    members = compute_fronts(records, config.search.objectives).final
    slowest_ms = max((r.latency.latency_ms for r in members if r.latency), default=None)
    if limit_ms is None or config.search.model is not None or slowest_ms is None:
        return []
    if slowest_ms * UNUSED_FACTOR > limit_ms:
        return []
    slower = [
        (r.score.accuracy, r.latency.latency_ms, r)
        for r in records
        if r.score and r.latency and limit_ms / UNUSED_FACTOR < r.latency.latency_ms <= limit_ms
    ]
    line = (
        f"the limit of {limit_ms:.3g} ms does not bind: the slowest member of the front takes {slowest_ms:.3g} ms, and "
    )
    if not slower:
        line += (
            f"no network of more than {limit_ms / UNUSED_FACTOR:.3g} ms was trained; more time (--budget) allows "
            "larger ones, another --space may hold better ones"
        )
        return [line]
    best = max(slower, key=lambda each: each[0])[-1]
    longest_ms = max(ms for _, ms, _ in slower)
    line += (
        f"{len(slower)} slower network{'s' if len(slower) > 1 else ''} of up to {longest_ms:.3g} ms gained nothing in "
        f"{best.epochs:.3g} epochs; large networks need more: raise --epochs, or train the best of these whole: "
        f"{train_command(folder, best, epochs=WHOLE_EPOCHS)}"
    )
    return [line]
