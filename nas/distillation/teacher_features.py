"""What a teacher's layers hold of every training image, made small enough to keep.

Maps are averaged with their mirror images: the student sees faces mirrored at random, and what it is compared with must
not depend on that. Shifts and small turns are less than a cell of the pooled maps.
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
FEATURE_SIDES = (4, 3, 2, 1)
MAX_FEATURE_BYTES = 128e6
"""Features are pooled to the largest side with which those of all images stay below this."""
_CHUNK_BYTES = 64e6
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
    """Of each stage's last layer the attention maps, or of the middle one the features; empty if no layer is a map.

    Args:
        teacher: the teacher.
        required_outputs: "attention" or "features".
        images: [N, C, H, W] uint8, all training images.
        runtime: runs the file.
        pixel_scaling: the scaling it wants.
        threads: of the runtime.
        on_progress: told how many images are done.
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
    ) as answer:
        chunk = max(1, int(_CHUNK_BYTES / (4 * sum(_n_elements(layer) for layer in layers))))
        for at in range(0, len(images), chunk):
            row = torch.from_numpy(answer(images[at : at + chunk]))
            for part, side, maps in zip(parts, sides, _split_rows(row, layers), strict=True):
                part.append(_pool_and_mirror(attention_map(maps) if required_outputs == "attention" else maps, side))
            on_progress(min(at + chunk, len(images)))
    found = [np.concatenate(part) for part in parts]
    if required_outputs == "features":
        found = [_standardise(values) for values in found]
    return tuple(
        FeatureMap(relative_side=layer.shape[1] / teacher.input_shape[1], values=values)
        for layer, values in zip(layers, found, strict=True)
    )


def _feature_side(layer: TeacherLayer, n_images: int) -> int:
    channels, *sides = layer.shape
    fitting = (s for s in FEATURE_SIDES if s <= min(sides) and 2 * n_images * channels * s * s <= MAX_FEATURE_BYTES)
    return next(fitting, 1)


def _n_elements(layer: TeacherLayer) -> int:
    c, h, w = layer.shape
    return c * h * w


def _split_rows(rows: Tensor, layers: Sequence[TeacherLayer]) -> list[Tensor]:
    """Rows [N, sum of C H W] as one map [N, C, H, W] for each layer."""
    parts = torch.split(rows, [_n_elements(layer) for layer in layers], dim=1)
    return [part.reshape(len(rows), *layer.shape) for part, layer in zip(parts, layers, strict=True)]


def _pool_and_mirror(maps: Tensor, side: int) -> npt.NDArray[np.float16]:
    """Pooled to a side and averaged with the mirror image; attention to length 1 besides."""
    pooled = average_with_mirror(functional.adaptive_avg_pool2d(maps, side))
    if pooled.shape[1] == 1:
        pooled = functional.normalize(pooled.flatten(1), dim=1).reshape(pooled.shape)
    return np.asarray(pooled.clamp(-_FLOAT16_MAX, _FLOAT16_MAX).half().numpy())


def _standardise(values: npt.NDArray[np.float16]) -> npt.NDArray[np.float16]:
    """Each channel with mean 0 and deviation 1 over all images and places; a constant channel is 0."""
    mean = values.mean((0, 2, 3), keepdims=True, dtype=np.float64)
    deviation = values.std((0, 2, 3), keepdims=True, dtype=np.float64)
    scale = np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0.0)
    return np.concatenate([((part - mean) * scale).astype(np.float16) for part in np.array_split(values, 16)])
