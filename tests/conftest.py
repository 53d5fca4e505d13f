"""What every test may lean on: one torch thread, small faces that can be learned, and the folder of real data."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from nas.data.base import FaceData, Split

MakeFaces = Callable[..., FaceData]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests begin first: a worker that begins one last keeps the others waiting for it."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread() -> Iterator[None]:
    """Tests share their cores with others, and sums in one thread repeat to the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is remembered between processes stays out of the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data: $NAS_SHARED, or `shared/data` beside the checkout. Skips where there is none."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    root = Path(os.environ.get("NAS_SHARED", beside))
    for folder in (root / "data", root):
        if (folder / "fer2013").is_dir():
            return folder
    pytest.skip(f"needs real data that the repository does not carry: no fer2013 folder in {root}; set NAS_SHARED")


@pytest.fixture(scope="session")
def make_faces() -> MakeFaces:
    """A builder of small data sets: `make_faces(train=96, val=48, size=32, channels=1, ...)`."""
    return learnable_faces


@pytest.fixture(scope="session")
def faces() -> FaceData:
    """The builder's default: 96 and 48 grey images of 32x32, three classes, no test split."""
    return learnable_faces()


def learnable_faces(
    *,
    train: int = 96,
    val: int = 48,
    test: int = 0,
    size: int = 32,
    channels: int = 1,
    classes: tuple[str, ...] = ("angry", "happy", "sad"),
    noise: float = 25.0,
    seed: int = 0,
) -> FaceData:
    """Images whose class is the place of a bright spot under noise: any convolutional net learns them in a few epochs.

    The spots stand on a ring around the centre, the first one straight up. Labels are balanced and shuffled.
    """
    rng = np.random.default_rng(seed)
    spots = np.stack([_spot(k, len(classes), size) for k in range(len(classes))])

    def split(n: int) -> Split:
        labels = rng.permutation(np.arange(n) % len(classes)).astype(np.int64)
        clean = 90 + rng.uniform(60, 120, (n, 1, 1, 1)) * spots[labels][:, None]
        pixels = clean + rng.normal(0, noise, (n, channels, size, size))
        return Split(images=pixels.clip(0, 255).astype(np.uint8), labels=labels)

    return FaceData(
        name="spots",
        classes=classes,
        train=split(train),
        val=split(val),
        test=split(test) if test else None,
        synthetic=True,
        test_name="test" if test else "none was asked for",
    )


def _spot(place: int, places: int, size: int) -> npt.NDArray[np.float64]:
    angle = 2 * np.pi * place / places
    y, x = size / 2 - size / 3.5 * np.cos(angle), size / 2 + size / 3.5 * np.sin(angle)
    rows, columns = np.mgrid[:size, :size]
    return np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * (size / 10) ** 2))
