"""Accuracy lost by INT8 and few-bit weights, and regained by quantisation-aware training (QAT).

    python -m benchmarks.qat --data fer2013.csv [--nets plain residual] [--epochs 10] [--json qat.json]

The forms are FP32, post-training quantisation (PTQ), QAT, QAT with learned steps, and few-bit weights. Every figure is
that of the ONNX file in ONNX Runtime on PublicTest. One standard error is 0.8 points at 3,589 faces. Forms of one net
share faces and most mistakes, so the error of their difference is smaller: it is `flips`, the root of the number of
faces that exactly one of the two predicts right.

INT8 covers all units, stem and head included; few-bit weights are those of the stages, with FP32 activations. `float,
as long` is trained further in FP32 for as many epochs. The claims: QAT loses at most 0.5 points against `float`, and
its step (128 faces on one thread, processor time) takes at most 2.5 times that of `float, as long`. Trained nets and
finished rows are cached below --cache, so a second call resumes.
"""

import argparse
import copy
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn

from nas.candidate import Candidate
from nas.compression.base import CompressionContext
from nas.data.base import FaceData
from nas.data.loading import load_data
from nas.onnx_export.exporter import export_onnx
from nas.onnx_export.folding import fold
from nas.onnx_export.parity import compute_parity
from nas.registry import load
from nas.targets.catalog import load_target
from nas.training.execution_format import ExecutionFormat, choose_execution
from nas.training.loop import train
from nas.training.recipe import recipe_for
from search_spaces._base import Architecture

FORMS = [
    "float",
    "float, as long",
    "PTQ",
    "QAT",
    "QAT, learned steps",
    "4-bit weights",
    "ternary weights",
    "binary weights",
]
NETS = {"plain": "dense", "residual": "residual"}
FLOAT, PTQ = "float", "PTQ"
FEW = {"4-bit weights": 4, "ternary weights": 2, "binary weights": 1}
FEW_EPOCHS, FEW_RATE = 2.0, 0.5
"""Few-bit weights need longer training at a higher rate than INT8."""
QAT = ExecutionFormat(memory_format="channels_last", precision="fp32")


def architecture_of(block: str) -> Architecture:
    """Four stages of the space `plain`, 16 to 128 channels, one block each."""
    space = load("space", "plain")
    seed = next(s for s in space.initial_configurations(channel_multiple=8) if s["stage2.block"] == block)
    configuration = {choice.name: choice.options[0] for choice in space.choices(channel_multiple=8)} | seed
    return space.decode(configuration)


class Steps:
    """The shortest training step in processor time, which a busy machine does not lengthen."""

    def __init__(self) -> None:
        self.shortest, self._begin = math.inf, math.inf

    @property
    def milliseconds(self) -> float:
        """Milliseconds of that step; 0 if nothing was trained."""
        return 0.0 if math.isinf(self.shortest) else 1000 * self.shortest

    def end(self, phase: str) -> None:
        """Record the end of a phase; a step lasts from the end of "augment" to that of "average"."""
        now = time.thread_time()
        if phase == "augment":
            self._begin = now
        elif phase == "average":
            self.shortest = min(self.shortest, now - self._begin)


class Bench:
    """One net and its quantised forms."""

    def __init__(self, word: str, data: FaceData, *, epochs: float, cache: Path) -> None:
        self.space, self.data, self.epochs, self.cache, self.word = load("space", "plain"), data, epochs, cache, word
        self.architecture = architecture_of(NETS[word])
        torch.manual_seed(0)
        self.net = self.space.build(self.architecture, input_shape=data.input_shape, classes=len(data.classes))
        self.recipe = recipe_for(sum(p.numel() for p in self.net.parameters()))
        self.seconds, self.steps = 0.0, Steps()
        self._trained(cache / f"{word}-{epochs:g}.pt")

    def _trained(self, path: Path) -> None:
        if path.exists():
            self.net.load_state_dict(torch.load(path, weights_only=True))
        else:
            shape = self.data.input_shape
            execution = choose_execution(self.net, input_shape=shape, batch_size=self.recipe.batch_size, device="cpu")
            self._fit(self.net, epochs=self.epochs, rate=1.0, execution=execution)
            torch.save(self.net.state_dict(), path)
        self.net.eval()

    def _fit(self, net: nn.Module, *, epochs: float, rate: float, execution: ExecutionFormat) -> None:
        curve = train(
            net, self.data.train, classes=len(self.data.classes), epochs=epochs, recipe=self.recipe,
            execution=execution, seed=1, lr_scale=rate, on_progress=_say, on_phase_end=self.steps.end,
        )  # fmt: skip
        print("\r", end="", flush=True)
        self.seconds = curve.seconds

    def context(self, *, weight_bits: int | None = None) -> CompressionContext:
        """The context of a form.

        All units are INT8, calibrated on 256 training faces; with `weight_bits`, only the stages' weights are
        quantised.
        """
        widths = self.space.widths(self.architecture)
        candidate = Candidate(
            space="plain", architecture=self.architecture, widths=widths, pruned=widths,
            bits=dict.fromkeys(("stem", *widths, "head"), 32 if weight_bits else 8),
            settings={f"weight_bits.{stage}": weight_bits for stage in widths} if weight_bits else {},
        )  # fmt: skip
        rows = np.linspace(0, len(self.data.train) - 1, 256).astype(int)
        return CompressionContext(
            candidate=candidate, profile=load_target("cpu"), input_shape=self.data.input_shape,
            images=self.data.train.images[rows], labels=self.data.train.labels[rows],
        )  # fmt: skip

    def graph(self, form: str, *, epochs: float, rate: float, execution: ExecutionFormat) -> fx.GraphModule:
        """The graph that a form exports."""
        if form in FEW:
            return self._few(FEW[form], execution)
        graph = fold(self.net, input_shape=self.data.input_shape)

        def fit(net: nn.Module) -> None:
            self._fit(net, epochs=epochs, rate=rate, execution=execution)

        if form == "float, as long":
            fit(graph)
        if form.startswith("float"):
            return graph
        quantize, context = load("compressor", "quantize"), self.context()
        if form == PTQ:
            return quantize.rewrite_graph(graph, context)
        return quantize.fine_tune(graph, replace(context, learn_scales=form == "QAT, learned steps"), fit)

    def _few(self, bits: int, execution: ExecutionFormat) -> fx.GraphModule:
        member, context = load("compressor", "few_bits"), self.context(weight_bits=bits)
        net = member.restructure(copy.deepcopy(self.net), context)
        with member.training(net, context):
            self._fit(net, epochs=FEW_EPOCHS, rate=FEW_RATE, execution=execution)
        graph: fx.GraphModule = member.rewrite_graph(fold(net, input_shape=self.data.input_shape), context)
        return graph

    def row(self, form: str, graph: fx.GraphModule) -> tuple[dict[str, Any], npt.NDArray[np.bool_]]:
        """Figures of the exported file of a graph, and whether each face [N] is predicted right."""
        path = self.cache / f"{self.word}.onnx"
        val = self.data.val
        export_onnx(graph, path, input_shape=self.data.input_shape, classes=self.data.classes, metadata={})
        session = load("runtime", "onnxruntime").load(path, threads=1)
        try:
            is_correct = session.predict(val.images).argmax(1) == val.labels
            parity = compute_parity(graph, session, val.images, path=path)
        finally:
            session.close()
        row = {
            "accuracy": float(is_correct.mean()),
            "agreement": parity.agreement,
            "max_difference": parity.max_difference,
        }
        row |= {"seconds": self.seconds, "step_ms": self.steps.milliseconds, "bytes": path.stat().st_size}
        return row, is_correct


def _say(epoch: float, loss: float) -> None:
    print(f"\repoch {epoch:.2f} loss {loss:.3f}", end="", flush=True)


def main() -> None:
    """Train, compress, print the table, and write the JSON file if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--epochs", type=float, default=10, help="epochs of the FP32 net")
    parser.add_argument("--forms", nargs="+", default=FORMS)
    parser.add_argument("--qat-epochs", type=float, default=1)
    parser.add_argument("--rate", type=float, default=0.05, help="peak learning rate of QAT as a share of the FP32 one")
    parser.add_argument("--bf16", action="store_true", help="train in bfloat16, whose rounding comes on top of QAT's")
    parser.add_argument("--cache", type=Path, default=Path("runs/qat"))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    data = load_data("fer2013", args.data)
    execution = ExecutionFormat(memory_format="channels_last", precision="bf16") if args.bf16 else QAT
    rows: list[dict[str, Any]] = []
    for word in args.nets:
        benchmark = Bench(word, data, epochs=args.epochs, cache=args.cache)
        reference: npt.NDArray[np.bool_] | None = None
        for form in args.forms:
            is_trained = form not in (FLOAT, PTQ)
            settings = f"-{args.qat_epochs:g}-{args.rate:g}-{execution.precision}" if is_trained else ""
            stem = args.cache / f"{word}-{args.epochs:g}-{form.replace(', ', '-').replace(' ', '-')}{settings}"
            if not stem.with_name(stem.name + ".json").exists():
                begin = time.perf_counter()
                benchmark.seconds, benchmark.steps = 0.0, Steps()
                graph = benchmark.graph(form, epochs=args.qat_epochs, rate=args.rate, execution=execution)
                row, is_correct = benchmark.row(form, graph)
                row |= {"net": word, "form": form, "how": settings, "total_seconds": time.perf_counter() - begin}
                np.save(stem.with_name(stem.name + ".npy"), is_correct)
                stem.with_name(stem.name + ".json").write_text(json.dumps(row))
            row = json.loads(stem.with_name(stem.name + ".json").read_text())
            is_correct = np.load(stem.with_name(stem.name + ".npy"))
            reference = is_correct if reference is None else reference
            row["points"] = 100 * (float(is_correct.mean()) - float(reference.mean()))
            row["flips"] = 100 * float(np.sqrt((is_correct != reference).sum())) / len(is_correct)
            rows.append(row)
            print(
                f"{word:9} {form + settings:34} {row['accuracy']:7.2%} {row['points']:+6.2f} "
                f"+- {row['flips']:.2f} points  "
                f"{row['bytes']:>8,} B  step {row['step_ms']:5.0f} ms  torch = file on {row['agreement']:.2%}"
            )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
