"""Pre-processing of user-defined nets: scales of mean and deviation, and what the module and its file compute."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nas.errors import ConfigError
from nas.models.preprocessing import Preprocessing, pixel_scaling
from nas.onnx_export.exporter import export_onnx
from nas.onnx_export.folding import fold
from nas.runtimes.ort.session import CPU_PROVIDER, OrtSession, create_session, session_options

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        (None, None, (127.5, 64.0)),
        ((100.0,), None, (100.0, 64.0)),
        ((0.0,), (255.0,), (0.0, 255.0)),
        ((0.0,), (1.0,), (0.0, 1.0)),
        ((0.5,), (0.5,), (127.5, 127.5)),
        ((0.5,), (1.0,), (127.5, 255.0)),
        ((0.0,), (0.5,), (0.0, 127.5)),
        ((1.0, 2.0, 4.0), (2.0,), ((1.0, 2.0, 4.0), 2.0)),
        ((7.0, 7.0, 7.0), (2.0, 2.0, 4.0), (7.0, (2.0, 2.0, 4.0))),
        (MEAN, STD, (tuple(255 * m for m in MEAN), tuple(255 * s for s in STD))),
    ],
)
def test_values_are_of_pixels_0_to_1_where_none_exceeds_1(
    mean: tuple[float, ...] | None, std: tuple[float, ...] | None, expected: object
) -> None:
    assert pixel_scaling(mean, std, channels=3) == expected


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((1.0, 2.0), None, "mean must be one number, or one for each of the 3 channels .* but got 2"),
        ((0.5,), (64.0,), r"must be of one scale, .* but got mean 0.5 and std 64"),
        ((127.5,), (0.5,), "must be of one scale"),
        ((0.485,), None, "must both be given .* but only mean 0.485 is"),
        (None, (0.25,), "must both be given .* but only std 0.25 is"),
    ],
)
def test_values_of_unclear_scale_are_refused(
    mean: tuple[float, ...] | None, std: tuple[float, ...] | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        pixel_scaling(mean, std, channels=3)


@pytest.mark.parametrize(("channels", "repeat"), [(1, 3), (3, 1)])
def test_channels_are_normalised_one_by_one_in_torch_and_in_the_file(
    channels: int, repeat: int, tmp_path: Path
) -> None:
    mean, std = pixel_scaling(MEAN, STD, channels=3)
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 8, 3, padding=1)
    body = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    net = nn.Sequential(Preprocessing(size=None, mean=mean, std=std, repeat=repeat), conv, body).eval()
    pixels = torch.randint(0, 256, (4, channels, 12, 12), generator=torch.Generator().manual_seed(0)).float()
    # torchvision's ToTensor and Normalize, written out.
    image = (pixels.expand(-1, 3, -1, -1) / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    with torch.inference_mode():
        expected = torch.softmax(body(conv(image)), 1)
        torch.testing.assert_close(torch.softmax(net(pixels), 1), expected, rtol=1e-4, atol=1e-5)
    shape = (channels, 12, 12)
    path = export_onnx(
        fold(net, input_shape=shape), tmp_path / "net.onnx", input_shape=shape, classes=("a", "b"), metadata={}
    ).path
    session = OrtSession(create_session(path, session_options(1), CPU_PROVIDER))
    np.testing.assert_allclose(session.predict(pixels.numpy().astype(np.uint8)), expected, rtol=1e-4, atol=1e-5)


def test_images_are_resized_before_they_are_normalised() -> None:
    prepare = Preprocessing(size=8, mean=(0.0, 1.0, 2.0), std=1.0, repeat=3)
    out = prepare(torch.full((2, 1, 4, 4), 5.0))
    assert out.shape == (2, 3, 8, 8)
    assert [float(out[0, c].mean()) for c in range(3)] == [5.0, 4.0, 3.0]
