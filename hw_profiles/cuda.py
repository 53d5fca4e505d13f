"""Desktop NVIDIA GPUs with TensorRT, a common card of each generation that TensorRT 10 and 11 support; and ONNX Runtime
on whatever NVIDIA GPU this machine has.

Networks as small as those for faces do not fill such a card: on every card their latency is about the number of kernels
times the floor of one. The floor is a launch without a CUDA graph, reported as 6.4 us on an RTX 5070 Ti, where a node
of a CUDA graph takes 0.6 us.

Nothing was fitted to the one published table at hand. Its NAS-Bench-201 cells on a GTX 1080 Ti (HELP, arXiv 2106.08630)
ran in eager PyTorch and took 14 times the prediction of these constants, most of it on the host
(`benchmarks/device_tables.py --reading all`: rank correlation 0.70).
"""

from dataclasses import dataclass, replace

from hw_profiles._base import HardwareProfile, LatencyModel

_ESTIMATED = (
    "kernel launch of 6.4 us reported for an RTX 5070 Ti laptop without a CUDA graph, rates from data sheets; not "
    "fitted and not checked on a card"
)


@dataclass(frozen=True, kw_only=True)
class _Card:
    """One card; `tops` are dense tensor-core rates in 1e12 operations per second by bit-width (32 is TF32)."""

    name: str
    title: str
    architecture: str
    compute_capability: str
    multiprocessors: int
    gpu_mhz: float
    tops: dict[int, float]
    memory_gb: float
    bandwidth_gb_s: float


_CARDS = (
    _Card(
        name="cuda-ampere", title="GeForce RTX 3060", architecture="Ampere", compute_capability="8.6",
        multiprocessors=28, gpu_mhz=1777, tops={8: 102.0, 16: 51.0, 32: 25.4}, memory_gb=12, bandwidth_gb_s=360,
    ),
    _Card(
        name="cuda", title="GeForce RTX 4070", architecture="Ada", compute_capability="8.9",
        multiprocessors=46, gpu_mhz=2475, tops={8: 233.0, 16: 116.6, 32: 58.3}, memory_gb=12, bandwidth_gb_s=504,
    ),
    _Card(
        name="cuda-blackwell", title="GeForce RTX 5070", architecture="Blackwell", compute_capability="12.0",
        multiprocessors=48, gpu_mhz=2512, tops={8: 247.0, 16: 123.5, 32: 61.7}, memory_gb=12, bandwidth_gb_s=672,
    ),
)  # fmt: skip


def _profile(card: _Card) -> HardwareProfile:
    return HardwareProfile(
        name=card.name,
        title=f"{card.title} (desktop, {card.architecture})",
        runtime="tensorrt",
        precisions=tuple(sorted(card.tops)),
        channel_multiple=8,
        activation_signed=True,
        peak_gops={bits: tera * 1e3 for bits, tera in card.tops.items()},
        bandwidth_gb_s=card.bandwidth_gb_s,
        memory_gb=card.memory_gb,
        latency=LatencyModel(
            fixed_us=15,
            floor_us=6.4,
            efficiency={
                "conv": 0.5,
                "pointwise": 0.3,
                "depthwise": 0.01,
                "grouped": 0.1,
                "linear": 0.3,
                "memory": 0.6,
            },
            relative_error=0.95,
            source=_ESTIMATED,
        ),
        facts={
            "architecture": card.architecture,
            "compute_capability": card.compute_capability,
            "multiprocessors": card.multiprocessors,
            "gpu_mhz": card.gpu_mhz,
            "tensorrt": "10 and 11",
        },
        sources={
            "*": f"NVIDIA, specifications of the {card.title}, boost clock",
            "precisions": "TensorRT support matrix: INT8 from compute capability 6.1 on, but not on 6.2",
            "channel_multiple": "NVIDIA deep learning performance guide: FP16 tensor cores want multiples of 8",
            "activation_signed": "TensorRT developer guide, explicit quantisation: INT8 is symmetric, zero point 0",
            "peak_gops": f"NVIDIA {card.architecture} white paper: dense tensor-core rates with FP32 accumulation "
            "(INT8: INT32)",
            "compute_capability": "NVIDIA, CUDA GPU compute capability table",
            "tensorrt": "TensorRT support matrix",
        },
    )


_ASSUMED = "those of a {}, assumed and not used: this machine's own GPU is always measured"


def _local_profile(name: str, title: str, runtime: str, precisions: tuple[int, ...], reason: str) -> HardwareProfile:
    """ONNX Runtime on this machine's GPU by one provider, always measured.

    Args:
        name: its word after `--target`.
        title: readable name.
        runtime: word of the runtime.
        precisions: bit-widths that the provider gains from.
        reason: source of the precisions.
    """
    like = PROFILES["cuda"]
    assumed = _ASSUMED.format(like.title.partition(" (")[0])
    return replace(
        like,
        name=name,
        title=title,
        runtime=runtime,
        precisions=precisions,
        peak_gops={bits: like.peak_gops[bits] for bits in precisions},
        local=True,
        latency=None,
        facts={},
        sources={
            **{key: like.sources[key] for key in ("channel_multiple", "activation_signed")},
            "precisions": reason,
            **dict.fromkeys(("peak_gops", "bandwidth_gb_s", "memory_gb"), assumed),
        },
    )


PROFILES: dict[str, HardwareProfile] = {card.name: _profile(card) for card in _CARDS}
PROFILES |= {
    profile.name: profile
    for profile in (
        _local_profile(
            "cuda-onnxruntime", "this machine's NVIDIA GPU, ONNX Runtime with CUDA", "onnxruntime_cuda", (16, 32),
            "ONNX Runtime, CUDA execution provider: FP16 convolutions on tensor cores, but Q/DQ nodes run one by one, "
            "so INT8 gains nothing",
        ),
        _local_profile(
            "cuda-onnxruntime-tensorrt", "this machine's NVIDIA GPU, ONNX Runtime with TensorRT",
            "onnxruntime_tensorrt", (8, 16, 32), "ONNX Runtime, TensorRT execution provider: FP16, and INT8 by Q/DQ",
        ),
    )
}  # fmt: skip
