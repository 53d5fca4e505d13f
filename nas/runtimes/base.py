"""What a runtime is: something that loads an exported file on a device and runs it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hw_profiles._base import HardwareProfile
from nas.errors import MeasureError

Floats = npt.NDArray[np.float32]
Log = Callable[[str], None]
NO_POWER_MONITOR = "not measured: no power monitor found"
"""What `Runtime.probe_device` finds of the energy of a device that cannot tell it."""


@dataclass(frozen=True, kw_only=True)
class LayerTiming:
    """One layer that a device executed: its name after fusion, and its milliseconds."""

    name: str
    ms: float


@dataclass(frozen=True, kw_only=True)
class ExecutedNode:
    """One node that a runtime executes for one image, after all of its fusions and changes of layout.

    Attributes:
        name: of the node.
        operator: of the node; one of a domain of the runtime's own has the domain's last word before it (nchwc.Conv).
        activation: what is fused behind a convolution, as an ONNX operator; empty without.
        input_shape: of the first input.
        output_shape: of the first output.
        weight_shape: of the weights, [outputs, inputs of a group, ...]; empty without.
        has_channels_last: whether images are [N, H, W, C].
        output_bits: width of an element of the output.
        input_bytes: activations read.
        weight_bytes: constants read.
        output_bytes: activations written.
        us: the least microseconds it took in some runs under the runtime's profiler, which adds to small ones; None
            where nothing looked.
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
    """What a device reports of one file that it timed itself.

    Attributes:
        times_ms: milliseconds of each run [runs], one image.
        device: where, in words.
        drift: relative change of the reference network around the runs.
        versions: names and versions that the figure must carry, and the state of the device.
        notes: what a reader has to know.
        layers: in order of execution; empty when not asked for.
        energy_mj: millijoules of one inference above idle; None where nothing measures them.
    """

    times_ms: npt.NDArray[np.float64]
    device: str
    drift: float
    versions: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    layers: tuple[LayerTiming, ...] = ()
    energy_mj: float | None = None


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
    """One loaded file. Close it before the next is timed: its threads disturb others."""

    @abstractmethod
    def predict(self, images: npt.NDArray[np.uint8]) -> Floats:
        """Class probabilities [N, K] of images [N, C, H, W] with values 0..255."""

    @abstractmethod
    def bound_run(self, images: npt.NDArray[np.uint8]) -> Callable[[], None]:
        """A call without arguments that runs the file once on these images, inputs and outputs bound beforehand."""

    @abstractmethod
    def close(self) -> None:
        """Release the file and its threads. Further calls are an error."""


class Runtime(ABC):
    """A way to run exported files. Stateless; optional packages are imported at use."""

    name: str

    @abstractmethod
    def unavailable_reason(self) -> str | None:
        """None when this runtime can be used here, else one line: what is missing and how to get it."""

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Names and versions that a measurement must carry."""

    @abstractmethod
    def load(self, model: Path, *, threads: int = 1) -> Session:
        """Load an exported file.

        Raises:
            MeasureError: the runtime refuses the file, or would run it elsewhere than asked.
        """

    def layer_times(self, model: Path, *, input_shape: tuple[int, int, int]) -> tuple[LayerTiming, ...]:
        """Milliseconds of each layer of a file on this machine, in order; their sum is more than the whole takes.

        Raises:
            MeasureError: this runtime cannot tell.
        """
        raise MeasureError(f"{self.name} does not tell the times of layers; measure without --layers")

    def executed_nodes(self, model: Path, *, input_shape: tuple[int, int, int]) -> tuple[ExecutedNode, ...] | None:
        """What of a file is executed on this machine, node by node; None where the runtime does not tell.

        Raises:
            MeasureError: the runtime refuses the file.
        """
        return None

    def can_time_on_device(self, profile: HardwareProfile) -> bool:
        """Whether this runtime itself times files on that device, by `timings`, and not by the loop on this machine."""
        return False

    def probe_device(self, profile: HardwareProfile) -> list[Finding]:
        """Look whether files can be timed on the device, and how it stands.

        Raises:
            MeasureError: there is no way to it.
        """
        raise MeasureError(f"{profile.name!r} must be a device that {self.name} times itself, but it is none")

    def time_models(
        self,
        models: Sequence[Path],
        profile: HardwareProfile,
        *,
        with_layers: bool = False,
        with_energy: bool = False,
        dry_run_commands: list[str] | None = None,
        log: Log = lambda _: None,
    ) -> list[DeviceTiming | MeasureError]:
        """Time files on the device, one after the other. One that fails costs the others nothing.

        Args:
            models: exported files.
            profile: of the device.
            layers: whether each layer is timed too, in a run of its own.
            energy: whether energy is measured too, where the device can.
            dry: takes the commands, which are then not run; the result is empty.
            say: told what is being done.

        Returns:
            For each file, in order, its timing or why there is none.

        Raises:
            MeasureError: nothing can be timed there at all.
        """
        raise MeasureError(f"{profile.name!r} must be a device that {self.name} times itself, but it is none")
