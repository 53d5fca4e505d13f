"""Records as JSON lines: what earlier versions wrote reads, and is written again, as it was."""

import json
from dataclasses import replace

from nas.results.record import Record
from tests.fake_runs import some_latency, some_record


def test_a_record_without_the_later_figures_is_written_as_it_was_read() -> None:
    record = some_record(1, 0.5, 1.0)
    line = json.loads(record.to_json())
    for name in ("latency", "host"):
        assert not {"batch", "resident_bytes", "dla_fallback"} & line[name].keys()
        assert {"energy_mj", "layers", "slowdown"} <= line[name].keys()
    old = {key: value for key, value in line.items() if key not in ("memory_bytes", "activation_bytes")}
    read = Record.from_json(json.dumps(old))
    assert read == record
    assert (read.memory_bytes, read.activation_bytes, read.objective("memory")) == (None, None, None)


def test_the_later_figures_survive_json() -> None:
    host = replace(some_latency(1.0, kind="measured"), resident_bytes=98_000_000, batch=8, dla_fallback=2)
    record = some_record(1, 0.5, 1.0, host=host, memory_bytes=343_072, activation_bytes=119_808)
    assert Record.from_json(record.to_json()) == record
    assert record.objective("memory") == 343_072.0
