"""Checks of a foreign ONNX file before post-training work, and how it takes images and names classes."""

from pathlib import Path

from onnx import ModelProto, TensorProto

from nas.data.base import FaceData
from nas.distillation.teachers import TeacherSource, find_teachers
from nas.errors import ConfigError, one_line
from nas.runtimes.onnx_input import read_onnx_input


def check_input(path: Path) -> None:
    """Refuse files that do not take single images in numbers.

    Raises:
        ConfigError: the message says what the file takes.
    """
    try:
        entry = read_onnx_input(path)
    except FileNotFoundError:
        raise ConfigError(f"{path} must be an ONNX file, but there is none; check the path") from None
    except Exception as error:  # protobuf's errors share no public base
        raise ConfigError(f"{path} must be an ONNX file, but cannot be read as one: {one_line(error)}") from None
    if entry.stated_form is not None and not entry.stated_form.is_plain:
        raise ConfigError(
            f"{path} must take the plain input of its network, but was exported with --input "
            f"{','.join(entry.stated_form.words)}; give the file from before"
        )
    if len(entry.names) != 1 or len(entry.dims) != 4:
        raise ConfigError(
            f"{path} must have one input of images with 4 axes, but has {entry.form}; export it with images alone"
        )
    if entry.dims[0] > 1:
        raise ConfigError(
            f"{path} must take one image at a time, but takes {entry.dims[0]}; export it with a batch of 1 or an open "
            "one"
        )
    if entry.element_type not in (TensorProto.FLOAT, TensorProto.UINT8):
        kind = TensorProto.DataType.Name(entry.element_type).lower()
        raise ConfigError(f"{path} must take float or uint8 images, but takes {kind}; export it in float")


def check_is_float(model: ModelProto, path: Path) -> None:
    """Refuse models that are narrow already, or random.

    Raises:
        ConfigError: the message names the first such node or weight.
    """
    for node in model.graph.node:
        if node.op_type.startswith("Random") or node.op_type in ("Bernoulli", "Multinomial"):
            raise ConfigError(
                f"{path} must give an image the same answer each time, but {node.name or node.op_type!r} is "
                f"{node.op_type}; export the model in evaluation mode"
            )
        if node.op_type.startswith(("Quantize", "Dequantize", "QLinear", "DynamicQuantize")) or (
            node.op_type.endswith("Integer")
        ):
            raise ConfigError(
                f"{path} must be in float, but {node.name or node.op_type!r} is {node.op_type}: it is quantised "
                "already; give the file from before"
            )
    for tensor in model.graph.initializer:
        if tensor.data_type in (TensorProto.FLOAT16, TensorProto.BFLOAT16) and len(tensor.dims) > 1:
            raise ConfigError(
                f"{path} must be in float32, but {tensor.name!r} is in 16 bits; give the file from before"
            )


def find_source(path: Path, data: FaceData, classes: tuple[str, ...]) -> TeacherSource:
    """The file with its scaling of pixels and order of classes, found as for a teacher."""
    try:
        (source,) = find_teachers([str(path)], data, classes=classes)
    except ConfigError as error:
        words = str(error).replace("--teacher-classes", "--classes").replace("teacher ", "model ")
        raise ConfigError(words.replace("a teacher", "a model")) from None
    return source
