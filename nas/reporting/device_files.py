"""Device files of an export: what the next person needs on the target, beside the model.

A target that runs ONNX Runtime gets a script for it, requirements, labels and a page. One that runs TensorRT also gets
the line for its trtexec, a script for TensorRT, and DeepStream's configuration. Texts are templates of
nas/reporting/bundle_templates; flags of trtexec are those of `nas.runtimes.tensorrt.trtexec`, by which boards are
measured.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from hw_profiles._base import HardwareProfile
from nas.errors import ConfigError
from nas.input_form import CHANNELS_LAST, InputForm
from nas.onnx_export.parity import parity_tolerance
from nas.reporting.input_parity import InputParity
from nas.runtimes.board.probe import TRTEXEC_PATHS
from nas.runtimes.onnx_input import OnnxInput, read_onnx_input, read_onnx_model
from nas.runtimes.tensorrt.trtexec import (
    ModelFormat,
    TrtexecInfo,
    Version,
    build_flags,
    build_only_flag,
    read_model_format,
)

CPU_FILES = {
    "infer_onnxruntime.py": "classifies pictures in ONNX Runtime; also --selftest, --benchmark",
    "requirements.txt": "packages of the scripts",
    "labels.txt": "classes in the order of the outputs, one a line",
    "README.md": "this page",
}
TENSORRT_FILES = {
    "build_engine.sh": "builds model.engine on the board",
    "infer_tensorrt.py": "classifies pictures in TensorRT; also --selftest, --benchmark",
}
DEEPSTREAM_FILES = {
    "config_infer_secondary.txt": "DeepStream's nvinfer as a secondary classifier",
    "deepstream_labels.txt": "classes as nvinfer reads them, in one line",
}
ALL_FILES = {**CPU_FILES, **TENSORRT_FILES, **DEEPSTREAM_FILES}
"""Every file that a target may get, with what it is."""

MAX_BATCH = 8
"""Pictures of one run of an engine, at most: faces of one frame. Its kernels are chosen for one."""
MAX_ENGINE_SIDE = 640
"""Longest side of a picture that an engine of any size is built for, unless MAX_SIDE says otherwise."""
UINT8_VERSION: Version = (8, 5, 0)
"""The first TensorRT with uint8 inputs (release notes of 8.5)."""
_VERSIONS: tuple[tuple[Version, bool], ...] = (
    ((11, 0, 0), False), ((10, 0, 0), False), ((8, 6, 0), True), ((8, 6, 0), False), ((8, 4, 0), False),
    ((8, 2, 0), False),
)  # fmt: skip
"""Versions at which the flags of a build change, newest first, and whether the list of flags has --stronglyTyped."""
_FLOAT_TOLERANCE, _GPU_TOLERANCE = 1e-3, 1e-2
"""Smallest tolerances of a self-test: ONNX Runtime on another CPU, and a GPU, which multiplies in TF32."""
_TESTED = ("numpy", "pillow", "onnxruntime")


@dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """A file to write device files for.

    Attributes:
        path: the ONNX file.
        key: of its record, for readers.
        bits: unit to bit-width.
        labels: classes in the order of the outputs.
        parity: of a file that takes another form of input than the measured one; None for that one itself.
    """

    path: Path
    key: str
    bits: Mapping[str, int]
    labels: Sequence[str]
    parity: InputParity | None = None


def device_files(model: ExportedModel, profile: HardwareProfile) -> dict[str, str]:
    """Name to text of the files for one target.

    Raises:
        ConfigError: a class has a name that DeepStream's list of labels cannot hold, or the file takes no single image.
        MeasureError: trtexec cannot take the file.
    """
    entry = read_onnx_input(model.path)
    form = entry.picture_form
    if form is None:
        raise ConfigError(
            f"the model must take pictures of 1 or 3 channels, but takes {entry.form}; export another one"
        )
    has_tensorrt = runs_tensorrt(profile)
    has_deepstream = has_tensorrt and form.dtype == "float32"
    names = {**CPU_FILES, **(TENSORRT_FILES if has_tensorrt else {}), **(DEEPSTREAM_FILES if has_deepstream else {})}
    facts = _facts(model, entry, form, profile) | {
        "has_tensorrt": has_tensorrt,
        "has_deepstream": has_deepstream,
        "deepstream_reason": form.dtype != "float32",
        "files": [(name, ALL_FILES[name]) for name in names],
    }
    if has_tensorrt:
        facts |= _engine_facts(read_model_format(model.path), form)
    texts = {"labels.txt": "".join(f"{label}\n" for label in model.labels)}
    if has_deepstream:
        texts["deepstream_labels.txt"] = _deepstream_labels(model.labels)
    return {name: texts.get(name) or _render(name, facts) for name in names}


def runs_tensorrt(profile: HardwareProfile) -> bool:
    """Whether the target runs TensorRT engines."""
    return "tensorrt" in profile.runtime or "trtexec" in profile.runtime


def labels_of(path: Path) -> list[str]:
    """Class names in a file's metadata, in the order of its outputs; empty where it names none."""
    stored = {entry.key: entry.value for entry in read_onnx_model(path).metadata_props}
    try:
        labels = json.loads(stored.get("labels", "[]"))
    except ValueError:
        return []
    return [str(label) for label in labels] if isinstance(labels, list) else []


def _facts(model: ExportedModel, entry: OnnxInput, form: InputForm, profile: HardwareProfile) -> dict[str, Any]:
    """Variables of all templates."""
    tolerance = parity_tolerance(model.bits)
    return {
        "key": f"model {model.key}",
        "target": profile.title,
        "form": form.describe(),
        "labels": model.labels,
        "parity": model.parity,
        "any_size": form.size is None,
        "input_name": entry.names[0],
        "output_name": entry.graph.output[0].name,
        "ort_tolerance": max(_FLOAT_TOLERANCE, tolerance),
        "trt_tolerance": max(_GPU_TOLERANCE, tolerance),
        "tested": ", ".join(f"{name} {metadata.version(name)}" for name in _TESTED if _is_installed(name)),
        "max_batch": MAX_BATCH,
        "has_qdq": any(node.op_type == "QuantizeLinear" for node in entry.graph.node),
    }


def _engine_facts(model_format: ModelFormat, form: InputForm) -> dict[str, Any]:
    """Variables of build_engine.sh and of DeepStream's configuration."""
    size = form.size or form.network[1:]
    min_version = UINT8_VERSION if form.dtype == "uint8" else _VERSIONS[-1][0]
    rows = [_version_row(version, needs_typed, model_format, form) for version, needs_typed in _VERSIONS]
    largest = min(max(MAX_ENGINE_SIDE, 3 * max(size)), form.max_side)  # the golden picture is twice as large, too
    return {
        "has_float16": model_format.has_float16,
        "trtexec_paths": " ".join(map(shlex.quote, TRTEXEC_PATHS)),
        "min_version": _code(min_version),
        "min_version_text": f"{min_version[0]}.{min_version[1]}",
        "rows": rows,
        "image_shape": "x".join(map(str, form.dims(size=size)[1:])),
        "side_pattern": f"$2x$2x{form.channels}" if form.layout == CHANNELS_LAST else f"{form.channels}x$2x$2",
        "opt_side": min(2 * max(size), largest),
        "max_side": largest,
        "network_mode": 1 if model_format.has_qdq else 2 if model_format.has_float16 else 0,
        "color_format": 0 if form.channels == 3 else 2,
        "offsets": ";".join(["0.0"] * form.channels),
        "input_order": 1 if form.layout == CHANNELS_LAST else 0,
        "infer_dims": ";".join(map(str, form.dims(size=size)[1:])),
    }


def _version_row(version: Version, needs_typed: bool, model_format: ModelFormat, form: InputForm) -> dict[str, Any]:
    """Flags of one version of trtexec, or why it must not build this file."""
    help_text = "--stronglyTyped" if needs_typed else "" if version >= (10, 0, 0) else "(no such flag)"
    trtexec = TrtexecInfo(path="trtexec", version=version, help_text=help_text)
    fault = ""
    if model_format.has_float16 and not trtexec.has_strong_typing and {"any-size", "rgb"} & set(form.words):
        fault = (
            "this file computes grey and size in FP32, which TensorRT before 10 may turn into FP16 and so change the "
            "picture; export it without rgb and any-size, or use TensorRT 10"
        )
    flags = " ".join([*build_flags(trtexec, model_format), build_only_flag(version)])
    return {"code": _code(version), "needs_typed": needs_typed, "flags": flags, "fault": fault}


def _code(version: Version) -> int:
    """The version as the script compares it: 100 times the major number plus the minor one."""
    return 100 * version[0] + version[1]


def _deepstream_labels(labels: Sequence[str]) -> str:
    """All classes in one line, as nvinfer reads those of a classifier; a line for each would be a classifier each."""
    if bad := [label for label in labels if ";" in label or "\n" in label]:
        raise ConfigError(f"a class must have a name without ';' to be shown by DeepStream, but one is {bad[0]!r}")
    return ";".join(labels) + "\n"


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _render(name: str, facts: Mapping[str, Any]) -> str:
    tolerance = facts["trt_tolerance" if name == "infer_tensorrt.py" else "ort_tolerance"]
    return _environment().get_template(f"{name}.j2").render({**facts, "tolerance": tolerance})


@cache
def _environment() -> Environment:
    # Programs and plain text: nothing is markup, so nothing is escaped.
    return Environment(  # noqa: S701
        loader=PackageLoader("nas.reporting", "bundle_templates"), undefined=StrictUndefined, auto_reload=False,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
