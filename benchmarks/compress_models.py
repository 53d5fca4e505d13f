"""Compression of other people's nets: which are opened, pruned by half, quantised to INT8, exported, and equal.

    python -m benchmarks.compress_models --nets nets.py
    python -m benchmarks.compress_models --names timm:resnet18,torchvision:mobilenet_v2 --json rows.json

Each net gets random weights. It passes where its folded form equals the factory's net, the net of half the channels
equals the whole one with the leaving channels silenced, and ONNX Runtime computes both files: float to rounding, INT8
as torch does. `in parts` means that some weights are in opaque regions, which are neither pruned nor quantised.
A net that does not run on images of --size gets them resized to the next of `LARGER_SIZES`, as with `--input-size`.

Each net runs in a process of its own with limits on time and memory, so that one of them cannot end the others.
"""

import argparse
import importlib
import importlib.util
import inspect
import json
import multiprocessing
import resource
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn

from nas.candidate import Candidate
from nas.compression.base import CompressionContext
from nas.compression.compressors.quantize import COMPRESSOR as QUANTIZE
from nas.errors import CandidateError, ConfigError, UserError, one_line
from nas.models.model_source import accepted_channels, make_model, prepared_net
from nas.models.user_model import UserModelSpace, with_preprocessing
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
LARGER_SIZES = (64, 96, 128, 224)
"""Image sizes in pixels for nets that do not run on smaller images."""


@dataclass(frozen=True)
class Row:
    """Outcome of one net.

    Attributes:
        name: of the net.
        outcome: passed, in parts, refused or wrong.
        opaque_share: share of its weights in opaque regions, 0..1.
        pruned_share: weights of the half-wide net over those of the whole one.
        n_weights: of the whole net.
        size: height and width in pixels of the images that reach the net.
        seconds: time for all steps.
        reason: why it was refused or is wrong.
    """

    name: str
    outcome: str
    opaque_share: float = 0.0
    pruned_share: float = 1.0
    n_weights: int = 0
    size: int = 0
    seconds: float = 0.0
    reason: str = ""


def check_net(name: str, origin: Path | None, input_shape: tuple[int, int, int]) -> Row:
    """Run one net through every step.

    Args:
        name: a word as after `nas compress --model`, or a factory's name in `origin`.
        origin: the Python file of the factory.
        input_shape: (C, H, W) of the images.
    """
    start = time.perf_counter()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        row = _compress(name, origin, input_shape)
    except (UserError, CandidateError) as error:
        row = Row(name, REFUSED, reason=one_line(error))
    except Exception as error:  # a traceback that a user would get
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        row = Row(name, WRONG, reason=f"{type(error).__name__}: {one_line(error)} ({where})")
    return replace(row, seconds=round(time.perf_counter() - start, 1))


def _compress(name: str, origin: Path | None, input_shape: tuple[int, int, int]) -> Row:
    net, input_size = _built_net(name, origin, input_shape)
    staged = with_preprocessing(net, input_shape=input_shape, classes=len(CLASSES), input_size=input_size)
    space = UserModelSpace(name, randomised(staged), input_shape=input_shape, channel_multiple=8)
    arguments = {"input_shape": input_shape, "classes": len(CLASSES)}
    whole = space.build({}, **arguments)
    widths = {stage: max(1, width // 2) for stage, width in space.widths({}).items()}
    half = space.build({}, **arguments, widths=widths)
    _check_file(fold(whole, input_shape=input_shape), input_shape)
    graph = fold(half, input_shape=input_shape)
    _check_file(graph, input_shape)
    _check_int8(QUANTIZE.rewrite_graph(graph, _int8_context(graph, input_shape)), input_shape)
    regions = [m for m in staged.modules() if isinstance(m, Region)]
    opaque = sum({id(p): p.numel() for region in regions for p in region.parameters()}.values())
    total = _n_weights(whole)
    return Row(
        name, IN_PARTS if regions else PASSED, opaque / max(1, total), _n_weights(half) / max(1, total), total,
        input_size or input_shape[1],
    )  # fmt: skip


def _built_net(name: str, origin: Path | None, input_shape: tuple[int, int, int]) -> tuple[nn.Module, int | None]:
    """The net, and the size that images are resized to where it does not run on theirs."""
    channels = input_shape[0]
    for size in (None, *(size for size in LARGER_SIZES if size > input_shape[1])):
        shape = (channels, size, size) if size else input_shape
        if origin is None:
            net = make_model(name, input_shape=shape, classes=len(CLASSES))
        else:
            net = prepared_net(_call_factory(factories_of_file(origin)[name]), input_shape=shape)
        if accepted_channels(net, shape) is not None:
            return net, size
    return net, None  # the error of the size that was asked for


def _call_factory(factory: Callable[[int], nn.Module]) -> nn.Module:
    try:
        return factory(len(CLASSES))
    except Exception as error:  # the user's code may raise anything
        raise ConfigError(f"the factory raised {type(error).__name__}: {one_line(error)}") from None


def check_in_process(
    name: str, origin: Path | None, input_shape: tuple[int, int, int], *, limit_s: float, limit_bytes: int
) -> Row:
    """`check_net` in a process of its own; a net that exceeds a limit is refused."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send_row, args=(theirs, name, origin, input_shape, limit_bytes))
    process.start()
    theirs.close()
    try:
        if not ours.poll(limit_s):
            return Row(name, REFUSED, seconds=limit_s, reason=f"it took longer than {limit_s:g} s")
        row: Row = ours.recv()
        return row
    except EOFError:
        return Row(name, REFUSED, reason=f"its process died with {process.exitcode}; the memory limit is {limit_bytes}")
    finally:
        process.kill()
        process.join()


def _send_row(
    pipe: Connection, name: str, origin: Path | None, input_shape: tuple[int, int, int], limit_bytes: int
) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    pipe.send(check_net(name, origin, input_shape))


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


def factories_of_file(path: Path) -> dict[str, Callable[[int], nn.Module]]:
    """The factories of a Python file by name: its functions whose one parameter is `classes`."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"--nets must be a Python file, but got {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    functions = {name: value for name, value in vars(module).items() if inspect.isfunction(value)}
    return {name: f for name, f in functions.items() if list(inspect.signature(f).parameters) == ["classes"]}


def main() -> None:
    """Print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", type=Path, action="append", default=[], help="Python file of factories")
    parser.add_argument("--names", default="", help="timm:NAME, torchvision:NAME, ..., separated by commas")
    parser.add_argument("--only", default="", help="names of factories to run, separated by commas")
    parser.add_argument("--size", type=int, default=48, help="height and width of the images in pixels")
    parser.add_argument("--channels", type=int, default=1, help="1 for grey images, 3 for colour")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds that one net may take")
    parser.add_argument("--memory", type=float, default=12.0, help="GiB of address space that one net may take")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    shape = (options.channels, options.size, options.size)
    only = {name for name in options.only.split(",") if name}
    factories = [(name, path) for path in options.nets for name in factories_of_file(path)]
    nets: list[tuple[str, Path | None]] = [(name, path) for name, path in factories if not only or name in only]
    nets += [(name, None) for name in options.names.split(",") if name]
    torch.set_num_threads(1)  # a process with threads of its own cannot be forked
    _import_libraries(options.names)
    limits = {"limit_s": options.limit, "limit_bytes": int(options.memory * 2**30)}
    rows = []
    for name, origin in nets:
        rows.append(check_in_process(name, origin, shape, **limits))
        _print_row(rows[-1])
    counts = Counter(row.outcome for row in rows)
    print(f"{len(rows)} nets: " + ", ".join(f"{counts[k]} {k}" for k in (PASSED, IN_PARTS, REFUSED, WRONG)))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


def _import_libraries(names: str) -> None:
    """Import once what the processes of the nets need: they are forked from this one."""
    importlib.import_module("onnxscript")
    for library, smallest in (("timm", "resnet10t"), ("torchvision", "squeezenet1_1")):
        if f"{library}:" in names:
            make_model(f"{library}:{smallest}", input_shape=(3, 64, 64), classes=len(CLASSES))


def _print_row(row: Row) -> None:
    figures = f"{row.n_weights:>11,} weights, {row.opaque_share:6.1%} opaque, {row.pruned_share:6.1%} left"
    if row.outcome in (REFUSED, WRONG):
        figures = row.reason[:240]
    print(f"{row.name:36} {row.outcome:9} {row.seconds:6.1f} s  {row.size or '':>4}  {figures}", flush=True)


if __name__ == "__main__":
    main()
