"""Evaluator of untrained candidates: latency, size and costs from an export with fresh weights.

The untrained file has the layers and the precision of the trained one, and so its latency and size. A candidate that
violates a limit on them is never trained.
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from nas.candidate import Candidate
from nas.compression.pipeline import CompressionPipeline
from nas.config import LimitFields
from nas.data.base import FaceData
from nas.evaluation.latency_evaluator import LatencyEvaluator
from nas.evaluation.proxy import Proxy
from nas.latency.costs import Costs, compute_costs
from nas.latency.int8_speedup import Int8Speedup, int8_speedup
from nas.latency.latency import Latency
from nas.models.seeding import forked_rng
from nas.onnx_export.exporter import ExportedFile, export_onnx
from nas.results.phase_timer import PhaseTimer
from nas.results.run_folder import RunFolder
from nas.training.model_builder import INITIALISATION, UNTRAINED_CALIBRATION_IMAGES, ModelBuilder


@dataclass(frozen=True, kw_only=True)
class UntrainedMetrics:
    """Figures of a candidate before any training.

    Attributes:
        costs: MACs and weights of the file.
        size_bytes: of the file.
        latency: on the target.
        host_latency: on this machine; None where the target is another device.
        int8_speedup: of the candidate against its FP32 baseline; None where nothing is in INT8, and where the candidate
            violates a limit anyway.
    """

    costs: Costs
    size_bytes: int
    latency: Latency
    host_latency: Latency | None
    int8_speedup: Int8Speedup | None = None


@dataclass(frozen=True, kw_only=True)
class UntrainedEvaluator:
    """Builds, exports and times networks with fresh weights. Their files are deleted again.

    Attributes:
        limits: a candidate that exceeds those of latency, size or memory needs no FP32 baseline.
        folder: place of the temporary files.
        builder: builds the networks.
        compression: gives the FP32 baseline.
        data: its image shape and classes.
        latency_evaluator: times the files.
        proxies: zero-cost proxies to score.
    """

    limits: LimitFields
    folder: RunFolder
    builder: ModelBuilder
    compression: CompressionPipeline
    data: FaceData
    latency_evaluator: LatencyEvaluator
    proxies: Sequence[Proxy] = ()

    def evaluate(self, candidate: Candidate, phase_timer: PhaseTimer) -> UntrainedMetrics:
        """Build, prune the shape, export untrained, count, and measure beside the FP32 baseline.

        Raises:
            CandidateError: any of it fails.
        """
        baseline = self.compression.fp32_baseline(candidate)
        with ExitStack() as stack:
            stack.enter_context(forked_rng(0))
            with phase_timer("build"):
                net = self.builder.build_final_shape(candidate).eval()
            exports = [stack.enter_context(self._exported_untrained(candidate, net, phase_timer))]
            if baseline is not None and not self._is_infeasible(*exports[0], phase_timer):
                exports.append(stack.enter_context(self._exported_untrained(baseline, net, phase_timer)))
            with phase_timer("measure"):
                latencies = self.latency_evaluator.measure_untrained(
                    [file.path for file, _ in exports], [costs for _, costs in exports], key=candidate.key,
                    limit_ms=self.limits.max_latency,
                )  # fmt: skip
        file, costs = exports[0]
        return UntrainedMetrics(
            costs=costs, size_bytes=file.size_bytes, latency=latencies[0],
            host_latency=latencies[0] if self.latency_evaluator.is_on_host else None,
            int8_speedup=int8_speedup(*latencies) if len(exports) > 1 else None,
        )  # fmt: skip

    def proxy_scores(self, candidate: Candidate, phase_timer: PhaseTimer) -> dict[str, float]:
        """Scores of the zero-cost proxies by name, larger is better; scores that are not finite are left out.

        The network has the weights that the training of the candidate starts from, but in its final shape.
        """
        if not self.proxies:
            return {}
        with phase_timer("proxies"), forked_rng(self.builder.seed_for(candidate, INITIALISATION)):
            net = self.builder.build_final_shape(candidate).eval()
            context = self.builder.compression_context(candidate, UNTRAINED_CALIBRATION_IMAGES)
            images = torch.from_numpy(context.images).float()
            scores = {proxy.name: proxy.score(net, images) for proxy in self.proxies}
        return {name: score for name, score in scores.items() if math.isfinite(score)}

    def _is_infeasible(self, file: ExportedFile, file_costs: Costs, phase_timer: PhaseTimer) -> bool:
        """Whether an untrained file clearly exceeds a limit, so that timing its FP32 baseline would be wasted."""
        if self.limits.max_size and file.size_bytes > self.limits.max_size:
            return True
        if self.limits.max_memory and (file_costs.memory_bytes or 0) > self.limits.max_memory:
            return True
        if not self.limits.max_latency:
            return False
        with phase_timer("measure"):
            return self.latency_evaluator.is_clearly_above(file.path, file_costs, self.limits.max_latency)

    @contextmanager
    def _exported_untrained(
        self, candidate: Candidate, net: nn.Module, phase_timer: PhaseTimer
    ) -> Iterator[tuple[ExportedFile, Costs]]:
        """The file of a network with fresh weights, and its costs; the file is deleted afterwards."""
        with phase_timer("build"):
            graph = self.builder.compress_graph(candidate, net, n_images=UNTRAINED_CALIBRATION_IMAGES, shapes_only=True)
        path = self.folder.path / "models" / f".draft-{candidate.key}-{os.getpid()}.onnx"
        try:
            with phase_timer("export"):
                file = export_onnx(
                    graph, path, input_shape=self.data.input_shape, classes=self.data.classes, metadata={}
                )
                costs = compute_costs(path)
            yield file, costs
        finally:
            path.unlink(missing_ok=True)
