"""INT8 beside other tools: accuracy of each tool's file and its latency, all files timed side by side.

    python -m benchmarks.peers --model FLOAT.onnx --data fer2013.csv [--peers ours ort-default nncf ...]
        [--calibration-images 256] [--runs 400] [--json OUT.json]

Each tool quantises the same float file after training, calibrated on the same training images. Its other settings are
its defaults; `ort-tuned` is ONNX Runtime's quantiser as an expert sets it. Tools that are not installed are listed and
left out. The table states for each file:

- `accuracy %`: of the file in ONNX Runtime on the selection split, and its difference to the float file in points, with
  the 95 % interval of the paired difference;
- `ratio`: its latency divided by that of the float file, by the 5th percentiles of one interleaved run on one thread;
- `seconds`: how long the tool took.
"""

import argparse
import importlib.util
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper
from rich.console import Console
from rich.table import Table

import nas
from nas.data.base import FaceData
from nas.data.loading import load_data
from nas.errors import NasError
from nas.latency.measured.timing import measure_interleaved
from nas.onnx_export.onnx_ops import exact_resize_scale
from nas.registry import load

Floats = npt.NDArray[np.float32]
FLOAT = "float"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set as `nas` names it: its word and its path."""

    dataset: str
    path: Path


def ours(model: Path, images: Floats, out: Path, source: Source) -> None:
    """`nas quantize` with its defaults: the layers that stay in float are chosen by measured latency."""
    nas.quantize(model, dataset=source.dataset, data=source.path, out=out)


class _Reader:
    """Calibration images, one by one, as ONNX Runtime's quantiser asks for them."""

    def __init__(self, model: Path, images: Floats) -> None:
        self._name, self._images = input_name(model), iter(images)

    def get_next(self) -> dict[str, Floats] | None:
        """The next image as a batch of one."""
        image = next(self._images, None)
        return None if image is None else {self._name: image[None]}


def ort_default(model: Path, images: Floats, out: Path, source: Source) -> None:
    """ONNX Runtime's `quantize_static` with its defaults."""
    from onnxruntime.quantization import quantize_static

    quantize_static(str(model), str(out), _Reader(model, images))


def ort_tuned(model: Path, images: Floats, out: Path, source: Source) -> None:
    """The same after preprocessing, by channel, with symmetric weights, and the first and last layer in float."""
    from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as place:
        prepared = Path(place) / "prepared.onnx"
        quant_pre_process(str(model), str(prepared))
        layers = [node.name for node in onnx.load(prepared).graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
        quantize_static(
            str(prepared),
            str(out),
            _Reader(prepared, images),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            op_types_to_quantize=["Conv", "Gemm", "MatMul", "Add", "Relu", "MaxPool", "GlobalAveragePool"],
            nodes_to_exclude=[layers[0], layers[-1]],
        )


def nncf_default(model: Path, images: Floats, out: Path, source: Source) -> None:
    """NNCF's `quantize` with its defaults."""
    import nncf

    name = input_name(model)
    dataset = nncf.Dataset(images, lambda image: {name: image[None]})
    onnx.save(nncf.quantize(onnx.load(model), dataset, subset_size=len(images)), out)


def olive_default(model: Path, images: Floats, out: Path, source: Source) -> None:
    """Olive's pass `OnnxStaticQuantization` with its defaults."""
    from olive.data.config import DataComponentConfig, DataConfig
    from olive.data.registry import Registry
    from olive.model import ONNXModelHandler
    from olive.passes.olive_pass import create_pass_from_dict
    from olive.passes.onnx.quantization import OnnxStaticQuantization

    name = input_name(model)

    @Registry.register_dataloader("faces_one_by_one")
    def faces_one_by_one(dataset: Any, **_: Any) -> list[tuple[dict[str, Floats], None]]:
        return [({name: image[None]}, None) for image in images]

    config = DataConfig(
        name="faces",
        load_dataset_config=DataComponentConfig(type="simple_dataset"),
        dataloader_config=DataComponentConfig(type="faces_one_by_one"),
    )
    quantiser = create_pass_from_dict(OnnxStaticQuantization, {"data_config": config}, disable_search=True)
    with tempfile.TemporaryDirectory() as place:
        result = quantiser.run(ONNXModelHandler(str(model)), str(Path(place) / "quantised"))
        onnx.save(onnx.load(result.model_path), out)


def modelopt_default(model: Path, images: Floats, out: Path, source: Source) -> None:
    """NVIDIA ModelOpt's ONNX quantisation with its defaults, which are meant for TensorRT; calibrated on the CPU."""
    from modelopt.onnx.quantization import quantize

    quantize(
        str(model),
        calibration_data={input_name(model): images},
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=str(out),
        log_level="ERROR",
    )


PEERS: dict[str, tuple[str, Callable[[Path, Floats, Path, Source], None]]] = {
    "ours": ("nas", ours),
    "ort-default": ("onnxruntime", ort_default),
    "ort-tuned": ("onnxruntime", ort_tuned),
    "nncf": ("nncf", nncf_default),
    "olive": ("olive", olive_default),
    "modelopt": ("modelopt", modelopt_default),
}
"""For each row: the package that it needs, and the function that writes its file."""


def input_name(model: Path) -> str:
    """Name of a file's only input."""
    graph = onnx.load(model).graph
    constants = {tensor.name for tensor in graph.initializer}
    return next(value.name for value in graph.input if value.name not in constants)


def readable_copy(model: Path, out: Path) -> Path:
    """A copy whose resizes have the size of the standard's arithmetic; older files of ours do not, and tools fail."""
    content = onnx.load(model)
    inferred = {v.name: v for v in onnx.shape_inference.infer_shapes(content).graph.value_info}
    inferred |= {value.name: value for value in content.graph.input}
    constants = {tensor.name: tensor for tensor in content.graph.initializer}
    for node in content.graph.node:
        if node.op_type == "Resize" and len(node.input) == 3:
            scales = numpy_helper.to_array(constants[node.input[2]]).copy()
            sizes = [dim.dim_value for dim in inferred[node.input[0]].type.tensor_type.shape.dim]
            for axis in (2, 3):
                scales[axis] = exact_resize_scale(sizes[axis], round(float(scales[axis]) * sizes[axis]))
            constants[node.input[2]].CopyFrom(numpy_helper.from_array(scales, node.input[2]))
    onnx.save(content, out)
    return out


def calibration_images(data: FaceData, count: int) -> Floats:
    """Evenly spaced training images as float32 pixels 0 to 255."""
    chosen = np.linspace(0, len(data.train.images) - 1, count).astype(int)
    return data.train.images[chosen].astype(np.float32)


def hits(path: Path, data: FaceData) -> npt.NDArray[np.bool_]:
    """Whether each image of the selection split is classified right by the file."""
    with closing(load("runtime", "onnxruntime").load(path)) as session:
        labels = [session.predict(data.val.images[i : i + 100]).argmax(1) for i in range(0, len(data.val.images), 100)]
    return np.concatenate(labels) == data.val.labels


def paired_half_width(mine: npt.NDArray[np.bool_], reference: npt.NDArray[np.bool_]) -> float:
    """Half width of the 95 % interval of the difference in accuracy of two files on the same images."""
    difference = mine.astype(float) - reference
    return float(1.96 * difference.std(ddof=1) / np.sqrt(len(difference)))


def quantise_all(
    model: Path, names: Sequence[str], images: Floats, folder: Path, source: Source
) -> Iterator[tuple[str, Path | None, float, str]]:
    """Each tool's file, the seconds it took, and why there is none."""
    for name in names:
        package, quantise = PEERS[name]
        if importlib.util.find_spec(package) is None:
            yield name, None, 0.0, f"left out: {package} is not installed"
            continue
        out, begin = folder / f"{name}.onnx", time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                quantise(model, images, out, source)
        except NasError as error:
            yield name, None, 0.0, f"failed: {error}"
        except Exception as error:  # another tool's failure is a row of the table, not the end of it
            yield name, None, 0.0, f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        else:
            yield name, out, time.perf_counter() - begin, ""


def compare(model: Path, source: Source, names: Sequence[str], count: int, runs: int) -> list[dict[str, Any]]:
    """One row per tool, and one of the float file first."""
    data = load_data(source.dataset, source.path)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        float_file = readable_copy(model, folder / f"{FLOAT}.onnx")
        files: list[tuple[str, Path | None, float, str]] = [(FLOAT, float_file, 0.0, "")]
        for item in quantise_all(float_file, names, calibration_images(data, count), folder, source):
            print(f"{item[0]}: {item[3] or f'{item[2]:.1f} s'}", flush=True)
            files.append(item)
        made = [path for _, path, _, _ in files if path]
        times = measure_interleaved(
            made, load("runtime", "onnxruntime"), device="this machine", input_shape=data.input_shape, runs=runs
        )
        latency = dict(zip(made, times, strict=True))
        reference = hits(float_file, data)
        for name, path, seconds, reason in files:
            if path is None:
                rows.append({"tool": name, "reason": reason})
                continue
            right = hits(path, data)
            rows.append(
                {
                    "tool": name,
                    "accuracy": float(right.mean()),
                    "points": 100 * float(right.mean() - reference.mean()),
                    "half_width": 100 * paired_half_width(right, reference),
                    "ratio": latency[path].robust_ms / latency[float_file].robust_ms,
                    "latency_ms": latency[path].latency_ms,
                    "kB": path.stat().st_size / 1000,
                    "seconds": seconds,
                    "notes": list(latency[path].notes),
                }
            )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """The table for a terminal."""
    result = Table(show_edge=False, pad_edge=False)
    for i, head in enumerate(("tool", "accuracy %", "points", "ratio", "ms", "kB", "seconds")):
        result.add_column(head, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        if "reason" in row:
            result.add_row(row["tool"], row["reason"][:90])
        else:
            result.add_row(
                row["tool"], f"{100 * row['accuracy']:.2f}", f"{row['points']:+.2f} ± {row['half_width']:.2f}",
                f"{row['ratio']:.3f}", f"{row['latency_ms']:.4f}", f"{row['kB']:.0f}", f"{row['seconds']:.1f}",
            )  # fmt: skip
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Quantise, score, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--dataset", default="fer2013")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--calibration-images", type=int, default=256)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    source = Source(dataset=options.dataset, path=options.data)
    rows = compare(options.model, source, options.peers, options.calibration_images, options.runs)
    Console().print(table(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
