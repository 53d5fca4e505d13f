"""Parity gate: does a runtime compute from a file what torch computes from the graph that the file was written from?"""

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

from hw_profiles._base import FLOAT16_BITS, INT8_BITS
from nas.errors import ParityError
from nas.onnx_export.exporter import OUTPUT_NAME, onnx_value_names
from nas.onnx_export.node_callback import run_with_callback
from nas.onnx_export.rewrite_check import RELATIVE_TOLERANCE, relative_difference

TIE_MARGIN = 0.02
"""Lead of the first class, in probability, up to which an image counts as a tie."""
Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class PredictSession(Protocol):
    """A loaded file: the part of a runtime's session that parity needs."""

    def predict(self, images: Images) -> Floats:
        """Output [N, K] of images [N, C, H, W] with values 0..255."""

    def close(self) -> None:
        """Release the file."""


@dataclass(frozen=True)
class Parity:
    """Agreement of a runtime with torch.

    Attributes:
        max_difference: largest difference of a probability, 0..1.
        agreement: share of images with the same top-1 class, 0..1.
        n_images: number of images compared.
        non_tie_agreement: `agreement` among the images whose first class leads by more than `TIE_MARGIN` in torch; 1
            without any.
    """

    max_difference: float
    agreement: float
    n_images: int
    non_tie_agreement: float = 1.0


def compute_parity(graph: fx.GraphModule, session: PredictSession, images: Images, *, path: Path) -> Parity:
    """Compare torch and a loaded file on images [N, C, H, W].

    Raises:
        ParityError: there are no images, or the runtime's output has another shape; the message names `path`.
    """
    if not len(images):
        raise ParityError(f"parity of {path} must be checked on images, but got none")
    expected, got = torch_probabilities(graph, images), session.predict(images)
    if expected.shape != got.shape:
        raise ParityError(f"{path} must give probabilities {expected.shape}, but gave {got.shape}")
    same = expected.argmax(1) == got.argmax(1)
    ordered = np.sort(expected, axis=1)
    is_single = expected.shape[1] == 1
    no_tie = np.ones(len(expected), dtype=bool) if is_single else ordered[:, -1] - ordered[:, -2] > TIE_MARGIN
    return Parity(
        max_difference=float(np.nan_to_num(np.abs(expected - got), nan=np.inf).max()),
        agreement=float(same.mean()),
        n_images=len(images),
        non_tie_agreement=float(same[no_tie].mean()) if no_tie.any() else 1.0,
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
    """The parity gate: like `compute_parity`, but too large a difference raises, with the first diverging node named.

    Args:
        graph: the graph that was exported to `path`.
        session: the loaded file.
        images: [N, C, H, W] uint8.
        path: the file.
        load: loads an ONNX file in the same runtime; without it the diverging node is not searched for.
        max_difference: largest accepted difference of a probability; see `parity_tolerance` for INT8 and FP16.
        min_agreement: smallest accepted share of equal top-1 classes among images that are no tie in torch. Where two
            classes are within a rounding step of each other, either order is right.

    Raises:
        ParityError: the two differ by more than that.
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


def check_logits(graph: fx.GraphModule, path: Path, images: Images, *, load: Callable[[Path], PredictSession]) -> None:
    """Reject a file whose logits differ from the graph's by more than float32 rounding.

    Unlike probabilities, logits of random weights differ in every class.

    Args:
        graph: the FP32 graph that was exported to `path`.
        path: the file.
        images: [N, C, H, W] uint8.
        load: loads an ONNX file in a runtime.

    Raises:
        ParityError: they differ; the message names the first diverging node.
    """
    model = onnx.load(path)
    with torch.inference_mode():
        expected = graph(torch.from_numpy(images).float())
    got = torch.from_numpy(_run_truncated(model, model.graph.node[-2].name, images, load))  # the last is the softmax
    difference = relative_difference(expected, got) if expected.shape == got.shape else float("inf")
    if not difference <= RELATIVE_TOLERANCE:
        node = first_diverging_node(graph, path, images, load=load, tolerance=RELATIVE_TOLERANCE)
        raise ParityError(
            "torch and the runtime must compute the same logits on random weights, but they differ by "
            f"{difference:.2g} of the largest; first diverging node: {node}"
        )


def parity_tolerance(bits: Mapping[str, int]) -> float:
    """Largest difference of a probability that a correct file of these bit-widths shows.

    - FP32 files differ by rounding only: 1e-4.
    - FP16 keeps 11 bits, and runtimes may keep more in between: 0.01.
    - In INT8 files a value on the other side of a rounding step moves later values by whole steps: 0.15.

    Args:
        bits: unit to bit-width.
    """
    return 0.15 if INT8_BITS in bits.values() else 0.01 if FLOAT16_BITS in bits.values() else 1e-4


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

    Bisection: each probe is the file truncated after one node, so that any runtime can run it. Of several divergences
    it finds one, which is the first if all later nodes diverge too.
    """
    expected = _node_outputs(graph, torch.from_numpy(images).float())
    model = onnx.load(path)
    names = [node.name for node in model.graph.node if node.name in expected]

    def differs(name: str) -> bool:
        want = expected[name].flatten(1).numpy()
        got = _run_truncated(model, name, images, load)
        # 1e-6: a node that outputs zeros only may differ by rounding. `not <=`: NaN counts as a difference.
        return got.shape != want.shape or not np.abs(got - want).max() <= tolerance * (np.abs(want).max() + 1e-6)

    low, high = 0, len(names)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if differs(names[middle]) else (middle + 1, high)
    return names[low] if low < len(names) else OUTPUT_NAME


def _node_outputs(graph: fx.GraphModule, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    names = onnx_value_names(graph)
    values: dict[str, torch.Tensor] = {}

    def record_value(node: fx.Node, value: torch.Tensor) -> torch.Tensor:
        if node in names:
            values[names[node]] = value
        return value

    with torch.inference_mode():
        run_with_callback(graph, pixels, record_value)
    return values


def _run_truncated(model: onnx.ModelProto, name: str, images: Images, load: Callable[[Path], PredictSession]) -> Floats:
    truncated = onnx.ModelProto()
    truncated.CopyFrom(model)
    last = next(i for i, node in enumerate(truncated.graph.node) if node.name == name)
    del truncated.graph.node[last + 1 :]
    read = {value for node in truncated.graph.node for value in node.input}
    initializers = [tensor for tensor in truncated.graph.initializer if tensor.name in read]
    del truncated.graph.initializer[:]
    truncated.graph.initializer.extend(initializers)
    # Sessions return one float32 matrix, so the node's output is cast and flattened to [N, numbers].
    cast = helper.make_node("Cast", [name], [f"{name}/float"], to=TensorProto.FLOAT)
    flatten = helper.make_node("Flatten", [f"{name}/float"], [OUTPUT_NAME], axis=1)
    truncated.graph.node.extend([cast, flatten])
    truncated.graph.output[0].CopyFrom(helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["N", None]))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "probe.onnx"
        onnx.save(truncated, file)
        session = load(file)
        try:
            return session.predict(images)
        finally:
            session.close()
