"""The proof that a runtime computes from a file what torch computes from the graph that it was written from."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper
from torch import fx

from nas.errors import ParityError
from nas.onnx_export.exporter import OUTPUT_NAME, onnx_value_names

TIE_MARGIN = 0.02
"""Lead of the first class, in probability, up to which an image counts as a tie."""
Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class PredictSession(Protocol):
    """A loaded file: what parity needs of a runtime's session."""

    def predict(self, images: Images) -> Floats:
        """Output [N, K] of images [N, C, H, W] with values 0..255."""

    def close(self) -> None:
        """Release the file."""


@dataclass(frozen=True)
class Parity:
    """How well the runtime agrees with torch on `n` images.

    Attributes:
        max_difference: largest difference of a probability, 0..1.
        agreement: share of images with the same top-1 class, 0..1.
        n: images compared.
        clear_agreement: the same, among the images whose first class leads by more than `TIE` in torch; 1 without any.
    """

    max_difference: float
    agreement: float
    n_images: int
    non_tie_agreement: float = 1.0


def compute_parity(graph: fx.GraphModule, session: PredictSession, images: Images, *, path: Path) -> Parity:
    """Compare torch and a loaded file on images [N, C, H, W].

    Raises:
        ParityError: there are no images, or the runtime's output has another shape (`path` is named).
    """
    if not len(images):
        raise ParityError(f"parity of {path} must be checked on images, but got none")
    expected, got = torch_probabilities(graph, images), session.predict(images)
    if expected.shape != got.shape:
        raise ParityError(f"{path} must give probabilities {expected.shape}, but gave {got.shape}")
    same = expected.argmax(1) == got.argmax(1)
    ordered = np.sort(expected, axis=1)
    clear = (
        ordered[:, -1] - ordered[:, -2] > TIE_MARGIN if expected.shape[1] > 1 else np.ones(len(expected), dtype=bool)
    )
    return Parity(
        max_difference=float(np.nan_to_num(np.abs(expected - got), nan=np.inf).max()),
        agreement=float(same.mean()),
        n_images=len(images),
        non_tie_agreement=float(same[clear].mean()) if clear.any() else 1.0,
    )


def check_parity(
    graph: fx.GraphModule,
    session: PredictSession,
    images: Images,
    *,
    path: Path,
    load: Callable[[Path], PredictSession] | None = None,
    max_difference: float = 1e-4,
    min_agreement: float = 0.99,
) -> Parity:
    """The parity gate: like `parity`, but a disagreement fails, with the first diverging node named.

    Args:
        graph: what was exported to `path`.
        session: the loaded file.
        images: [N, C, H, W] uint8.
        path: the file.
        load: loads an ONNX file in the same runtime; needed to find the node.
        max_difference: largest difference of a probability that passes. Files with 8-bit units: see `tolerance`.
        min_agreement: least share of equal top-1 classes that passes, among images that are no tie in torch: where two
            classes are within a rounding step of each other, either order is right.

    Raises:
        ParityError: the two disagree by more than that.
    """
    result = compute_parity(graph, session, images, path=path)
    if result.max_difference <= max_difference and result.non_tie_agreement >= min_agreement:
        return result
    node = None if load is None else first_diverging_node(graph, path, images[:8], load=load, tolerance=max_difference)
    where = "the first diverging node was not searched for" if load is None else f"first diverging node: {node}"
    raise ParityError(
        f"torch and the runtime must agree on {path.name} within {max_difference:g} and on {min_agreement:.0%} of "
        f"the classes, but differ by {result.max_difference:.3g} and agree on {result.non_tie_agreement:.2%}; {where}"
    )


def parity_tolerance(bits: Mapping[str, int]) -> float:
    """Largest difference of a probability that a sound file of these bit-widths shows.

    Float files differ by rounding only. In 8-bit files one value that falls on the other side of a rounding step moves
    later ones by whole steps; in 16-bit files float16 keeps 11 bits and runtimes may keep more in between.
    """
    return 0.15 if 8 in bits.values() else 0.01 if 16 in bits.values() else 1e-4


def torch_probabilities(graph: fx.GraphModule, images: Images, *, batch_size: int = 256) -> Floats:
    """Softmax [N, K] of the graph on images [N, C, H, W]."""
    with torch.inference_mode():
        parts = [
            graph(torch.from_numpy(images[i : i + batch_size]).float()).softmax(1)
            for i in range(0, len(images), batch_size)
        ]
    return torch.cat(parts).numpy()


def first_diverging_node(
    graph: fx.GraphModule, path: Path, images: Images, *, load: Callable[[Path], PredictSession], tolerance: float
) -> str:
    """The first node, in order of execution, whose output differs by more than `tolerance` of its largest value.

    Bisection: each probe is the file cut off after one node, so that any runtime can answer it.
    """
    expected = _node_outputs(graph, torch.from_numpy(images).float())
    model = onnx.load(path)
    names = [node.name for node in model.graph.node if node.name in expected]

    def differs(name: str) -> bool:
        want = expected[name].flatten(1).numpy()
        got = _run_truncated(model, name, images, load)
        return got.shape != want.shape or not np.abs(got - want).max() <= tolerance * (np.abs(want).max() + 1e-6)

    low, high = 0, len(names)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if differs(names[middle]) else (middle + 1, high)
    return names[low] if low < len(names) else OUTPUT_NAME


def _node_outputs(graph: fx.GraphModule, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    names = onnx_value_names(graph)
    values: dict[str, torch.Tensor] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> torch.Tensor:
            result: torch.Tensor = super().run_node(n)
            if n in names:
                values[names[n]] = result
            return result

    with torch.inference_mode():
        Recorder(graph).run(pixels)
    return values


def _run_truncated(model: onnx.ModelProto, name: str, images: Images, load: Callable[[Path], PredictSession]) -> Floats:
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    last = next(i for i, node in enumerate(cut.graph.node) if node.name == name)
    del cut.graph.node[last + 1 :]
    read = {value for node in cut.graph.node for value in node.input}
    kept = [tensor for tensor in cut.graph.initializer if tensor.name in read]
    del cut.graph.initializer[:]
    cut.graph.initializer.extend(kept)
    ends = [helper.make_node("Cast", [name], [f"{name}/float"], to=TensorProto.FLOAT)]
    ends.append(helper.make_node("Flatten", [f"{name}/float"], [OUTPUT_NAME], axis=1))
    cut.graph.node.extend(ends)
    cut.graph.output[0].CopyFrom(helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["N", None]))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "probe.onnx"
        onnx.save(cut, file)
        session = load(file)
        try:
            return session.predict(images)
        finally:
            session.close()
