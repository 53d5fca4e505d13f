"""Contract of the runtime family: backends that run exported files in this process, or time them on a device."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hw_profiles._base import HardwareProfile
from nas.errors import MeasureError
from nas.runtimes.time_breakdown import TimeBreakdown

Floats = npt.NDArray[np.float32]
Log = Callable[[str], None]
NO_POWER_MONITOR = "not measured: no power monitor found"
"""Value of the finding `energy` of `DeviceRuntime.probe_device` on a device without a power monitor."""


@dataclass(frozen=True, kw_only=True)
class LayerTiming:
    """One executed layer: its name after fusion, and its milliseconds."""

    name: str
    ms: float


@dataclass(frozen=True, kw_only=True)
class ExecutedNode:
    """One node that a runtime executes for one image, after all of its fusions and changes of layout.

    Attributes:
        name: name of the node.
        op_type: its operator; one of a domain of the runtime's own is prefixed with the domain's last word
            (nchwc.Conv).
        fused_activation: activation that is fused into a convolution, as an ONNX operator; empty without.
        input_shape: shape of the first input.
        output_shape: shape of the first output.
        weight_shape: shape of the weights, [outputs, inputs of a group, ...]; empty without.
        is_channels_last: whether images are [N, H, W, C].
        output_bits: width of an element of the output.
        input_bytes: activations read.
        weight_bytes: constants read.
        output_bytes: activations written.
        profiled_us: shortest time in microseconds over some runs under the runtime's profiler, which lengthens short
            nodes; None where it was not profiled.
    """

    name: str
    op_type: str
    fused_activation: str = ""
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    weight_shape: tuple[int, ...] = ()
    is_channels_last: bool = False
    output_bits: int
    input_bytes: int
    weight_bytes: int
    output_bytes: int
    profiled_us: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class DeviceTiming:
    """Timing of one file by a device's own clock.

    Attributes:
        times_ms: milliseconds of each run [runs].
        device: the device in words.
        drift: relative change of the reference network across the runs.
        versions: names and versions of the software, and the state of the device.
        notes: caveats for the reader.
        layers: in order of execution; empty unless requested.
        energy_mj: millijoules of one inference above idle; None where nothing measures them.
        breakdown: where the time of an application goes; None unless requested.
        dla_fallback: layers that fell back from a DLA to the GPU; None where there is no DLA in use.
    """

    times_ms: npt.NDArray[np.float64]
    device: str
    drift: float
    versions: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    layers: tuple[LayerTiming, ...] = ()
    energy_mj: float | None = None
    breakdown: TimeBreakdown | None = None
    dla_fallback: int | None = None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of a check of a device or of this machine.

    Attributes:
        name: what was checked.
        value: what was found.
        is_ok: whether the device can be measured, or `nas search` can run, in spite of it.
        advice: what to do; empty where there is nothing to do. Also set where all is well but more is possible.
    """

    name: str
    value: str
    is_ok: bool = True
    advice: str = ""


class Session(ABC):
    """One loaded file.

    Life: made by `Runtime.load`; `predict` and `bound_run` any number of times, from one thread; `close`. Close it
    before another file is timed, because its threads disturb other sessions.
    """

    @abstractmethod
    def predict(self, images: npt.NDArray[np.uint8]) -> Floats:
        """Class probabilities [N, K] of images [N, C, H, W] with values 0..255.

        Raises:
            MeasureError: the session was closed, or the images do not fit the input.
        """

    @abstractmethod
    def bound_run(self, images: npt.NDArray[np.uint8]) -> Callable[[], None]:
        """A call without arguments that runs the file once on these images; inputs and outputs are bound beforehand.

        Raises:
            MeasureError: the session was closed, or the images do not fit the input.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the file and its threads. Further calls raise MeasureError."""


class Backend(ABC):
    """A member of the runtime family: a `Runtime`, a `DeviceRuntime`, or both.

    Life: one instance for each module of `nas/runtimes/backends`, its constant `RUNTIME`, made at import and shared by
    all callers. Optional packages are imported at use, so importing a module never fails. An instance holds no state
    of a file or a connection; at most caches that only save time.

    Attributes:
        name: name of the module, by which profiles refer to it.
    """

    name: str

    @abstractmethod
    def unavailable_reason(self) -> str | None:
        """None where files can be loaded in this process, else one line: what is missing and how to get it."""

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Names and versions of the software, which every measurement carries."""


class Runtime(Backend):
    """A backend that runs exported files in this process.

    A member implements `load`; `layer_times`, `time_breakdown` and `executed_nodes` default to "cannot tell". It
    promises that a loaded file runs on the device that its name says and nowhere else: a silent fallback is an error.
    """

    @abstractmethod
    def load(self, model: Path, *, threads: int = 1) -> Session:
        """Load an exported file.

        Args:
            model: the ONNX file.
            threads: threads inside an operator, where the device is a CPU.

        Returns:
            An open session; the caller closes it.

        Raises:
            MeasureError: the runtime refuses the file, or would run it on another device.
        """

    def layer_times(self, model: Path, *, input_shape: tuple[int, int, int]) -> tuple[LayerTiming, ...]:
        """Milliseconds of each layer of a file on this machine, in order.

        Their sum exceeds the latency of the file, because profiling adds to each layer.

        Args:
            model: the ONNX file.
            input_shape: (C, H, W) of its input.

        Raises:
            MeasureError: this runtime cannot time layers, or refuses the file.
        """
        raise MeasureError(f"{self.name} cannot time layers; measure without --layers")

    def time_breakdown(self, model: Path, *, input_shape: tuple[int, int, int]) -> TimeBreakdown:
        """Where the time of one inference of a file goes on this machine.

        Args:
            model: the ONNX file.
            input_shape: (C, H, W) of its input.

        Raises:
            MeasureError: this runtime cannot tell, or refuses the file.
        """
        raise MeasureError(f"{self.name} cannot tell where its time goes; measure without --explain")

    def executed_nodes(self, model: Path, *, input_shape: tuple[int, int, int]) -> tuple[ExecutedNode, ...] | None:
        """Nodes of a file as they are executed on this machine; None where the runtime does not report them.

        Args:
            model: the ONNX file.
            input_shape: (C, H, W) of its input.

        Raises:
            MeasureError: the runtime refuses the file.
        """
        return None


class DeviceRuntime(Backend):
    """A backend that times files on a device by the device's own clock, instead of by the timing loop on this machine.

    Each call connects, does its work and disconnects; nothing is left on the device. A batch shares one connection and
    one reference network.
    """

    @abstractmethod
    def can_time_on_device(self, profile: HardwareProfile) -> bool:
        """Whether `time_models` reaches the device of this profile. Does not connect."""

    @abstractmethod
    def probe_device(self, profile: HardwareProfile) -> list[Finding]:
        """Connect, and check whether files can be timed on the device, and in what state it is.

        Raises:
            ConfigError: the address of the device has a form that is refused.
            MeasureError: the device cannot be reached, or nothing can be timed on it.
        """

    @abstractmethod
    def time_models(
        self,
        models: Sequence[Path],
        profile: HardwareProfile,
        *,
        with_layers: bool = False,
        with_energy: bool = False,
        with_breakdown: bool = False,
        batch: int = 1,
        dry_run_commands: list[str] | None = None,
        log: Log = lambda _: None,
    ) -> list[DeviceTiming | MeasureError]:
        """Time files on the device, one after the other. A file that fails does not affect the others.

        Args:
            models: exported files.
            profile: the device.
            with_layers: whether each layer is timed too, in a separate run.
            with_energy: whether energy is measured too, where the device can.
            with_breakdown: whether it is told where the time goes, from two further runs, where the device can.
            batch: images of one run; the files leave the number of images open, or have this one.
            dry_run_commands: takes the commands, which are then not run; the result is empty.
            log: receives progress lines.

        Returns:
            For each file, in order, its timing or the reason why there is none.

        Raises:
            ConfigError: the address of the device has a form that is refused.
            MeasureError: nothing can be timed on the device at all.
        """
