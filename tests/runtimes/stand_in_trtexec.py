# ruff: noqa: T201
"""Stand-in for trtexec on a simulated board: a program of its own, run by a real sshd, independent of the package.

RECONSTRUCTED, NOT RECORDED. Banner, log lines, JSON keys and the options that each version accepts follow the sources
of https://github.com/NVIDIA/TensorRT (samples/common/sampleOptions.cpp, sampleReporting.cpp at tags 8.2 to 11.1) and
logs that users published; none was recorded for this project, which had no board. No engine is built and nothing is
timed.

`$NAS_ROOT/board.json` configures it: {"version": "10.3", "do": {"candidate-1": "fail"}}. Each call is appended to
`$NAS_ROOT/calls.jsonl`.
"""

import json
import os
import signal
import sys
import time
import zlib
from pathlib import Path

BANNERS = {"8.2": "v8205", "8.5": "v8502", "8.6": "v8602", "10.3": "v100300", "11.4": "v110400"}
ALWAYS = (
    "help onnx saveEngine loadEngine exportTimes exportProfile exportOutput dumpProfile timingCacheFile avgTiming "
    "shapes minShapes optShapes maxShapes "
    "warmUp duration iterations avgRuns useCudaGraph useSpinWait noDataTransfers separateProfileRun percentile "
    "verbose sparsity useDLACore allowGPUFallback"
)
OPTIONS = {
    "8.2": f"{ALWAYS} fp16 int8 best workspace minTiming buildOnly explicitBatch streams",
    "8.5": f"{ALWAYS} fp16 int8 best workspace memPoolSize minTiming buildOnly explicitBatch streams heuristic",
    "8.6": f"{ALWAYS} fp16 int8 best fp8 workspace memPoolSize builderOptimizationLevel skipInference infStreams",
    "10.3": f"{ALWAYS} fp16 int8 best fp8 bf16 stronglyTyped memPoolSize builderOptimizationLevel skipInference "
    "infStreams",
    "11.4": f"{ALWAYS} stronglyTyped memPoolSize builderOptimizationLevel skipInference noCudaGraph noSpinWait "
    "includeDataTransfers",
}


def main() -> int:
    root = Path(os.environ["NAS_ROOT"])
    played = json.loads((root / "board.json").read_text())
    version = played["version"]
    with (root / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps(sys.argv[1:]) + "\n")
    build = " [b33]" if version.startswith("1") else ""
    banner = f"TensorRT.trtexec [TensorRT {BANNERS[version]}]{build}"
    command = " ".join(sys.argv)
    say = f"&&&& RUNNING {banner} # {command}"
    print(say, flush=True)
    given = dict(word.removeprefix("--").partition("=")[::2] for word in sys.argv[1:])
    if "help" in given:
        print("=== Model Options ===\n" + "\n".join(f"  --{option}" for option in OPTIONS[version].split()))
        return 0
    if unknown := sorted(set(given) - set(OPTIONS[version].split())):
        log("E", f"Unknown option: --{unknown[0]} {given[unknown[0]]}")
        return failed(banner, command)
    subject = (given.get("onnx") or given.get("loadEngine") or "").rpartition(".")[0]
    todo = played.get("do", {}).get(subject, "")
    if todo and todo.endswith(" once"):
        played["do"][subject] = ""
        (root / "board.json").write_text(json.dumps(played))
    todo = todo.removesuffix(" once")
    log("I", "=== Device Information ===")
    log("I", "Selected Device: Orin")
    log("I", "Compute Capability: 8.7")
    if "onnx" in given:
        if not Path(given["onnx"]).read_bytes():
            log("E", "[TRT] ModelImporter.cpp:771: Failed to parse ONNX model")
            return failed(banner, command)
        if todo == "fail":
            for i in range(30):
                log("I", f"[TRT] [MemUsageChange] step {i}")
            log("E", "Error[10]: Could not find any implementation for node {ForeignNode[stage1.Conv]}.")
            log("E", "Engine could not be created from network")
            return failed(banner, command)
        if todo == "full disk":
            log("E", "Saving engine to file failed. candidate.plan: No space left on device")
            return failed(banner, command)
        Path(given["saveEngine"]).write_bytes(b"stand-in " + Path(given["onnx"]).read_bytes())
        Path(given["timingCacheFile"]).write_bytes(b"timing cache")
    elif not Path(given["loadEngine"]).read_bytes().startswith(b"stand-in "):
        return failed(banner, command)
    if "onnx" in given and "useDLACore" in given:
        placement(todo)
    if todo == "hang":
        time.sleep(60)
    if todo == "drop":
        os.kill(session(), signal.SIGKILL)
        time.sleep(60)
    if todo == "steady":
        time.sleep(1.5)
    if todo == "garbage":
        sys.stdout.buffer.write(bytes(range(256)) * 20)
        Path(given["exportTimes"]).write_bytes(b"\x00\xff<html>not json")
        return 0
    if "skipInference" in given or "buildOnly" in given:
        print(f"&&&& PASSED {banner} # {command}")
        return 0
    if "exportProfile" in given:
        Path(given["exportProfile"]).write_text(layers(version))
        return 0
    base = played.get("ms", {}).get(subject) or played.get("ms", {}).get("*", 0.1)
    seed = zlib.crc32(subject.encode())
    runs = [base * (1 + ((seed + i * 7919) % 21 - 10) / 1000) for i in range(201)]
    if "exportTimes" in given:
        Path(given["exportTimes"]).write_text(times(version, runs))
    log("I", "=== Performance summary ===")
    log("I", f"Throughput: {1e3 / base:.6g} qps")
    summary(version, given, base)
    print(f"&&&& PASSED {banner} # {command}")
    return 0


def placement(todo: str) -> None:
    """As TensorRT 8.4 to 10 list where layers run; what a DLA cannot run is on the GPU."""
    if todo == "no dla":
        return
    if todo == "fall back":
        log("W", "[TRT] Layer 'head.softmax' (SOFTMAX): Unsupported on DLA. Switching this layer's device type to GPU.")
    log("I", "[TRT] ---------- Layers Running on DLA ----------")
    log("I", "[TRT] [DlaLayer] {ForeignNode[stem.conv...stage1.act]}")
    log("I", "[TRT] ---------- Layers Running on GPU ----------")
    if todo == "fall back":
        log("I", "[TRT] [GpuLayer] SHUFFLE: reshape_after_head.linear")
        log("I", "[TRT] [GpuLayer] SOFTMAX: head.softmax")


def summary(version: str, given: dict[str, str], base: float) -> None:
    """The medians; without a graph the GPU takes half as much again, and copies take 4 and 3 us."""
    has_graph = "noCudaGraph" not in given if version.startswith("11") else "useCudaGraph" in given
    has_copies = "includeDataTransfers" in given if version.startswith("11") else "noDataTransfers" not in given
    compute = base if has_graph else 1.5 * base
    h2d, d2h = (0.004, 0.003) if has_copies else (0.0, 0.0)
    values = {
        "Latency": h2d + compute + d2h, "Enqueue Time": 0.006 if has_graph else 1.4 * base, "H2D Latency": h2d,
        "GPU Compute Time": compute, "D2H Latency": d2h,
    }  # fmt: skip
    ends = "percentile(99%)" if version == "8.2" else "percentile(90%)"
    for name, ms in values.items():
        if version == "8.2" and name == "Enqueue Time":
            log("I", f"End-to-End Host Latency: min = 1 ms, max = 1 ms, mean = 1 ms, median = 1 ms, {ends} = 1 ms")
        log("I", f"{name}: min = {ms:g} ms, max = {ms:g} ms, mean = {ms:g} ms, median = {ms:g} ms, {ends} = 1 ms")


def log(level: str, line: str) -> None:
    print(f"[11/21/2025-10:00:00] [{level}] {line}", flush=True)


def failed(banner: str, command: str) -> int:
    print(f"&&&& FAILED {banner} # {command}")
    return 1


def times(version: str, runs: list[float]) -> str:
    """As exportJSONTrace writes it: six significant digits, so later stamps lie on a grid of 0.01 ms."""
    entries, at = [], 1200.0
    for run in runs:
        end = at + run
        stamps = {
            "startEnqMs": at, "endEnqMs": at, "startH2dMs": at, "endH2dMs": at, "startComputeMs": at,
            "endComputeMs": end, "startD2hMs": end, "endD2hMs": end, "h2dMs": 0.0, "computeMs": run, "d2hMs": 0.0,
            "latencyMs": run, **({"endToEndMs": 2 * run} if version == "8.2" else {}),
        }  # fmt: skip
        entries.append("{ " + ", ".join(f'"{name}" : {value:.6g}' for name, value in stamps.items()) + " }")
        at = end
    return "[\n  " + "\n, ".join(entries) + "\n]\n"


def layers(version: str) -> str:
    median = "" if version == "8.2" else ', "medianMs" : 0.02'
    names = ("stem.conv + stem.relu", "stage1.0.conv || stage1.1.conv", "head.fc")
    rows = [f'{{ "name" : "{n}", "timeMs" : 4.2, "averageMs" : 0.021{median}, "percentage" : 33.3 }}' for n in names]
    return '[\n  { "count" : 200 }\n, ' + "\n, ".join(rows) + "\n]\n"


def session() -> int:
    """The sshd process that serves this connection."""
    pid = os.getppid()
    while not Path(f"/proc/{pid}/comm").read_text().startswith("sshd"):
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid


if __name__ == "__main__":
    sys.exit(main())
