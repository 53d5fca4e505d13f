"""Compression of other people's nets: which are opened, pruned by half, quantised to INT8, exported, and equal.

    python -m benchmarks.compress_models --nets nets.py
    python -m benchmarks.compress_models --names timm:resnet18,torchvision:mobilenet_v2 --json rows.json

Each net gets random weights. It passes where its folded form equals the factory's net, the net of half the channels
equals the whole one with the leaving channels silenced, and ONNX Runtime computes both files: float to rounding, INT8
as torch does. `in parts` means that some weights are in opaque regions, which are neither pruned nor quantised.
"""

import argparse
import importlib
import importlib.util
import inspect
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn

from nas import registry
from nas.candidate import Candidate
from nas.compression.base import CompressionContext
from nas.compression.compressors.quantize import COMPRESSOR as QUANTIZE
from nas.errors import CandidateError, UserError, one_line
from nas.models.user_model import UserModelSpace
from nas.models.user_model_units import Preprocessing, split_into_stages
from nas.onnx_export.exporter import export_onnx
from nas.onnx_export.folding import fold
from nas.onnx_export.opaque_region import Region
from nas.onnx_export.parity import check_logits, check_parity
from nas.onnx_export.rewrite_check import probe_images, randomised
from nas.runtimes.ort.session import CPU_PROVIDER, OrtSession, create_session, session_options
from nas.targets.catalog import load_target

CLASSES = tuple(f"class{i}" for i in range(7))
PASSED, IN_PARTS, REFUSED, WRONG = "passed", "in parts", "refused", "wrong"
INT8_TOLERANCE, INT8_AGREEMENT = 0.15, 0.9


@dataclass(frozen=True)
class Row:
    """Outcome of one net.

    Attributes:
        name: of the net.
        outcome: passed, in parts, refused or wrong.
        opaque_share: share of its weights in opaque regions, 0..1.
        pruned_share: weights of the half-wide net over those of the whole one.
        seconds: time for all steps.
        reason: why it was refused or is wrong.
    """

    name: str
    outcome: str
    opaque_share: float = 0.0
    pruned_share: float = 1.0
    seconds: float = 0.0
    reason: str = ""


def check_net(name: str, make: Callable[[], nn.Module], input_shape: tuple[int, int, int]) -> Row:
    """Run one net through every step.

    Args:
        name: for the table.
        make: the factory.
        input_shape: (C, H, W) of the images.
    """
    start = time.perf_counter()
    torch.manual_seed(0)
    try:
        net = make()
    except Exception as error:  # the user's code may raise anything
        return Row(name, REFUSED, reason=f"the factory raised {type(error).__name__}: {one_line(error)}")
    try:
        row = _compress(name, net, input_shape)
    except (UserError, CandidateError) as error:
        row = Row(name, REFUSED, reason=one_line(error))
    except Exception as error:  # a traceback that a user would get
        row = Row(name, WRONG, reason=f"{type(error).__name__}: {one_line(error)}")
    return Row(**{**asdict(row), "seconds": round(time.perf_counter() - start, 1)})


def _compress(name: str, net: nn.Module, input_shape: tuple[int, int, int]) -> Row:
    first = next((m for m in net.modules() if isinstance(m, nn.Conv2d)), None)
    repeat = 3 if first is not None and first.in_channels == 3 and input_shape[0] == 1 else 1
    prepare = Preprocessing(size=None, mean=127.5, std=64.0, repeat=repeat)
    staged = split_into_stages(net.cpu().float().eval(), prepare, input_shape=input_shape, classes=len(CLASSES))
    space = UserModelSpace(name, randomised(staged), input_shape=input_shape, channel_multiple=8)
    arguments = {"input_shape": input_shape, "classes": len(CLASSES)}
    whole = space.build({}, **arguments)
    widths = {stage: max(1, width // 2) for stage, width in space.widths({}).items()}
    half = space.build({}, **arguments, widths=widths)
    _check_file(fold(whole, input_shape=input_shape), input_shape)
    _check_file(fold(half, input_shape=input_shape), input_shape)
    graph = fold(half, input_shape=input_shape)
    regions = [m for m in staged.modules() if isinstance(m, Region)]
    _check_int8(QUANTIZE.rewrite_graph(graph, _int8_context(graph, input_shape)), input_shape)
    opaque = sum({id(p): p.numel() for region in regions for p in region.parameters()}.values())
    total = _n_weights(whole)
    return Row(name, IN_PARTS if regions else PASSED, opaque / max(1, total), _n_weights(half) / max(1, total))


def _n_weights(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def _int8_context(graph: fx.GraphModule, input_shape: tuple[int, int, int]) -> CompressionContext:
    units = {str(n.target).partition(".")[0] for n in graph.graph.nodes if n.op == "call_module"}
    bits = {unit: 8 for unit in units if unit.startswith("stage")}
    images = _pictures(input_shape)
    candidate = Candidate(space="model", architecture={}, widths={}, pruned={}, bits=bits)
    return CompressionContext(
        candidate=candidate, profile=load_target("cpu"), input_shape=input_shape, images=images,
        labels=np.zeros(len(images), np.int64),
    )  # fmt: skip


def _pictures(input_shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """16 smooth images, as photographs are, [16, C, H, W]."""
    channels, height, width = input_shape
    coarse = probe_images((channels, 6, 6), count=16)
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return smooth.numpy().astype(np.uint8)


def _load(path: Path) -> OrtSession:
    return OrtSession(create_session(path, session_options(1), CPU_PROVIDER))


def _check_file(graph: fx.GraphModule, input_shape: tuple[int, int, int]) -> None:
    images = probe_images(input_shape).numpy().astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        export_onnx(graph, path, input_shape=input_shape, classes=CLASSES, metadata={})
        check_logits(graph, path, images, load=_load)


def _check_int8(graph: fx.GraphModule, input_shape: tuple[int, int, int]) -> None:
    images = _pictures(input_shape)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        export_onnx(graph, path, input_shape=input_shape, classes=CLASSES, metadata={})
        check_parity(graph, _load(path), images, path=path, max_difference=INT8_TOLERANCE, min_agreement=INT8_AGREEMENT)


def nets_of_file(path: Path) -> Iterator[tuple[str, Callable[[], nn.Module]]]:
    """The factories of a Python file: its functions whose one parameter is `classes`, or named `build`."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"--nets must be a Python file, but got {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, value in vars(module).items():
        if inspect.isfunction(value) and list(inspect.signature(value).parameters) == ["classes"]:
            yield name, lambda value=value: value(len(CLASSES))  # type: ignore[misc]


def net_by_name(name: str) -> Callable[[], nn.Module]:
    """The factory of `timm:NAME`, `torchvision:NAME` or a name of the zoo."""
    library, _, model = name.rpartition(":")
    if library == "timm":
        return lambda: importlib.import_module("timm").create_model(model, num_classes=len(CLASSES))
    if library == "torchvision":
        models = importlib.import_module("torchvision.models")
        return lambda: getattr(models, model)(weights=None, num_classes=len(CLASSES))
    return lambda: registry.load("model", model).build(input_shape=(1, 48, 48), classes=len(CLASSES))


def main() -> None:
    """Print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", type=Path, action="append", default=[], help="Python file of factories")
    parser.add_argument("--names", default="", help="timm:NAME, torchvision:NAME, ..., separated by commas")
    parser.add_argument("--only", default="", help="names of factories to run, separated by commas")
    parser.add_argument("--size", type=int, default=48, help="height and width of the images in pixels")
    parser.add_argument("--channels", type=int, default=1, help="1 for grey images, 3 for colour")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    shape = (options.channels, options.size, options.size)
    nets = [pair for path in options.nets for pair in nets_of_file(path)]
    nets += [(name, net_by_name(name)) for name in options.names.split(",") if name]
    only = {name for name in options.only.split(",") if name}
    rows = []
    for name, make in nets:
        if not only or name in only:
            rows.append(check_net(name, make, shape))
            _print_row(rows[-1])
    counts = Counter(row.outcome for row in rows)
    print(f"{len(rows)} nets: " + ", ".join(f"{counts[k]} {k}" for k in (PASSED, IN_PARTS, REFUSED, WRONG)))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


def _print_row(row: Row) -> None:
    figures = f"{row.opaque_share:6.1%} opaque, {row.pruned_share:6.1%} left, {row.seconds:5.1f} s"
    print(f"{row.name:24} {row.outcome:9} {figures}  {row.reason[:200]}", flush=True)


if __name__ == "__main__":
    main()
