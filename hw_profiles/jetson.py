"""NVIDIA Jetson modules with TensorRT. `jetson` is the Orin Nano 8 GB, the commonest module.

Each board has its power mode, memory and latency constants here; the clocks of all modes are in `_jetson_modes`. Peak
rates are operations per multiprocessor and clock (NVIDIA's white papers on Maxwell, Volta and Ampere) times
multiprocessors and clock: dense rates of the GPU alone, without DLA and 2:4 sparsity.

The latency constants were fitted to published TensorRT FP16 latencies at batch 1: Nota AI's device matrix (nine
networks on six boards, twelve on the Orin Nano), torch2trt's tables (Nano, AGX Xavier) and Ultralytics' (Orin Nano
Super, Orin NX). The errors of a fit are held-out: constants refitted without the predicted network, and constants from
the other boards alone. `benchmarks/jetson_profiles.py` refits and prints all of them.

All of these networks have inputs of 224x224 and more. The latency of a 48x48 network is mostly the number of kernels
times their floor, which is one without a CUDA graph; with one, a kernel this small may take a quarter of it. The order
of two networks is therefore more reliable than the milliseconds.
"""

from dataclasses import dataclass, field

from hw_profiles._base import HardwareProfile, LatencyModel
from hw_profiles._jetson_modes import POWER_MODES
from hw_profiles._power_modes import MAX_RELATIVE_ERROR

_FITTED = (
    "roofline fitted to {f.rows} published TensorRT FP16 batch-1 latencies ({f.publishers}); refitted without the net "
    "that is predicted: median error {f.without_model:.0%}, rank correlation {f.rank_without_model:.2f}; from other "
    "boards alone: {f.without_board:.0%}, {f.rank_without_board:.2f}; not checked on nets as small as faces need"
)
_BORROWED = "roofline with the constants of the {}, which were fitted to published latencies; no figure for this board"

_MIN_RELATIVE_ERROR = 0.5  # lower limit, since no published network is as small as those for faces
_BORROWED_RELATIVE_ERROR = 0.85

_DATA_SHEET = "NVIDIA data sheet of the {}, in the power mode named"


@dataclass(frozen=True, kw_only=True)
class _Architecture:
    """GPU generation: operations per multiprocessor and clock by bit-width, and its last TensorRT version."""

    title: str
    ops_per_cycle: dict[int, int]
    tensorrt: str
    sources: dict[str, str] = field(default_factory=dict)

    @property
    def precisions(self) -> tuple[int, ...]:
        return tuple(sorted(self.ops_per_cycle))


_MAXWELL = _Architecture(title="Maxwell", ops_per_cycle={16: 512, 32: 256}, tensorrt="8.2")
_PASCAL = _Architecture(title="Pascal", ops_per_cycle={16: 512, 32: 256}, tensorrt="8.2")
_VOLTA = _Architecture(title="Volta", ops_per_cycle={8: 2048, 16: 1024, 32: 128}, tensorrt="8.5")
_BLACKWELL = _Architecture(
    title="Blackwell",
    ops_per_cycle={8: 16384, 16: 8192, 32: 4096},
    tensorrt="10.13",
    sources={
        "peak_gops": "NVIDIA, Jetson Thor data sheet: 517 dense FP8 and INT8 tera-operations; 16 bits half of it, "
        "TF32 a quarter (assumed from the ratio on Ampere)",
        "multiprocessors": "NVIDIA developer forum, Jetson Thor device query",
        "gpu_mhz": "NVIDIA developer forum, Jetson Thor device query; no data sheet states it",
    },
)
_AMPERE = _Architecture(title="Ampere", ops_per_cycle={8: 4096, 16: 2048, 32: 1024}, tensorrt="10.3")


@dataclass(frozen=True, kw_only=True)
class _Fit:
    """Fitted constants of one board, and their errors on held-out rows.

    Attributes:
        floor_us: floor of a kernel.
        fixed_us: fixed part of an inference.
        efficiency: shares of the peak rate reached by conv, pointwise and depthwise, and of the bandwidth.
        rows: number of published latencies.
        publishers: their sources.
        without_model: median relative error of constants fitted without the predicted network.
        without_board: median relative error of constants fitted to the other boards.
        rank_without_model: rank correlation of the former.
        rank_without_board: rank correlation of the latter.
        interval: the wider of the two 95 % half-widths.
    """

    floor_us: float
    fixed_us: float
    efficiency: tuple[float, float, float, float]
    rows: int
    publishers: str
    without_model: float
    without_board: float
    rank_without_model: float
    rank_without_board: float
    interval: float


_NOTA, _TORCH2TRT, _ULTRALYTICS = "Nota AI", "torch2trt", "Ultralytics"

_NANO = _Fit(
    floor_us=12.2, fixed_us=30, efficiency=(1, 0.714, 0.0122, 0.629), rows=23, publishers=f"{_NOTA}, {_TORCH2TRT}",
    without_model=0.05, without_board=0.12, rank_without_model=0.987, rank_without_board=0.984, interval=0.97,
)  # fmt: skip
_TX2 = _Fit(
    floor_us=13, fixed_us=30, efficiency=(1, 0.659, 0.0126, 0.682), rows=9, publishers=_NOTA,
    without_model=0.07, without_board=0.14, rank_without_model=0.983, rank_without_board=1.000, interval=0.75,
)  # fmt: skip
_XAVIER_NX = _Fit(
    floor_us=12.5, fixed_us=30, efficiency=(0.97, 1, 0.0165, 0.738), rows=9, publishers=_NOTA,
    without_model=0.04, without_board=0.10, rank_without_model=1.000, rank_without_board=1.000, interval=0.29,
)  # fmt: skip
_AGX_XAVIER = _Fit(  # torch2trt's DenseNets, with an early TensorRT, take two to three times the prediction. A copy of
    # 12 us for each concatenated map would explain it, but the same networks show none on the Nano.
    floor_us=18.6, fixed_us=30, efficiency=(0.819, 0.573, 0.0182, 0.682), rows=32, publishers=f"{_NOTA}, {_TORCH2TRT}",
    without_model=0.06, without_board=0.25, rank_without_model=0.960, rank_without_board=0.946, interval=1.00,
)  # fmt: skip
_ORIN_NANO = _Fit(
    floor_us=16, fixed_us=30, efficiency=(0.497, 0.646, 0.00698, 0.662), rows=12, publishers=_NOTA,
    without_model=0.11, without_board=0.40, rank_without_model=0.986, rank_without_board=0.993, interval=0.71,
)  # fmt: skip
_ORIN_NANO_SUPER = _Fit(
    floor_us=11.9, fixed_us=30, efficiency=(1, 1, 0.0149, 1), rows=5, publishers=_ULTRALYTICS,
    without_model=0.07, without_board=0.24, rank_without_model=1.000, rank_without_board=1.000, interval=0.33,
)  # fmt: skip
_ORIN_NX = _Fit(  # shares of 1: the publisher's board may have had a higher clock than this row
    floor_us=11.1, fixed_us=30, efficiency=(1, 1, 0.0152, 0.929), rows=5, publishers=_ULTRALYTICS,
    without_model=0.08, without_board=0.23, rank_without_model=1.000, rank_without_board=1.000, interval=0.31,
)  # fmt: skip
_AGX_ORIN = _Fit(
    floor_us=7.63, fixed_us=31, efficiency=(1, 0.97, 0.0136, 0.819), rows=9, publishers=_NOTA,
    without_model=0.13, without_board=0.35, rank_without_model=0.933, rank_without_board=0.967, interval=0.43,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Board:
    """A module in one power mode; `borrowed_from` is the title of the board whose constants it has, if not its own.
    `dla_cores` is the number of deep-learning accelerators beside the GPU."""

    name: str
    title: str
    gpu: _Architecture
    compute_capability: str
    power_mode: str
    memory_gb: float
    bandwidth_gb_s: float
    fit: _Fit
    borrowed_from: str = ""
    dla_cores: int = 0

    @property
    def clocks(self) -> tuple[float, int]:
        """GPU clock [MHz] and multiprocessors in the mode of this row."""
        modes = (mode for mode in POWER_MODES[self.name].modes if mode.name == self.power_mode)
        return next((m.gpu_mhz, m.multiprocessors) for m in modes if m.gpu_mhz and m.multiprocessors)


_BOARDS = (
    _Board(
        name="jetson-nano", title="Jetson Nano 4 GB", gpu=_MAXWELL, compute_capability="5.3", power_mode="MAXN",
        memory_gb=4, bandwidth_gb_s=25.6, fit=_NANO,
    ),
    _Board(
        name="jetson-tx2", title="Jetson TX2", gpu=_PASCAL, compute_capability="6.2", power_mode="MAXN",
        memory_gb=8, bandwidth_gb_s=59.7, fit=_TX2,
    ),
    _Board(
        name="jetson-tx2-nx", title="Jetson TX2 NX", gpu=_PASCAL, compute_capability="6.2", power_mode="MAXN",
        memory_gb=4, bandwidth_gb_s=51.2, fit=_TX2, borrowed_from="TX2",
    ),
    _Board(
        name="jetson-xavier-nx", title="Jetson Xavier NX", gpu=_VOLTA, compute_capability="7.2",
        power_mode="MODE_20W_6CORE", memory_gb=8, bandwidth_gb_s=59.7, fit=_XAVIER_NX,
        dla_cores=2,
    ),
    _Board(
        name="jetson-agx-xavier", title="Jetson AGX Xavier", gpu=_VOLTA, compute_capability="7.2", power_mode="MAXN",
        memory_gb=32, bandwidth_gb_s=136.5, fit=_AGX_XAVIER, dla_cores=2,
    ),
    _Board(
        name="jetson-orin-nano-4gb", title="Jetson Orin Nano 4 GB", gpu=_AMPERE, compute_capability="8.7",
        power_mode="10W", memory_gb=4, bandwidth_gb_s=34, fit=_ORIN_NANO, borrowed_from="Orin Nano 8 GB",
    ),
    _Board(
        name="jetson-orin-nano", title="Jetson Orin Nano 8 GB", gpu=_AMPERE, compute_capability="8.7",
        power_mode="15W", memory_gb=8, bandwidth_gb_s=68, fit=_ORIN_NANO,
    ),
    _Board(
        name="jetson-orin-nano-super", title="Jetson Orin Nano 8 GB Super", gpu=_AMPERE, compute_capability="8.7",
        power_mode="MAXN_SUPER", memory_gb=8, bandwidth_gb_s=102, fit=_ORIN_NANO_SUPER,
    ),
    _Board(
        name="jetson-orin-nx-8gb", title="Jetson Orin NX 8 GB", gpu=_AMPERE, compute_capability="8.7",
        power_mode="MAXN", memory_gb=8, bandwidth_gb_s=102.4, fit=_ORIN_NX, borrowed_from="Orin NX 16 GB",
        dla_cores=1,
    ),
    _Board(
        name="jetson-orin-nx", title="Jetson Orin NX 16 GB", gpu=_AMPERE, compute_capability="8.7",
        power_mode="MAXN", memory_gb=16, bandwidth_gb_s=102.4, fit=_ORIN_NX, dla_cores=2,
    ),
    _Board(
        name="jetson-agx-orin-32gb", title="Jetson AGX Orin 32 GB", gpu=_AMPERE, compute_capability="8.7",
        power_mode="MAXN", memory_gb=32, bandwidth_gb_s=204.8, fit=_AGX_ORIN, borrowed_from="AGX Orin 64 GB",
        dla_cores=2,
    ),
    _Board(
        name="jetson-agx-orin", title="Jetson AGX Orin 64 GB", gpu=_AMPERE, compute_capability="8.7",
        power_mode="MAXN", memory_gb=64, bandwidth_gb_s=204.8, fit=_AGX_ORIN, dla_cores=2,
    ),
    _Board(
        name="jetson-thor", title="Jetson Thor T5000", gpu=_BLACKWELL, compute_capability="11.0",
        power_mode="MAXN", memory_gb=128, bandwidth_gb_s=273, fit=_AGX_ORIN, borrowed_from="AGX Orin 64 GB",
    ),
)  # fmt: skip


def _profile(board: _Board) -> HardwareProfile:
    mhz, multiprocessors = board.clocks
    sheet = _DATA_SHEET.format(board.title)
    return HardwareProfile(
        name=board.name,
        title=f"{board.title} ({board.power_mode}, GPU at {mhz:g} MHz)",
        runtime="tensorrt",
        precisions=board.gpu.precisions,
        channel_multiple=8,
        activation_signed=True,
        peak_gops={bits: round(n * multiprocessors * mhz / 1e3, 1) for bits, n in board.gpu.ops_per_cycle.items()},
        bandwidth_gb_s=board.bandwidth_gb_s,
        memory_gb=board.memory_gb,
        latency=_latency(board),
        power_modes=POWER_MODES[board.name].modes,
        facts={
            "architecture": board.gpu.title,
            "compute_capability": board.compute_capability,
            "multiprocessors": multiprocessors,
            "gpu_mhz": mhz,
            "power_mode": board.power_mode,
            "tensorrt": board.gpu.tensorrt,
            **({"dla_cores": board.dla_cores} if board.dla_cores else {}),
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
            "power_modes": POWER_MODES[board.name].source,
            **board.gpu.sources,
        },
    )


def _latency(board: _Board) -> LatencyModel:
    fit = board.fit
    conv, pointwise, depthwise, memory = fit.efficiency
    return LatencyModel(
        fixed_us=fit.fixed_us,
        floor_us=fit.floor_us,
        efficiency={
            "conv": conv,
            "pointwise": pointwise,
            "depthwise": depthwise,
            "grouped": 0.1,  # assumed: no network of the fit has grouped convolutions
            "linear": pointwise,
            "memory": memory,
        },
        relative_error=_BORROWED_RELATIVE_ERROR
        if board.borrowed_from
        else min(max(_MIN_RELATIVE_ERROR, fit.interval), MAX_RELATIVE_ERROR),
        source=_BORROWED.format(board.borrowed_from) if board.borrowed_from else _FITTED.format(f=fit),
    )


PROFILES: dict[str, HardwareProfile] = {board.name: _profile(board) for board in _BOARDS}
PROFILES["jetson"] = PROFILES["jetson-orin-nano"]
