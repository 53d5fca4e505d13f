"""Outputs of trtexec and of boards, and hardware profiles, and the functions that read them."""

import json
import math
import os
import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import onnx

import nas
from benchmarks._fuzz_base import attempt, require, require_line
from benchmarks._fuzz_models import onnx_net
from benchmarks._fuzz_mutation import Files, mutate
from hw_profiles._base import HardwareProfile
from nas.latency.costs import Costs, compute_costs
from nas.latency.measured.reference_cache import load_best_ms, store_best_ms
from nas.latency.predicted.learned_roofline import fit_learned_roofline
from nas.latency.predicted.predict import calibration_path, load_calibration, predict_latency, save_calibration
from nas.runtimes.board.power import parse_power_mw, parse_rails
from nas.runtimes.board.state import parse_board, parse_states, throttling_reason
from nas.runtimes.tensorrt.trtexec import (
    first_error,
    log_tail,
    parse_layers,
    parse_throughput,
    parse_times,
    parse_version,
)
from nas.targets.catalog import load_target, load_targets


def device_outputs() -> Sequence[Files]:
    runs = [{"startComputeMs": i * 0.1, "computeMs": 0.05 + i * 1e-4, "h2dMs": 0.0} for i in range(20)]
    layers = [
        {"count": 20},
        *({"name": f"conv{i}", "timeMs": 1.0, "averageMs": 0.02, "medianMs": 0.02} for i in range(5)),
    ]
    log = (
        "&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # trtexec --onnx=a.onnx\n"
        "[11/28/2026-10:00:00] [I] Throughput: 1234.5 qps\n[11/28/2026-10:00:00] [E] [TRT] Error Code 4: parse failed\n"
    )
    board = (
        "model=NVIDIA Jetson Orin Nano\nrelease=# R36 (release), REVISION: 4.3, GCID: 1\nmode=15W\nmachine=aarch64\n"
        "min_hz=306000000\nmax_hz=624750000\nover_current=0\nfree_kb=1000000\nmemory_kb=4000000\n"
        "state 624750000 48000\n"
    )
    power = "rail VDD_IN /sys/bus/i2c/in1_input /sys/bus/i2c/curr1_input\npower 4500\npower 4600\n"
    old = {"log.txt": log.replace("v100300", "v8205").encode(), "layers.json": json.dumps(layers[1:]).encode()}
    whole = {
        "times.json": json.dumps(runs).encode(), "layers.json": json.dumps(layers, indent=1).encode(),
        "log.txt": log.encode(), "board.txt": board.encode(), "power.txt": power.encode(),
    }  # fmt: skip
    return [whole, whole | old]


def change_device_output(files: Files, rng: random.Random) -> Files:
    """A change of the content: what a board sends is text, never a file of this machine."""
    changed = mutate(files, rng)
    return {name: content if isinstance(content, bytes) else b"" for name, content in changed.items()}


def read_device_outputs(folder: Path, rng: random.Random) -> None:
    texts = {path.stem: path.read_bytes().decode(errors="replace") for path in folder.iterdir()}
    for parse in (parse_times, parse_layers):
        try:
            times = np.array([getattr(e, "ms", e) for e in parse(texts["times" if parse is parse_times else "layers"])])
            require(np.isfinite(times).all() and (times >= 0).all(), "a time that is not finite")
        except nas.NasError as error:
            require_line(error)
    board = parse_board(texts["board"])
    throttling_reason(board, parse_states(texts["board"]), board)
    board.versions()
    parse_rails(texts["power"])
    require(all(mw >= 0 for mw in parse_power_mw(texts["power"])), "a power below 0")
    throughput = parse_throughput(texts["log"])
    require(throughput is None or 0 < throughput < math.inf, "a throughput that is not finite")
    require(
        "\n" not in first_error(texts["log"]) and all(line.isprintable() for line in log_tail(texts["log"])),
        "a raw log",
    )
    parse_version(texts["log"])


@cache
def _calibration() -> bytes:
    models = [compute_costs(_scaled_net(width)) for width in range(1, 13)]
    profile = load_target("jetson")
    fitted = fit_learned_roofline(models, [0.05 + 1e-8 * c.macs + 0.01 * len(c.kernels) for c in models], profile)
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"nas-fuzz-{os.getpid()}"
    path = save_calibration(fitted, profile, {"when": "2026-01-01"}, folder=folder)
    content = path.read_bytes()
    path.unlink()
    folder.rmdir()
    return content


def _scaled_net(width: int) -> onnx.ModelProto:
    net = onnx_net(batch=1)
    for entry in (net.graph.input[0],):
        for dim in entry.type.tensor_type.shape.dim[2:]:
            dim.dim_value = 8 * width
    return net


@cache
def _costs() -> Costs:
    return compute_costs(_scaled_net(3))


@cache
def jetson() -> HardwareProfile:
    return load_target("jetson")


def profiles() -> Sequence[Files]:
    own = (
        b'[target.mynano]\nlike = "jetson-orin-nano"\nssh = "user@host:2222"\n'
        b'trtexec = "/usr/bin/trtexec"\nbuild_limit_s = 60\n'
        b'[target.slow]\nlike = "jetson-agx-orin"\npower_mode = "15W"\n'
    )
    reference = {"this machine": {"ms": 0.05, "when": "2026-11-01T00:00:00+00:00"}}
    return [{"nas.toml": own, "calibration.json": _calibration(), "reference.json": json.dumps(reference).encode()}]


def read_profiles(folder: Path, rng: random.Random) -> None:
    attempt(lambda: load_targets(folder / "nas.toml"))
    best = load_best_ms(folder / "reference.json", "this machine")
    require(best is None or 0 < best < math.inf, "a best time that is not finite")
    store_best_ms(folder / "reference.json", "this machine", 0.04)
    profile = jetson()
    path = folder / "calibration.json"
    if path.exists() or path.is_symlink():
        path.rename(calibration_path(profile, folder=folder))
    load_calibration(profile, folder=folder)
    latency = predict_latency(_costs(), profile, folder=folder)
    require(0 < latency.latency_ms < math.inf, "a latency that is not finite")
