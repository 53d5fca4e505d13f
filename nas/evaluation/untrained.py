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
from nas.evaluation.latency_evaluator import Stopwatch
from nas.evaluation.proxy import Proxy
from nas.latency.costs import Costs, costs
from nas.latency.estimate import Measurement
from nas.latency.speedup import Gain, gain
from nas.onnx_export.exporter import ExportedFile, export
from nas.results.phase_timer import Clock
from nas.training.trainer import DRAFT_IMAGES, Trainer


@dataclass(frozen=True, kw_only=True)
class Draft:
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
    latency: Measurement
    host: Measurement | None
    gain: Gain | None = None


@dataclass(frozen=True, kw_only=True)
class Drafter:
    """Builds, exports and times nets with fresh weights. No file of theirs is left behind.

    Attributes:
        config: what was asked.
        trainer: builds the nets.
        stopwatch: times their files.
        proxies: read off the net of each candidate that is to be trained.
    """

    config: SearchConfig
    trainer: Trainer
    stopwatch: Stopwatch
    proxies: Sequence[Proxy] = ()

    def draft(self, candidate: Candidate, clock: Clock) -> Draft:
        """Build, prune the shape, export untrained, count, measure beside the float twin.

        Raises:
            CandidateError: any of it fails.
        """
        twin = self.trainer.compression.float_twin(candidate)
        with clock("build"):
            torch.manual_seed(0)
            net = self.trainer.shaped(candidate).eval()
        with ExitStack() as held:
            files = [held.enter_context(self._untrained(candidate, net, clock))]
            if twin is not None and not self._is_out(*files[0], clock):
                files.append(held.enter_context(self._untrained(twin, net, clock)))
            with clock("measure"):
                latencies = self.stopwatch.drafts(
                    [file.path for file, _ in files], [counted for _, counted in files], key=candidate.key,
                    limit_ms=self.config.max_latency,
                )  # fmt: skip
        file, counted = files[0]
        return Draft(
            costs=counted, size_bytes=file.size_bytes, latency=latencies[0],
            host=latencies[0] if self.stopwatch.is_host else None, gain=gain(*latencies) if len(files) > 1 else None,
        )  # fmt: skip

    def proxied(self, candidate: Candidate, clock: Clock) -> dict[str, float]:
        """What the zero-cost proxies read off the candidate's net; one that has no finite answer is left out."""
        if not self.proxies:
            return {}
        with clock("proxies"), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.trainer.seed(candidate, -1))
            net = self.trainer.shaped(candidate).eval()
            images = torch.from_numpy(self.trainer.context(candidate, DRAFT_IMAGES).images).float()
            found = {proxy.name: proxy.score(net, images) for proxy in self.proxies}
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def _is_out(self, file: ExportedFile, counted: Costs, clock: Clock) -> bool:
        """Whether a draft surely breaks a limit, so that its float twin need not be asked for what 8 bits gain."""
        if self.config.max_size and file.size_bytes > self.config.max_size:
            return True
        if not self.config.max_latency:
            return False
        with clock("measure"):
            return self.stopwatch.is_surely_above(file.path, counted, self.config.max_latency)

    @contextmanager
    def _untrained(self, candidate: Candidate, net: nn.Module, clock: Clock) -> Iterator[tuple[ExportedFile, Costs]]:
        """The file of a candidate's net with fresh weights, and what it costs; the file is gone afterwards."""
        data = self.trainer.data
        with clock("build"):
            graph = self.trainer.graph(candidate, net, images=DRAFT_IMAGES, shapes_only=True)
        path = self.trainer.folder.path / "models" / f".draft-{candidate.key}-{os.getpid()}.onnx"
        try:
            with clock("export"):
                file = export(graph, path, input_shape=data.input_shape, classes=data.classes, metadata={})
                counted = costs(path)
            yield file, counted
        finally:
            path.unlink(missing_ok=True)
