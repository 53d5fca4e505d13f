"""Teacher features: attention maps or features of a teacher's layers for every training image, pooled to be stored.

Maps are averaged with their mirror images, because the student's images are mirrored at random and the maps that it is
compared with must not depend on that. Shifts and small rotations are less than a cell of the pooled maps.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from nas.distillation.base import FeatureMap, RequiredOutputs
from nas.distillation.losses import attention_map, average_with_mirror
from nas.distillation.onnx_teacher import Images, OnnxTeacher, TeacherLayer, teacher_session
from nas.runtimes.base import Runtime

MAX_ATTENTION_SIDE = 8
"""Attention maps are pooled to at most this side."""
FEATURE_SIDES = (4, 3, 2, 1)
"""Sides that features may be pooled to."""
MAX_FEATURE_BYTES = 128e6
"""Features are pooled to the largest side at which those of all images take at most this many bytes."""
_CHUNK_BYTES = 64e6
"""Bytes of float32 layer outputs that are in memory at once."""
_FLOAT16_MAX = float(np.finfo(np.float16).max)


def layer_features(
    teacher: OnnxTeacher,
    required_outputs: RequiredOutputs,
    images: Images,
    *,
    runtime: Runtime,
    pixel_scaling: str,
    threads: int,
    on_progress: Callable[[int], None],
) -> tuple[FeatureMap, ...]:
    """Attention maps of each stage's last layer, or features of the middle stage; empty if no layer has maps.

    Args:
        teacher: the teacher.
        required_outputs: "attention" or "features"; for "logits" the result is empty.
        images: [N, C, H, W] uint8, all training images.
        runtime: the runtime that runs the file.
        pixel_scaling: the scaling that the teacher expects.
        threads: of the runtime.
        on_progress: called after each chunk with the number of images that are done.

    Raises:
        ConfigError: the runtime refuses the file, or the file does not take the images.
    """
    layers = teacher.feature_layers()
    if required_outputs == "features":
        layers = layers[len(layers) // 2 : len(layers) // 2 + 1]
    if not layers or required_outputs == "logits":
        return ()
    sides = [min(MAX_ATTENTION_SIDE, min(layer.shape[1:])) for layer in layers]
    if required_outputs == "features":
        sides = [_feature_side(layers[0], len(images))]
    parts: list[list[npt.NDArray[np.float16]]] = [[] for _ in layers]
    with teacher_session(
        teacher,
        runtime=runtime,
        pixel_scaling=pixel_scaling,
        output_names=[layer.name for layer in layers],
        threads=threads,
    ) as run:
        chunk = max(1, int(_CHUNK_BYTES / (4 * sum(_n_elements(layer) for layer in layers))))
        for start in range(0, len(images), chunk):
            rows = torch.from_numpy(run(images[start : start + chunk]))
            for part, side, maps in zip(parts, sides, _split_rows(rows, layers), strict=True):
                part.append(_pool_and_mirror(attention_map(maps) if required_outputs == "attention" else maps, side))
            on_progress(min(start + chunk, len(images)))
    values_by_layer = [np.concatenate(part) for part in parts]
    if required_outputs == "features":
        values_by_layer = [_standardise(values) for values in values_by_layer]
    return tuple(
        FeatureMap(relative_side=layer.shape[1] / teacher.input_shape[1], values=values)
        for layer, values in zip(layers, values_by_layer, strict=True)
    )


def _feature_side(layer: TeacherLayer, n_images: int) -> int:
    channels, *sides = layer.shape
    # 2 bytes for each float16.
    fitting = (s for s in FEATURE_SIDES if s <= min(sides) and 2 * n_images * channels * s * s <= MAX_FEATURE_BYTES)
    return next(fitting, 1)


def _n_elements(layer: TeacherLayer) -> int:
    c, h, w = layer.shape
    return c * h * w


def _split_rows(rows: Tensor, layers: Sequence[TeacherLayer]) -> list[Tensor]:
    """Rows [N, sum of C H W] split into one map [N, C, H, W] for each layer."""
    parts = torch.split(rows, [_n_elements(layer) for layer in layers], dim=1)
    return [part.reshape(len(rows), *layer.shape) for part, layer in zip(parts, layers, strict=True)]


def _pool_and_mirror(maps: Tensor, side: int) -> npt.NDArray[np.float16]:
    """Maps pooled to a side and averaged with their mirror images; attention maps are also scaled to length 1."""
    pooled = average_with_mirror(functional.adaptive_avg_pool2d(maps, side))
    if pooled.shape[1] == 1:  # attention: layers with so few channels are left out
        pooled = functional.normalize(pooled.flatten(1), dim=1).reshape(pooled.shape)
    return np.asarray(pooled.clamp(-_FLOAT16_MAX, _FLOAT16_MAX).half().numpy())


def _standardise(values: npt.NDArray[np.float16]) -> npt.NDArray[np.float16]:
    """Each channel with mean 0 and deviation 1 over all images and positions; a constant channel becomes 0."""
    mean = values.mean((0, 2, 3), keepdims=True, dtype=np.float64)
    deviation = values.std((0, 2, 3), keepdims=True, dtype=np.float64)
    scale = np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0.0)
    # In 16 parts, so that the float64 intermediate is a sixteenth of the features.
    return np.concatenate([((part - mean) * scale).astype(np.float16) for part in np.array_split(values, 16)])
