"""Placement of an engine's layers on a Jetson's DLA, read from the log of its build by trtexec.

A DLA runs few kinds of layers, and with `--allowGPUFallback` TensorRT gives the others to the GPU one by one; each
change of place costs copies. TensorRT 8.4 to 10 list the result layer by layer:

    [I] [TRT] ---------- Layers Running on DLA ----------
    [I] [TRT] [DlaLayer] {ForeignNode[stem.conv...stage1.act]}
    [I] [TRT] ---------- Layers Running on GPU ----------
    [I] [TRT] [GpuLayer] SOFTMAX: head.softmax

and warn of each layer that falls back, in one of two wordings. The form is that of logs which users published
(https://github.com/NVIDIA-AI-IOT/jetson_dla_tutorial); none was recorded for this project.
"""

import re
from dataclasses import dataclass

from nas.errors import MeasureError

LAST_VERSION = (10, 7, 99)
"""TensorRT 10.7 was the last release that supports a DLA; 11.4.1 does so again on one board, for strongly typed
networks, which are not made for a DLA here (TensorRT documentation, migration on Jetson)."""
_DLA_PATTERN = re.compile(r"\[DlaLayer\] (.+?),?\s*$", re.MULTILINE)
_GPU_PATTERN = re.compile(r"\[GpuLayer\] (.+?),?\s*$", re.MULTILINE)
_FALLBACK_PATTERNS = (
    re.compile(r"Default DLA is enabled but layer (.+?) is not (?:supported|running) on DLA, falling back to GPU"),
    re.compile(r"Layer '(.+?)' \(\w+\): Unsupported on DLA\. Switching this layer's device type to GPU"),
    re.compile(r"Switching to GPU for layer (.+?)\s*$", re.MULTILINE),
)
SHOWN_LAYERS = 3
"""Layers that a note names."""


@dataclass(frozen=True, kw_only=True)
class DlaPlacement:
    """Where the layers of an engine run.

    Attributes:
        on_dla: regions on the DLA, each compiled as a whole; empty where the log lists none.
        on_gpu: layers that fell back to the GPU.
    """

    on_dla: tuple[str, ...]
    on_gpu: tuple[str, ...]

    def describe(self, core: int) -> str:
        """The placement as a note."""
        if not self.on_gpu:
            return f"DLA core {core}: no layer fell back to the GPU"
        named = ", ".join(_shorten(name) for name in self.on_gpu[:SHOWN_LAYERS])
        more = f" and {len(self.on_gpu) - SHOWN_LAYERS} more" if len(self.on_gpu) > SHOWN_LAYERS else ""
        return f"DLA core {core}: {len(self.on_gpu)} layers fell back to the GPU ({named}{more})"


def parse_placement(log_text: str) -> DlaPlacement:
    """Read the placement from the log of a build: the list of layers, or else the warnings.

    Raises:
        MeasureError: the log tells neither.
    """
    text = "".join(c if c.isprintable() or c == "\n" else "?" for c in log_text)
    on_dla, on_gpu = tuple(_DLA_PATTERN.findall(text)), tuple(_GPU_PATTERN.findall(text))
    if on_dla or on_gpu:
        return DlaPlacement(on_dla=on_dla, on_gpu=on_gpu)
    warned = dict.fromkeys(name for pattern in _FALLBACK_PATTERNS for name in pattern.findall(text))
    if not warned:
        raise MeasureError(
            "trtexec must tell which layers run on the DLA, but its log names none; has this board a DLA, and its "
            "TensorRT a version that supports it (8.2 to 10.7)?"
        )
    return DlaPlacement(on_dla=(), on_gpu=tuple(warned))


def _shorten(name: str) -> str:
    return name if len(name) <= 60 else f"{name[:57]}..."
