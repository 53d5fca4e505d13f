"""What a compressor is: genes that a target allows, and what they do to a net or to its folded graph."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from torch import fx, nn

from hw_profiles._base import HardwareProfile
from search_spaces._base import Choice, Value


class Compressor(ABC):
    """One way to make a net smaller or faster. Stateless.

    Life: `choices` is asked once for a target. A candidate that is pruned goes through `on_model` half-way through its
    training; every finished candidate goes through `fold`, then `on_graph`, then the export.

    Promises: the neutral setting changes nothing; a stronger setting never makes the file larger; the result still
    exports, and torch computes from it what the exported file computes.
    """

    name: str

    @abstractmethod
    def choices(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[Choice, ...]:
        """The genes, cut down to what the target's device can run; none where it gains nothing.

        Args:
            stages: names of the stages of the space's body, in order; `stem` and `head` come on top.
            profile: the target.
        """

    def seeds(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[dict[str, Value], ...]:
        """Settings worth trying first, each over all or none of this member's genes; the neutral one comes first."""
        return ({},)

    # A hook may do nothing, so it is not abstract.
    def on_model(self, wide: nn.Module, slim: nn.Module, *, input_shape: tuple[int, int, int]) -> None:  # noqa: B027
        """Fill a fresh slim net, in place, from a trained wide one with the same module names.

        Raises:
            BuildError: the slim net is not a narrower form of the wide one; the layer is named.
        """

    def on_graph(
        self, graph: fx.GraphModule, *, bits: Mapping[str, int], calibration: npt.NDArray[np.uint8], signed: bool
    ) -> fx.GraphModule:
        """Rewrite a folded graph for the export.

        Args:
            graph: from `nas.export.fold`; it may be changed.
            bits: bit-width (8, 16 or 32) by unit: `stem`, each stage in use, `head`.
            calibration: training images [N, C, H, W].
            signed: whether 8-bit activations are int8 with zero point 0 (TensorRT, ARM) or uint8 (x86).

        Returns:
            A graph that computes in torch what the exported file computes in a runtime.
        """
        return graph
