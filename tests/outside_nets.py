"""User-defined nets for tests: functions, shared activations, reshapes, a softmax at the end."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """A residual block with one ReLU for both places, and `+=`."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module | None = None
        if stride != 1 or width_in != width:
            self.downsample = nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class ResNet(nn.Module):
    """In the manner of torchvision: pooling behind the stem, an identity block, global pooling, `torch.flatten`."""

    def __init__(self, num_classes: int = 3, channels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Block(16, 16, 1), Block(16, 16, 1))
        self.layer2 = nn.Sequential(Block(16, 32, 2))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(32, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer2(self.layer1(x))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class Functional(nn.Module):
    """A small Xception with functions for everything without weights, a convolution as classifier, and a softmax."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.c2 = nn.Conv2d(8, 16, 3, padding=1)
        self.res = nn.Conv2d(16, 32, 1, 2)
        self.dw, self.pw = nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Conv2d(16, 32, 1)
        self.last = nn.Conv2d(32, classes, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.c2(F.relu(self.b1(self.c1(x)))))
        x = F.max_pool2d(self.pw(self.dw(x)), 3, 2, 1) + self.res(x)
        x = F.dropout(x, 0.1, training=self.training)
        x = F.adaptive_avg_pool2d(self.last(x), 1)
        return F.softmax(x.view(x.size(0), -1), dim=1)


class Vgg(nn.Module):
    """Two convolutions and a classifier of two layers over the flattened map; needs 32x32 images."""

    def __init__(self, middle: nn.Module | None = None) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), middle or nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Linear(32 * 64, 24), nn.ReLU(), nn.Dropout(), nn.Linear(24, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).reshape(-1, 32 * 64))


class Loose(Vgg):
    """A net with a weight that belongs to no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * self.gain)


class Branching(Vgg):
    """A net whose control flow depends on the image."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > 0 else -x)


class Twice(Vgg):
    """A net that calls one convolution twice."""

    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.same(self.same(x)))


class Bare(nn.Module):
    """A stem and a head without a stage between them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 8, 3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).mean((2, 3)))


class Linear(nn.Module):
    """A net without convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(32 * 32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


def rgb(classes: int) -> nn.Module:
    """A net for colour images."""
    return ResNet(classes, channels=3)


def broken() -> nn.Module:
    """A factory that raises."""
    raise KeyError("backbone")


def nothing() -> str:
    """A factory that returns no net."""
    return "resnet"


NUMBER = 7
