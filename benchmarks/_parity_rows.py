"""One row of benchmarks/parity.py: a candidate trained, compressed, exported, and its file compared with torch."""

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
"""Bars: difference of the accuracies in percentage points, and share of equal top-1 predictions."""
CALIBRATION_IMAGES = 256
BATCH = 16
LOGIT_STD = 1.5
"""Standard deviation to which each logit over training images is scaled, about that of a trained net."""


@dataclass(frozen=True, kw_only=True)
class ParityRow:
    """One candidate.

    Attributes:
        index: in the list of candidates.
        target: name of the profile.
        key: of the candidate.
        candidate: as JSON.
        torch_accuracy: 0..1.
        classes: number of classes that torch predicts at least once.
        file_accuracy: 0..1, of the file in ONNX Runtime.
        agreement: share 0..1 of equal top-1 predictions.
        max_difference: largest difference of a probability.
        leads: margins of the first class over the second in torch, where the top-1 predictions differ.
        seconds: of the whole comparison.
        error: reason why the candidate could not be built; the figures are void then.
        rounded_accuracy: of torch with the output of each FP16 layer rounded to FP16; None without FP16 layers.
        rounded_agreement: of that with the file.
        gain: largest factor by which a logit was scaled; None in rows of earlier versions.
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
        """Absolute difference of the accuracies in percentage points."""
        return 100 * abs(self.torch_accuracy - self.file_accuracy)

    @property
    def is_passing(self) -> bool:
        """Whether the row meets both bars."""
        return not self.error and self.percentage_points <= MAX_POINTS and self.agreement >= MIN_AGREEMENT


@dataclass(frozen=True, kw_only=True)
class ParityTrial:
    """How candidates of a space are trained and compared.

    Attributes:
        space: builds the nets.
        compression: compressors, and the target that they compress for.
        data: faces for training and comparison.
        epochs: passes over its training images.
        rescales_logits: whether logits are scaled to the spread of a trained net.
    """

    space: SearchSpace
    compression: CompressionPipeline
    data: FaceData
    epochs: float
    rescales_logits: bool = True

    def row(self, candidate: Candidate) -> ParityRow:
        """The row of a candidate, with the reason as `error` if it could not be built; its `index` is -1."""
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
        file_probabilities = self._onnx_probabilities(graph)
        graph.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        torch_outputs = torch_probabilities(graph, images)
        rounded = _fp16_rounded_classes(graph, candidate, images)
        differing = np.flatnonzero(torch_outputs.argmax(1) != file_probabilities.argmax(1))
        sorted_outputs = np.sort(torch_outputs[differing], axis=1)
        return ParityRow(
            index=-1, target=context.profile.name, key=candidate.key, candidate=candidate.to_json(),
            classes=len(np.unique(torch_outputs.argmax(1))),
            torch_accuracy=float((torch_outputs.argmax(1) == labels).mean()),
            file_accuracy=float((file_probabilities.argmax(1) == labels).mean()),
            agreement=1 - len(differing) / len(file_probabilities),
            max_difference=float(np.abs(torch_outputs - file_probabilities).max()),
            leads=tuple(round(float(lead), 4) for lead in sorted_outputs[:, -1] - sorted_outputs[:, -2]),
            seconds=time.perf_counter() - begin,
            rounded_accuracy=None if rounded is None else float((rounded == labels).mean()),
            rounded_agreement=None if rounded is None else float((rounded == file_probabilities.argmax(1)).mean()),
            gain=gain,
        )  # fmt: skip

    def _train_and_prune(self, candidate: Candidate, context: CompressionContext) -> torch.nn.Module:
        """The net in its final shape: 0.6 of the epochs before pruning, 0.4 after it."""
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
        """Probabilities [N, K] of the selection split, from the exported file in ONNX Runtime."""
        images = self.data.val.images
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "candidate.onnx"
            export_onnx(graph, path, input_shape=self.data.input_shape, classes=self.data.classes, metadata={})
            session = load("runtime", "onnxruntime").load(path, threads=1)
            probabilities = np.concatenate([session.predict(images[i : i + 256]) for i in range(0, len(images), 256)])
            session.close()
        return probabilities


def _fp16_rounded_classes(
    graph: torch.fx.GraphModule, candidate: Candidate, images: Images
) -> npt.NDArray[np.int64] | None:
    """Predicted classes [N] with the output of each FP16 layer rounded; None without such layers."""
    if 16 not in candidate.bits.values():
        return None
    batches = (torch.from_numpy(images[i : i + 256]).float() for i in range(0, len(images), 256))
    return np.concatenate([float16_logits(graph, candidate.bits, batch).argmax(1).numpy() for batch in batches])


def _rescale_logits(net: torch.nn.Module, images: Images) -> float:
    """Scale and shift the last layer so that each logit has mean 0 and standard deviation `LOGIT_STD`.

    A barely trained net predicts one class for every face, and its agreement would prove nothing.

    Returns:
        The largest factor.
    """
    with torch.no_grad():
        logits = net(torch.from_numpy(images).float())
        head = [module for module in net.modules() if isinstance(module, torch.nn.Linear)][-1]
        gain = LOGIT_STD / logits.std(0).clamp(min=1e-6)  # a constant logit stays finite
        head.weight.mul_(gain[:, None])
        head.bias.sub_(logits.mean(0)).mul_(gain)
    return float(gain.max())
