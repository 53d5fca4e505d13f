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

from nas.distillation.base import Level, Wants
from nas.distillation.losses import attention, mirrored
from nas.distillation.onnx_teacher import Images, Layer, TeacherFile, asking
from nas.runtimes.base import Runtime

ATTENTION_SIDE = 8
FEATURE_SIDES = (4, 3, 2, 1)
FEATURE_BYTES = 128e6
"""Features are pooled to the largest side with which those of all images stay below this."""
_CHUNK_BYTES = 64e6
_LARGEST = float(np.finfo(np.float16).max)


def levels(
    file: TeacherFile,
    wants: Wants,
    images: Images,
    *,
    runtime: Runtime,
    pixels: str,
    threads: int,
    say: Callable[[int], None],
) -> tuple[Level, ...]:
    """Of each stage's last layer the attention maps, or of the middle one the features; empty if no layer is a map.

    Args:
        file: the teacher.
        wants: "attention" or "features".
        images: [N, C, H, W] uint8, all training images.
        runtime: runs the file.
        pixels: the scaling it wants.
        threads: of the runtime.
        say: told how many images are done.
    """
    layers = file.layers()
    if wants == "features":
        layers = layers[len(layers) // 2 : len(layers) // 2 + 1]
    if not layers or wants == "logits":
        return ()
    sides = [min(ATTENTION_SIDE, min(layer.shape[1:])) for layer in layers]
    if wants == "features":
        sides = [_feature_side(layers[0], len(images))]
    parts: list[list[npt.NDArray[np.float16]]] = [[] for _ in layers]
    with asking(
        file, runtime=runtime, pixels=pixels, outputs=[layer.name for layer in layers], threads=threads
    ) as answer:
        chunk = max(1, int(_CHUNK_BYTES / (4 * sum(_size(layer) for layer in layers))))
        for at in range(0, len(images), chunk):
            row = torch.from_numpy(answer(images[at : at + chunk]))
            for part, side, maps in zip(parts, sides, _cut(row, layers), strict=True):
                part.append(_small(attention(maps) if wants == "attention" else maps, side))
            say(min(at + chunk, len(images)))
    found = [np.concatenate(part) for part in parts]
    if wants == "features":
        found = [_standard(values) for values in found]
    return tuple(
        Level(scale=layer.shape[1] / file.shape[1], values=values) for layer, values in zip(layers, found, strict=True)
    )


def _feature_side(layer: Layer, images: int) -> int:
    channels, *sides = layer.shape
    fitting = (s for s in FEATURE_SIDES if s <= min(sides) and 2 * images * channels * s * s <= FEATURE_BYTES)
    return next(fitting, 1)


def _size(layer: Layer) -> int:
    c, h, w = layer.shape
    return c * h * w


def _cut(rows: Tensor, layers: Sequence[Layer]) -> list[Tensor]:
    """Rows [N, sum of C H W] as one map [N, C, H, W] for each layer."""
    parts = torch.split(rows, [_size(layer) for layer in layers], dim=1)
    return [part.reshape(len(rows), *layer.shape) for part, layer in zip(parts, layers, strict=True)]


def _small(maps: Tensor, side: int) -> npt.NDArray[np.float16]:
    """Pooled to a side and averaged with the mirror image; attention to length 1 besides."""
    pooled = mirrored(functional.adaptive_avg_pool2d(maps, side))
    if pooled.shape[1] == 1:
        pooled = functional.normalize(pooled.flatten(1), dim=1).reshape(pooled.shape)
    return np.asarray(pooled.clamp(-_LARGEST, _LARGEST).half().numpy())


def _standard(values: npt.NDArray[np.float16]) -> npt.NDArray[np.float16]:
    """Each channel with mean 0 and deviation 1 over all images and places; a constant channel is 0."""
    mean = values.mean((0, 2, 3), keepdims=True, dtype=np.float64)
    deviation = values.std((0, 2, 3), keepdims=True, dtype=np.float64)
    scale = np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0.0)
    return np.concatenate([((part - mean) * scale).astype(np.float16) for part in np.array_split(values, 16)])
