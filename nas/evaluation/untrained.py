"""A candidate exported untrained: nobody trains what cannot be shipped."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from nas.candidate import Candidate
from nas.config import SearchConfig
from nas.evaluation.latency_evaluator import LatencyEvaluator
from nas.evaluation.proxy import Proxy
from nas.latency.costs import Costs, compute_costs
from nas.latency.estimate import Latency
from nas.latency.speedup import Int8Speedup, int8_speedup
from nas.onnx_export.exporter import ExportedFile, export_onnx
from nas.results.phase_timer import PhaseTimer
from nas.training.trainer import UNTRAINED_CALIBRATION_IMAGES, Trainer


@dataclass(frozen=True, kw_only=True)
class UntrainedMetrics:
    """What a candidate weighs and how fast it is, before a second of training.

    Attributes:
        costs: MACs and weights of the file.
        size_bytes: of the file.
        latency: on the target.
        host: on this machine; None when the target is predicted and nobody asked yet.
        gain: what its 8-bit units gain over the float twin; None where there are none.
    """

    costs: Costs
    size_bytes: int
    latency: Latency
    host_latency: Latency | None
    int8_speedup: Int8Speedup | None = None


@dataclass(frozen=True, kw_only=True)
class UntrainedEvaluator:
    """Builds, exports and times nets with fresh weights. No file of theirs is left behind.

    Attributes:
        config: what was asked.
        trainer: builds the nets.
        stopwatch: times their files.
        proxies: read off the net of each candidate that is to be trained.
    """

    config: SearchConfig
    trainer: Trainer
    latency_evaluator: LatencyEvaluator
    proxies: Sequence[Proxy] = ()

    def evaluate(self, candidate: Candidate, phase_timer: PhaseTimer) -> UntrainedMetrics:
        """Build, prune the shape, export untrained, count, measure beside the float twin.

        Raises:
            CandidateError: any of it fails.
        """
        twin = self.trainer.compression.fp32_baseline(candidate)
        with phase_timer("build"):
            torch.manual_seed(0)
            net = self.trainer.build_final_shape(candidate).eval()
        with ExitStack() as held:
            files = [held.enter_context(self._exported_untrained(candidate, net, phase_timer))]
            if twin is not None and not self._is_infeasible(*files[0], phase_timer):
                files.append(held.enter_context(self._exported_untrained(twin, net, phase_timer)))
            with phase_timer("measure"):
                latencies = self.latency_evaluator.measure_untrained(
                    [file.path for file, _ in files], [counted for _, counted in files], key=candidate.key,
                    limit_ms=self.config.limits.max_latency,
                )  # fmt: skip
        file, counted = files[0]
        return UntrainedMetrics(
            costs=counted, size_bytes=file.size_bytes, latency=latencies[0],
            host_latency=latencies[0] if self.latency_evaluator.is_on_host else None, int8_speedup=int8_speedup(*latencies) if len(files) > 1 else None,
        )  # fmt: skip

    def proxy_scores(self, candidate: Candidate, phase_timer: PhaseTimer) -> dict[str, float]:
        """What the zero-cost proxies read off the candidate's net; one that has no finite answer is left out."""
        if not self.proxies:
            return {}
        with phase_timer("proxies"), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.trainer.seed_for(candidate, -1))
            net = self.trainer.build_final_shape(candidate).eval()
            images = torch.from_numpy(
                self.trainer.compression_context(candidate, UNTRAINED_CALIBRATION_IMAGES).images
            ).float()
            found = {proxy.name: proxy.score(net, images) for proxy in self.proxies}
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def _is_infeasible(self, file: ExportedFile, file_costs: Costs, phase_timer: PhaseTimer) -> bool:
        """Whether a draft surely breaks a limit, so that its float twin need not be asked for what 8 bits gain."""
        if self.config.limits.max_size and file.size_bytes > self.config.limits.max_size:
            return True
        if not self.config.limits.max_latency:
            return False
        with phase_timer("measure"):
            return self.latency_evaluator.is_clearly_above(file.path, file_costs, self.config.limits.max_latency)

    @contextmanager
    def _exported_untrained(
        self, candidate: Candidate, net: nn.Module, phase_timer: PhaseTimer
    ) -> Iterator[tuple[ExportedFile, Costs]]:
        """The file of a candidate's net with fresh weights, and what it costs; the file is gone afterwards."""
        data = self.trainer.data
        with phase_timer("build"):
            graph = self.trainer.compress_graph(candidate, net, n_images=UNTRAINED_CALIBRATION_IMAGES, shapes_only=True)
        path = self.trainer.folder.path / "models" / f".draft-{candidate.key}-{os.getpid()}.onnx"
        try:
            with phase_timer("export"):
                file = export_onnx(graph, path, input_shape=data.input_shape, classes=data.classes, metadata={})
                counted = compute_costs(path)
            yield file, counted
        finally:
            path.unlink(missing_ok=True)
