"""What a runtime is: something that loads an exported file on a device and runs it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


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
    def missing(self) -> str | None:
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
