"""NVIDIA Jetson modules, run by TensorRT. `jetson` is the Orin Nano 8 GB, the commonest module.

A row holds what differs: streaming multiprocessors, clock in the power mode named, memory, and the latency constants.
Peak rates follow from the architecture (operations per multiprocessor and clock: NVIDIA's white papers on Maxwell,
Volta and Ampere) times multiprocessors and clock: dense rates of the GPU alone, without DLA and 2:4 sparsity.

The latency constants were fitted to published TensorRT FP16 latencies at batch 1 of ResNet18, ResNet50 and
MobileNetV3-large on six boards, where they err by 7 % at most. 26 rows of another publisher were not used (torch2trt's
tables of Nano and AGX Xavier): half of them are within 25 % of the prediction, 25 within 70 %, which is the interval.
`benchmarks/jetson_profiles.py` prints the errors. All of those nets have 224x224 inputs. What a 48x48 net takes is
mostly floor times kernels, and the floor is the least certain constant, above all on Nano and TX2, where the three nets
leave it open and it is assumed. It is a floor without a CUDA graph; with one, a kernel this small may take a quarter of
it. So trust the order of two nets more than the milliseconds.
"""

from dataclasses import dataclass

from hw_profiles._base import HardwareProfile, LatencyModel

_FITTED = (
    "roofline fitted to TensorRT FP16 batch-1 latencies of ResNet18, ResNet50 and MobileNetV3-large, published by Nota "
    "AI (NetsPresso trainer, device matrix); 25 of 26 rows of another publisher are "
    "inside the interval; not checked on nets as small as faces need"
)
_SCALED = (
    "roofline scaled by clock from the {} profile, which was fitted to published latencies; no figure for this board"
)

_FITTED_ERROR, _SCALED_ERROR = 0.7, 0.85

_SHEET = "NVIDIA data sheet of the {}, in the power mode named"


@dataclass(frozen=True, kw_only=True)
class _Architecture:
    """A GPU generation: operations per multiprocessor and clock by bit-width, and what goes with it."""

    title: str
    operations: dict[int, int]
    tensorrt: str

    @property
    def precisions(self) -> tuple[int, ...]:
        return tuple(sorted(self.operations))


_MAXWELL = _Architecture(title="Maxwell", operations={16: 512, 32: 256}, tensorrt="8.2")
_PASCAL = _Architecture(title="Pascal", operations={16: 512, 32: 256}, tensorrt="8.2")
_VOLTA = _Architecture(title="Volta", operations={8: 2048, 16: 1024, 32: 128}, tensorrt="8.5")
_AMPERE = _Architecture(title="Ampere", operations={8: 4096, 16: 2048, 32: 1024}, tensorrt="10.3")


@dataclass(frozen=True, kw_only=True)
class _Board:
    """One row: a module in one power mode. `efficiency` is of conv, pointwise and depthwise; `like` names the fit."""

    name: str
    title: str
    gpu: _Architecture
    capability: str
    sms: int
    mhz: float
    mode: str
    gb: float
    gb_s: float
    floor_us: float
    fixed_us: float
    efficiency: tuple[float, float, float]
    like: str = ""


_NANO_EFFICIENCY = (0.81, 0.51, 0.010)
_TX2_EFFICIENCY = (0.76, 0.49, 0.009)
_XAVIER_NX_EFFICIENCY = (0.46, 0.35, 0.009)
_AGX_XAVIER_EFFICIENCY = (0.38, 0.24, 0.009)
_ORIN_NANO_EFFICIENCY = (0.24, 0.18, 0.007)
_AGX_ORIN_EFFICIENCY = (0.29, 0.24, 0.009)

_BOARDS = (
    _Board(
        name="jetson-nano", title="Jetson Nano 4 GB", gpu=_MAXWELL, capability="5.3", sms=1, mhz=921.6, mode="10W",
        gb=4, gb_s=25.6, floor_us=25, fixed_us=50, efficiency=_NANO_EFFICIENCY,
    ),
    _Board(
        name="jetson-tx2", title="Jetson TX2", gpu=_PASCAL, capability="6.2", sms=2, mhz=1300, mode="MAXN",
        gb=8, gb_s=59.7, floor_us=18, fixed_us=50, efficiency=_TX2_EFFICIENCY,
    ),
    _Board(
        name="jetson-xavier-nx", title="Jetson Xavier NX", gpu=_VOLTA, capability="7.2", sms=6, mhz=1100, mode="20W",
        gb=8, gb_s=59.7, floor_us=10.5, fixed_us=20, efficiency=_XAVIER_NX_EFFICIENCY,
    ),
    _Board(
        name="jetson-agx-xavier", title="Jetson AGX Xavier", gpu=_VOLTA, capability="7.2", sms=8, mhz=1377, mode="MAXN",
        gb=32, gb_s=136.5, floor_us=11.7, fixed_us=20, efficiency=_AGX_XAVIER_EFFICIENCY,
    ),
    _Board(
        name="jetson-orin-nano-4gb", title="Jetson Orin Nano 4 GB", gpu=_AMPERE, capability="8.7", sms=4, mhz=625,
        mode="10W", gb=4, gb_s=34, floor_us=19.5, fixed_us=20, efficiency=_ORIN_NANO_EFFICIENCY, like="Orin Nano 8 GB",
    ),
    _Board(
        name="jetson-orin-nano", title="Jetson Orin Nano 8 GB", gpu=_AMPERE, capability="8.7", sms=8, mhz=625,
        mode="15W", gb=8, gb_s=68, floor_us=19.5, fixed_us=20, efficiency=_ORIN_NANO_EFFICIENCY,
    ),
    _Board(
        name="jetson-orin-nx-8gb", title="Jetson Orin NX 8 GB", gpu=_AMPERE, capability="8.7", sms=8, mhz=765,
        mode="MAXN", gb=8, gb_s=102.4, floor_us=15.9, fixed_us=20, efficiency=_ORIN_NANO_EFFICIENCY,
        like="Orin Nano 8 GB",
    ),
    _Board(
        name="jetson-orin-nx", title="Jetson Orin NX 16 GB", gpu=_AMPERE, capability="8.7", sms=8, mhz=918,
        mode="MAXN", gb=16, gb_s=102.4, floor_us=13.3, fixed_us=20, efficiency=_ORIN_NANO_EFFICIENCY,
        like="Orin Nano 8 GB",
    ),
    _Board(
        name="jetson-agx-orin-32gb", title="Jetson AGX Orin 32 GB", gpu=_AMPERE, capability="8.7", sms=14, mhz=930,
        mode="MAXN", gb=32, gb_s=204.8, floor_us=11.6, fixed_us=20, efficiency=_AGX_ORIN_EFFICIENCY,
        like="AGX Orin 64 GB",
    ),
    _Board(
        name="jetson-agx-orin", title="Jetson AGX Orin 64 GB", gpu=_AMPERE, capability="8.7", sms=16, mhz=1300,
        mode="MAXN", gb=64, gb_s=204.8, floor_us=8.3, fixed_us=20, efficiency=_AGX_ORIN_EFFICIENCY,
    ),
)  # fmt: skip


def _profile(board: _Board) -> HardwareProfile:
    sheet = _SHEET.format(board.title)
    return HardwareProfile(
        name=board.name,
        title=f"{board.title} ({board.mode}, GPU at {board.mhz:g} MHz)",
        runtime="tensorrt",
        precisions=board.gpu.precisions,
        channel_multiple=8,
        activation_signed=True,
        peak_gops={bits: round(n * board.sms * board.mhz / 1e3, 1) for bits, n in board.gpu.operations.items()},
        bandwidth_gb_s=board.gb_s,
        memory_gb=board.gb,
        latency=_latency(board),
        facts={
            "architecture": board.gpu.title,
            "compute_capability": board.capability,
            "multiprocessors": board.sms,
            "gpu_mhz": board.mhz,
            "power_mode": board.mode,
            "tensorrt": board.gpu.tensorrt,
        },
        sources={
            "*": sheet,
            "precisions": "TensorRT support matrix: INT8 from compute capability 6.1 on, but not on 6.2",
            "channel_multiple": "NVIDIA deep learning performance guide: FP16 tensor cores want multiples of 8; the "
            "same grid is kept on boards without them",
            "activation_signed": "TensorRT developer guide, explicit quantisation: INT8 is symmetric, zero point 0",
            "peak_gops": f"NVIDIA {board.gpu.title} white paper, operations per multiprocessor and clock (32 bits on "
            "Ampere: TF32, TensorRT's default), times multiprocessors and clock",
            "compute_capability": "NVIDIA, CUDA GPU compute capability table",
            "tensorrt": "release notes of the last JetPack for this module",
        },
    )


def _latency(board: _Board) -> LatencyModel:
    conv, pointwise, depthwise = board.efficiency
    return LatencyModel(
        fixed_us=board.fixed_us,
        floor_us=board.floor_us,
        efficiency={
            "conv": conv,
            "pointwise": pointwise,
            "depthwise": depthwise,
            "grouped": round(conv / 4, 3),  # assumed: no published net of the fit has grouped convolutions
            "linear": pointwise,
            "memory": 0.5,
        },
        relative_error=_SCALED_ERROR if board.like else _FITTED_ERROR,
        source=_SCALED.format(board.like) if board.like else _FITTED,
    )


PROFILES: dict[str, HardwareProfile] = {board.name: _profile(board) for board in _BOARDS}
PROFILES["jetson"] = PROFILES["jetson-orin-nano"]
