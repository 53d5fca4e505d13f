"""TensorRT on this machine, by its Python package: 8.6, 10 and 11. On a Jetson this is the JetPack's own.

Times come from CUDA events around a replayed CUDA graph, as trtexec takes them, with the reference network before and
after. The engine is a by-product: it lives in memory, and none is ever loaded from outside.

Never run for this project: there was no GPU. What is tested are the refusals, and the order of the calls on stand-ins
for the packages.
"""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from hw_profiles._base import HardwareProfile
from nas.errors import MeasureError
from nas.runtimes import reference_network as _reference
from nas.runtimes.base import NO_POWER_MONITOR, DeviceTiming, Finding, LayerTiming, Log, Runtime
from nas.runtimes.tensorrt import cuda as _cuda
from nas.runtimes.tensorrt import engine as _engine
from nas.runtimes.tensorrt.engine import EngineSession, TimingCache
from nas.runtimes.tensorrt.trtexec import TimesMs

RUNS = 1000
REFERENCE_RUNS = 300
WARM_UP_RUNS = 200
MAX_ATTEMPTS = 3
DRIFT_LIMIT = 0.03
INSTALL_HINT = "pip install 'fer-nas[tensorrt]'; on a Jetson: apt install python3-libnvinfer"


class TensorRtRuntime(Runtime):
    """Builds engines in this process and times them by the GPU's own clock."""

    name = "tensorrt"

    def __init__(self) -> None:
        self._timing_cache = TimingCache()

    def unavailable_reason(self) -> str | None:
        """What to install, or that there is no device."""
        try:
            _import_tensorrt()
            _cuda.open_cuda_device().close()
        except MeasureError as error:
            return str(error)
        return None

    def versions(self) -> dict[str, str]:
        """TensorRT, and whether its networks are strongly typed."""
        trt = _import_tensorrt()
        typed = hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
        return {"tensorrt": str(trt.__version__), "typing": "strong" if typed else "weak"}

    def load(self, model: Path, *, threads: int = 1) -> EngineSession:
        """Build an engine of a file for one image.

        Raises:
            MeasureError: a package or the device is missing, or TensorRT refuses the file.
        """
        trt = _import_tensorrt()
        device = _cuda.open_cuda_device()
        try:
            return EngineSession(trt, _engine.build_engine(trt, model, self._timing_cache), device)
        except BaseException:
            device.close()
            raise

    def layer_times(self, model: Path, *, input_shape: tuple[int, int, int]) -> tuple[LayerTiming, ...]:
        """Milliseconds and real type of each layer.

        Raises:
            MeasureError: as `load`.
        """
        with closing(self.load(model)) as session:
            return session.layer_times()

    def can_time_on_device(self, profile: HardwareProfile) -> bool:
        """Whether the device is this machine."""
        return profile.local and profile.runtime == self.name

    def probe_device(self, profile: HardwareProfile) -> list[Finding]:
        """The versions, where engines can be built and run here.

        Raises:
            MeasureError: a package or the device is missing.
        """
        if why := self.unavailable_reason():
            raise MeasureError(f"{profile.name!r} cannot be measured: {why}")
        found = {**self.versions(), "energy": NO_POWER_MONITOR}
        return [Finding(name=name, value=value) for name, value in found.items()]

    def time_models(
        self, models: Sequence[Path], profile: HardwareProfile, *, with_layers: bool = False, with_energy: bool = False,
        dry_run_commands: list[str] | None = None, log: Log = lambda _: None,
    ) -> list[DeviceTiming | MeasureError]:  # fmt: skip
        """Time files on this machine's GPU. A file's fault costs that file. Energy is not measured here.

        Raises:
            MeasureError: a package or the device is missing.
        """
        self.probe_device(profile)
        if dry_run_commands is not None:
            dry_run_commands.append("# nothing to run: this machine's GPU is asked by the tensorrt package")
            return []
        with closing(self.load(_reference.reference_path())) as reference:
            return [self._time_model(model, reference, with_layers=with_layers, log=log) for model in models]

    def _time_model(
        self, model: Path, reference: EngineSession, *, with_layers: bool, log: Log
    ) -> DeviceTiming | MeasureError:
        log(f"{model.name!r}: build the engine and time it")
        try:
            with closing(self.load(model)) as session:
                drift, times = _time_least_disturbed(session, reference)
                found = session.layer_times() if with_layers else ()
        except MeasureError as error:
            return error
        notes = ["GPU time of one image in a CUDA graph, copies not included; clocks as they were, not looked at"]
        if abs(drift) > DRIFT_LIMIT:
            notes.append(f"busy machine: the reference network drifted by {drift:+.1%}")
        return DeviceTiming(
            times_ms=times, device=reference.device_name, drift=drift, versions=self.versions(), notes=tuple(notes),
            layers=found,
        )  # fmt: skip


def _time_least_disturbed(session: EngineSession, reference: EngineSession) -> tuple[float, TimesMs]:
    """Drift and times [runs] of the attempt in which the reference changed least, of three at most."""
    attempts: list[tuple[float, TimesMs]] = []
    while not attempts or (abs(attempts[-1][0]) > DRIFT_LIMIT and len(attempts) < MAX_ATTEMPTS):
        before = np.median(_time_runs(reference, REFERENCE_RUNS))
        times = _time_runs(session, RUNS)
        after = np.median(_time_runs(reference, REFERENCE_RUNS))
        attempts.append((float(after / before - 1), times))
    return min(attempts, key=lambda attempt: abs(attempt[0]))


def _time_runs(session: EngineSession, runs: int) -> TimesMs:
    image = np.random.default_rng(0).integers(0, 256, session.input_shape, dtype=np.uint8)
    return session.time_runs_ms(image, runs=runs, warm_up_runs=WARM_UP_RUNS)


def _import_tensorrt() -> Any:
    """The package tensorrt.

    Raises:
        MeasureError: it is not installed, or is older than 8.6.
    """
    try:
        import tensorrt as trt  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError as error:
        raise MeasureError(f"the package tensorrt must be installed ({error}); {INSTALL_HINT}") from None
    if tuple(int(part) for part in str(trt.__version__).split(".")[:2]) < (8, 6):
        raise MeasureError(
            f"TensorRT must be 8.6 or newer, but is {trt.__version__}; use a board by its trtexec over ssh"
        )
    return trt


RUNTIME = TensorRtRuntime()
