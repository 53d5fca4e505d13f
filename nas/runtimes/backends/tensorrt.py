"""TensorRT on this machine, through its Python package: 8.6, 10 and 11. On a Jetson this is JetPack's own package.

Times come from CUDA events around a replayed CUDA graph, as trtexec takes them, with the reference network before and
after. The engine is a by-product: it lives in memory, and none is ever loaded from outside.

Never run for this project, which had no GPU. Tested are the refusals, and the order of the calls on stand-ins for the
packages.
"""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from hw_profiles._base import HardwareProfile
from nas.errors import MeasureError
from nas.intervals import TimesMs
from nas.runtimes import reference_network as _reference
from nas.runtimes.base import NO_POWER_MONITOR, DeviceRuntime, DeviceTiming, Finding, LayerTiming, Log, Runtime
from nas.runtimes.disturbance import DRIFT_LIMIT, TimingAttempt, drift_note, time_least_disturbed
from nas.runtimes.tensorrt import cuda as _cuda
from nas.runtimes.tensorrt import engine as _engine
from nas.runtimes.tensorrt.engine import EngineSession, TimingCache

RUNS = 1000
REFERENCE_RUNS = 300
WARM_UP_RUNS = 200
"""Replays before a timing, in which the GPU's clock rises."""
INSTALL_HINT = "pip install 'fer-nas[tensorrt]'; on a Jetson: apt install python3-libnvinfer"


class TensorRtRuntime(Runtime, DeviceRuntime):
    """Builds engines in this process, runs them, and times them by the GPU's own clock.

    Keeps TensorRT's timing cache in memory, so that later engines build faster.
    """

    name = "tensorrt"

    def __init__(self) -> None:
        self._timing_cache = TimingCache()

    def unavailable_reason(self) -> str | None:
        """What to install, or why the device cannot be opened."""
        try:
            _import_tensorrt()
            _cuda.open_cuda_device().close()
        except MeasureError as error:
            return str(error)
        return None

    def versions(self) -> dict[str, str]:
        """Version of TensorRT, and whether its networks are strongly or weakly typed.

        Raises:
            MeasureError: the package is missing or too old.
        """
        trt = _import_tensorrt()
        typed = hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
        return {"tensorrt": str(trt.__version__), "typing": "strong" if typed else "weak"}

    def load(self, model: Path, *, threads: int = 1) -> EngineSession:
        """Build an engine of a file for one image; `threads` has no meaning on a GPU.

        Raises:
            MeasureError: a package or the device is missing, or TensorRT refuses the file.
        """
        return self._load(model, batch=1)

    def _load(self, model: Path, batch: int) -> EngineSession:
        trt = _import_tensorrt()
        device = _cuda.open_cuda_device()
        try:
            engine = _engine.build_engine(trt, model, self._timing_cache, batch=batch)
            return EngineSession(trt, engine, device, batch=batch)
        except BaseException:
            device.close()
            raise

    def layer_times(self, model: Path, *, input_shape: tuple[int, int, int]) -> tuple[LayerTiming, ...]:
        """Milliseconds of each layer; its name contains the type that TensorRT chose for it.

        Raises:
            MeasureError: as `load`.
        """
        with closing(self.load(model)) as session:
            return session.layer_times()

    def can_time_on_device(self, profile: HardwareProfile) -> bool:
        """Whether the profile is of this machine, with this runtime."""
        return profile.local and profile.runtime == self.name

    def probe_device(self, profile: HardwareProfile) -> list[Finding]:
        """Versions of the packages, where engines can be built and run here.

        Raises:
            MeasureError: a package or the device is missing.
        """
        if why := self.unavailable_reason():
            raise MeasureError(f"{profile.name!r} cannot be measured: {why}")
        values = {**self.versions(), "energy": NO_POWER_MONITOR}
        return [Finding(name=name, value=value) for name, value in values.items()]

    def time_models(
        self, models: Sequence[Path], profile: HardwareProfile, *, with_layers: bool = False, with_energy: bool = False,
        with_breakdown: bool = False, batch: int = 1, dry_run_commands: list[str] | None = None,
        log: Log = lambda _: None,
    ) -> list[DeviceTiming | MeasureError]:  # fmt: skip
        """Time files on this machine's GPU. A file that fails does not affect the others. Neither energy nor a
        breakdown is measured: ask trtexec on that machine for the latter.

        Raises:
            MeasureError: a package or the device is missing.
        """
        self.probe_device(profile)
        if dry_run_commands is not None:
            dry_run_commands.append("# no commands: the tensorrt package drives this machine's GPU")
            return []
        with closing(self.load(_reference.reference_path())) as reference:
            return [
                self._time_model(model, reference, batch=batch, with_layers=with_layers, log=log) for model in models
            ]

    def _time_model(
        self, model: Path, reference: EngineSession, *, batch: int, with_layers: bool, log: Log
    ) -> DeviceTiming | MeasureError:
        log(f"{model.name!r}: build the engine and time it")
        try:
            with closing(self._load(model, batch)) as session:
                best, _ = time_least_disturbed(lambda _: _time_once(session, reference))
                layers = session.layer_times() if with_layers else ()
        except MeasureError as error:
            return error
        n_images = "one image" if batch == 1 else f"{batch} images"
        notes = [f"GPU time of {n_images} in a CUDA graph, copies not included; clocks as they were, not looked at"]
        if abs(best.drift) > DRIFT_LIMIT:
            notes.append(drift_note(best.drift))
        return DeviceTiming(
            times_ms=best.times_ms, device=reference.device_name, drift=best.drift, versions=self.versions(),
            notes=tuple(notes), layers=layers,
        )  # fmt: skip


def _time_once(session: EngineSession, reference: EngineSession) -> TimingAttempt:
    """One timing of a file, between two of the reference network."""
    before = np.median(_time_runs(reference, REFERENCE_RUNS))
    times_ms = _time_runs(session, RUNS)
    after = np.median(_time_runs(reference, REFERENCE_RUNS))
    return TimingAttempt(times_ms=times_ms, drift=float(after / before - 1))


def _time_runs(session: EngineSession, runs: int) -> TimesMs:
    """Milliseconds of each run [runs] on the same random image."""
    image = np.random.default_rng(0).integers(0, 256, session.input_shape, dtype=np.uint8)
    return session.time_runs_ms(image, runs=runs, warm_up_runs=WARM_UP_RUNS)


def _import_tensorrt() -> Any:
    """The package tensorrt, imported at use.

    Raises:
        MeasureError: it is not installed, or is older than 8.6.
    """
    try:
        import tensorrt as trt  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError as error:
        raise MeasureError(f"the package tensorrt must be installed ({error}); {INSTALL_HINT}") from None
    if tuple(int(part) for part in str(trt.__version__).split(".")[:2]) < (8, 6):
        raise MeasureError(
            f"TensorRT must be 8.6 or newer, but is {trt.__version__}; measure the board over ssh by its trtexec"
        )
    return trt


RUNTIME = TensorRtRuntime()
