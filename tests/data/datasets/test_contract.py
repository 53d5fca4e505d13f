"""Contract kit of the data sets: every member is loaded from a small source."""

from pathlib import Path

import numpy as np
import pytest

from nas import registry
from nas.data.base import Dataset, FaceData, Split
from nas.errors import DataError
from tests.data.miniatures import PUBLISHED
from tests.data.sources import WRITERS

MEMBERS = registry.names("dataset")


def dataset(name: str) -> Dataset:
    member: Dataset = registry.load("dataset", name)
    return member


@pytest.fixture(scope="module", params=MEMBERS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FaceData:
    folder = tmp_path_factory.mktemp(request.param)
    return dataset(request.param).load(write(request.param, folder), cache=folder / "cache", options={})


def write(name: str, folder: Path) -> Path | None:
    writers = WRITERS | PUBLISHED
    assert name in writers, f"data set {name} needs a writer in tests/data/sources.py or tests/data/miniatures.py"
    source = folder / "source"
    source.mkdir()
    return writers[name](source)


def splits(data: FaceData) -> list[Split]:
    return [split for split in (data.train, data.val, data.test) if split is not None]


@pytest.mark.parametrize("name", MEMBERS)
def test_name_is_file_name(name: str) -> None:
    assert dataset(name).name == name


def test_arrays_have_the_promised_form(loaded: FaceData) -> None:
    for split in splits(loaded):
        assert split.images.dtype == np.uint8
        assert split.images.shape == (len(split), *loaded.input_shape)
        assert loaded.input_shape[0] in (1, 3)
        assert split.labels.dtype == np.int64
        assert split.labels.min() >= 0
        assert split.labels.max() < len(loaded.classes)
        if split.affect is not None:
            assert np.nanmax(np.abs(split.affect)) <= 1


def test_classes_are_lower_case_names(loaded: FaceData) -> None:
    assert all(name == name.lower().strip() != "" for name in loaded.classes)
    assert len(set(loaded.classes)) == len(loaded.classes)


def test_splits_share_no_image(loaded: FaceData) -> None:
    images = [{image.tobytes() for image in split.images} for split in splits(loaded)]
    assert len(set.union(*images)) == sum(map(len, images))


def test_splits_share_no_subject(loaded: FaceData) -> None:
    subjects = [set(split.subjects.tolist()) for split in splits(loaded) if split.subjects is not None]
    assert not subjects or len(set.union(*subjects)) == sum(map(len, subjects))


def test_absent_test_split_is_explained(loaded: FaceData) -> None:
    assert loaded.test is not None or loaded.test_name.startswith("no ")


@pytest.mark.parametrize("name", MEMBERS)
def test_second_load_reads_the_cache_and_is_equal(name: str, tmp_path: Path) -> None:
    path, cache = write(name, tmp_path), tmp_path / "cache"
    first = dataset(name).load(path, cache=cache, options={})
    (entry,) = cache.iterdir()
    written = entry.stat().st_mtime_ns
    second = dataset(name).load(path, cache=cache, options={})
    assert entry.stat().st_mtime_ns == written
    # The digest came from the cache file; computed from the arrays it must be the same.
    stored = second.__dict__.pop("digest")
    assert stored == second.digest == first.digest
    assert (second.classes, second.notes, second.test_name) == (first.classes, first.notes, first.test_name)
    assert (second.train.subjects is None) == (first.train.subjects is None)


@pytest.mark.parametrize("name", MEMBERS)
def test_unknown_option_is_refused_with_the_known_ones(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"option colour='red' of data set {name} is not known; its options are: "):
        dataset(name).load(write(name, tmp_path), cache=tmp_path, options={"colour": "red"})


@pytest.mark.parametrize("name", MEMBERS)
def test_wrong_path_gives_path_and_what_to_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="path") as caught:
        dataset(name).load(tmp_path / "absent.x", cache=tmp_path, options={})
    assert str(tmp_path / "absent.x") in str(caught.value)
    assert "\n" not in str(caught.value)
