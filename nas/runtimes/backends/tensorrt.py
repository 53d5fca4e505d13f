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
from nas.runtimes.base import NO_MONITOR, Finding, Layer, Runtime, Say, Timing
from nas.runtimes.tensorrt import cuda as _cuda
from nas.runtimes.tensorrt import engine as _engine
from nas.runtimes.tensorrt.engine import EngineSession, TimingCache
from nas.runtimes.tensorrt.trtexec import Times

RUNS = 1000
REFERENCE_RUNS = 300
WARM_UP_RUNS = 200
ATTEMPTS = 3
DRIFT_LIMIT = 0.03
INSTALL = "pip install 'fer-nas[tensorrt]'; on a Jetson: apt install python3-libnvinfer"


class TensorRt(Runtime):
    """Builds engines in this process and times them by the GPU's own clock."""

    name = "tensorrt"

    def __init__(self) -> None:
        self._cache = TimingCache()

    def missing(self) -> str | None:
        """What to install, or that there is no device."""
        try:
            _package()
            _cuda.cuda().close()
        except MeasureError as error:
            return str(error)
        return None

    def versions(self) -> dict[str, str]:
        """TensorRT, and whether its networks are strongly typed."""
        trt = _package()
        typed = hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
        return {"tensorrt": str(trt.__version__), "typing": "strong" if typed else "weak"}

    def load(self, model: Path, *, threads: int = 1) -> EngineSession:
        """Build an engine of a file for one image.

        Raises:
            MeasureError: a package or the device is missing, or TensorRT refuses the file.
        """
        trt = _package()
        device = _cuda.cuda()
        try:
            return EngineSession(trt, _engine.build(trt, model, self._cache), device)
        except BaseException:
            device.close()
            raise

    def layer_times(self, model: Path, *, input_shape: tuple[int, int, int]) -> tuple[Layer, ...]:
        """Milliseconds and real type of each layer.

        Raises:
            MeasureError: as `load`.
        """
        with closing(self.load(model)) as session:
            return session.layers()

    def times(self, profile: HardwareProfile) -> bool:
        """Whether the device is this machine."""
        return profile.local and profile.runtime == self.name

    def reach(self, profile: HardwareProfile) -> list[Finding]:
        """The versions, where engines can be built and run here.

        Raises:
            MeasureError: a package or the device is missing.
        """
        if why := self.missing():
            raise MeasureError(f"{profile.name!r} cannot be measured: {why}")
        found = {**self.versions(), "energy": NO_MONITOR}
        return [Finding(name=name, value=value) for name, value in found.items()]

    def timings(
        self, models: Sequence[Path], profile: HardwareProfile, *, layers: bool = False, energy: bool = False,
        dry: list[str] | None = None, say: Say = lambda _: None,
    ) -> list[Timing | MeasureError]:  # fmt: skip
        """Time files on this machine's GPU. A file's fault costs that file. Energy is not measured here.

        Raises:
            MeasureError: a package or the device is missing.
        """
        self.reach(profile)
        if dry is not None:
            dry.append("# nothing to run: this machine's GPU is asked by the tensorrt package")
            return []
        with closing(self.load(_reference.reference_path())) as reference:
            return [self._timing(model, reference, layers=layers, say=say) for model in models]

    def _timing(self, model: Path, reference: EngineSession, *, layers: bool, say: Say) -> Timing | MeasureError:
        say(f"{model.name!r}: build the engine and time it")
        try:
            with closing(self.load(model)) as session:
                drift, times = _least_disturbed(session, reference)
                found = session.layers() if layers else ()
        except MeasureError as error:
            return error
        notes = ["GPU time of one image in a CUDA graph, copies not included; clocks as they were, not looked at"]
        if abs(drift) > DRIFT_LIMIT:
            notes.append(f"busy machine: the reference network drifted by {drift:+.1%}")
        return Timing(
            times_ms=times, device=reference.device, drift=drift, versions=self.versions(), notes=tuple(notes),
            layers=found,
        )  # fmt: skip


def _least_disturbed(session: EngineSession, reference: EngineSession) -> tuple[float, Times]:
    """Drift and times [runs] of the attempt in which the reference changed least, of three at most."""
    attempts: list[tuple[float, Times]] = []
    while not attempts or (abs(attempts[-1][0]) > DRIFT_LIMIT and len(attempts) < ATTEMPTS):
        before = np.median(_times(reference, REFERENCE_RUNS))
        times = _times(session, RUNS)
        after = np.median(_times(reference, REFERENCE_RUNS))
        attempts.append((float(after / before - 1), times))
    return min(attempts, key=lambda attempt: abs(attempt[0]))


def _times(session: EngineSession, runs: int) -> Times:
    image = np.random.default_rng(0).integers(0, 256, session.shape, dtype=np.uint8)
    return session.times(image, runs=runs, warm_up=WARM_UP_RUNS)


def _package() -> Any:
    """The package tensorrt.

    Raises:
        MeasureError: it is not installed, or is older than 8.6.
    """
    try:
        import tensorrt as trt  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError as error:
        raise MeasureError(f"the package tensorrt must be installed ({error}); {INSTALL}") from None
    if tuple(int(part) for part in str(trt.__version__).split(".")[:2]) < (8, 6):
        raise MeasureError(
            f"TensorRT must be 8.6 or newer, but is {trt.__version__}; use a board by its trtexec over ssh"
        )
    return trt


RUNTIME = TensorRt()
