"""One candidate learned, compressed, exported, and its file compared with torch: a row of benchmarks/parity.py."""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.fx

from nas.candidate import Candidate
from nas.compression.base import CompressionContext
from nas.compression.pipeline import CompressionPipeline
from nas.compression.quantization.float16 import float16_logits
from nas.data.base import FaceData, Images
from nas.errors import CandidateError
from nas.onnx_export.exporter import export_onnx
from nas.onnx_export.parity import torch_probabilities
from nas.registry import load
from nas.training.execution_format import ExecutionFormat
from nas.training.loop import train
from nas.training.recipe import recipe_for
from search_spaces._base import SearchSpace

MAX_POINTS, MIN_AGREEMENT = 0.3, 0.995
CALIBRATION_IMAGES = 256
BATCH = 16
LOGIT_STD = 1.5
"""Standard deviation of each logit over training images, about that of a trained net."""


@dataclass(frozen=True, kw_only=True)
class ParityRow:
    """One candidate. Accuracies and agreement are shares, 0..1; `classes` counts those that torch says at least once.

    `leads` are by how much the first class led the second in torch, where the two disagree; `rounded_accuracy` and
    `rounded_agreement` compare the file with torch rounding each float16 layer's output, None without float16. `gain`
    is the largest factor by which a logit was spread, None in rows of earlier versions.
    """

    index: int
    target: str
    key: str
    candidate: str
    torch_accuracy: float
    classes: int
    file_accuracy: float
    agreement: float
    max_difference: float
    leads: tuple[float, ...]
    seconds: float
    error: str = ""
    rounded_accuracy: float | None = None
    rounded_agreement: float | None = None
    gain: float | None = None

    @property
    def percentage_points(self) -> float:
        """Difference of the accuracies in points."""
        return 100 * abs(self.torch_accuracy - self.file_accuracy)

    @property
    def is_passing(self) -> bool:
        """Whether both bars are kept."""
        return not self.error and self.percentage_points <= MAX_POINTS and self.agreement >= MIN_AGREEMENT


@dataclass(frozen=True, kw_only=True)
class ParityTrial:
    """How candidates of a space are learned and compared.

    Attributes:
        space: builds their nets.
        compression: what is done to them, and for which target.
        data: what they learn and are compared on.
        epochs: of its training images.
        spread: whether logits shall vary like those of a trained net.
    """

    space: SearchSpace
    compression: CompressionPipeline
    data: FaceData
    epochs: float
    rescales_logits: bool = True

    def row(self, candidate: Candidate) -> ParityRow:
        """The row of a candidate, or one with the reason why it could not be made; its index is not known yet."""
        try:
            return self._compare(candidate)
        except CandidateError as error:
            return ParityRow(
                index=-1, target=self.compression.profile.name, key=candidate.key, candidate=candidate.to_json(),
                torch_accuracy=0, classes=0, file_accuracy=0, agreement=0, max_difference=1, leads=(), seconds=0,
                error=" ".join(str(error).split()),
            )  # fmt: skip

    def _compare(self, candidate: Candidate) -> ParityRow:
        begin, labels, images = time.perf_counter(), self.data.val.labels, self.data.val.images
        rows = np.linspace(0, len(self.data.train) - 1, CALIBRATION_IMAGES).astype(int)
        context = CompressionContext(
            candidate=candidate, profile=self.compression.profile, input_shape=self.data.input_shape,
            images=self.data.train.images[rows], labels=np.asarray(self.data.train.labels[rows], dtype=np.int64),
        )  # fmt: skip
        net = self._train_and_prune(candidate, context)
        gain = _rescale_logits(net.eval(), context.images) if self.rescales_logits else 1.0
        graph = self.compression.compress_graph(net, context)
        got = self._onnx_probabilities(graph)
        graph.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        expected = torch_probabilities(graph, images)
        rounded = _fp16_rounded_classes(graph, candidate, images)
        differ = np.flatnonzero(expected.argmax(1) != got.argmax(1))
        ordered = np.sort(expected[differ], axis=1)
        return ParityRow(
            index=-1, target=context.profile.name, key=candidate.key, candidate=candidate.to_json(),
            classes=len(np.unique(expected.argmax(1))),
            torch_accuracy=float((expected.argmax(1) == labels).mean()),
            file_accuracy=float((got.argmax(1) == labels).mean()),
            agreement=1 - len(differ) / len(got), max_difference=float(np.abs(expected - got).max()),
            leads=tuple(round(float(lead), 4) for lead in ordered[:, -1] - ordered[:, -2]),
            seconds=time.perf_counter() - begin,
            rounded_accuracy=None if rounded is None else float((rounded == labels).mean()),
            rounded_agreement=None if rounded is None else float((rounded == got.argmax(1)).mean()),
            gain=gain,
        )  # fmt: skip

    def _train_and_prune(self, candidate: Candidate, context: CompressionContext) -> torch.nn.Module:
        """The net in its final shape: it learns in full for 0.6 of the epochs, and pruned for the rest."""
        torch.manual_seed(0)
        net = self._build(candidate, candidate.widths)
        self._train(net, context, 0.6, 0)
        if self.compression.changes_shape(candidate):
            slim = self._build(candidate, candidate.pruned)
            self.compression.prune(net, slim, context)
            net = self.compression.restructure(slim, context)
        self._train(net, context, 0.4, 1)
        return net

    def _build(self, candidate: Candidate, widths: dict[str, int]) -> torch.nn.Module:
        return self.space.build(
            candidate.architecture, input_shape=self.data.input_shape, classes=len(self.data.classes), widths=widths
        )

    def _train(self, net: torch.nn.Module, context: CompressionContext, share: float, seed: int) -> None:
        recipe = replace(recipe_for(sum(p.numel() for p in net.parameters())), batch_size=BATCH)
        with self.compression.training(net, context) as before_step:
            train(
                net, self.data.train, classes=len(self.data.classes), epochs=share * self.epochs, recipe=recipe,
                seed=seed, execution=ExecutionFormat(memory_format="channels_last"), before_step=before_step,
            )  # fmt: skip

    def _onnx_probabilities(self, graph: torch.fx.GraphModule) -> npt.NDArray[np.float32]:
        """Probabilities [N, K] of the selection split, by the exported file in ONNX Runtime."""
        images = self.data.val.images
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "candidate.onnx"
            export_onnx(graph, path, input_shape=self.data.input_shape, classes=self.data.classes, metadata={})
            session = load("runtime", "onnxruntime").load(path, threads=1)
            said = np.concatenate([session.predict(images[i : i + 256]) for i in range(0, len(images), 256)])
            session.close()
        return said


def _fp16_rounded_classes(
    graph: torch.fx.GraphModule, candidate: Candidate, images: Images
) -> npt.NDArray[np.int64] | None:
    """Classes [N] if every float16 layer rounds what it writes; None if there is no such layer."""
    if 16 not in candidate.bits.values():
        return None
    parts = (torch.from_numpy(images[i : i + 256]).float() for i in range(0, len(images), 256))
    return np.concatenate([float16_logits(graph, candidate.bits, p).argmax(1).numpy() for p in parts])


def _rescale_logits(net: torch.nn.Module, images: Images) -> float:
    """Have each logit vary by `LOGIT_STD` around 0, by the last layer: a net that always says the same proves nothing.

    Returns:
        The largest factor.
    """
    with torch.no_grad():
        logits = net(torch.from_numpy(images).float())
        head = [module for module in net.modules() if isinstance(module, torch.nn.Linear)][-1]
        gain = LOGIT_STD / logits.std(0).clamp(min=1e-6)
        head.weight.mul_(gain[:, None])
        head.bias.sub_(logits.mean(0)).mul_(gain)
    return float(gain.max())
