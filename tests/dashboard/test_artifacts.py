"""Artifacts of a run in a folder or a bucket."""

import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import BinaryIO

import pytest
from optuna.artifacts.exceptions import ArtifactNotFound

import nas.dashboard.artifacts
from nas.dashboard.artifacts import RunArtifacts, confusion_svg
from nas.errors import ConfigError, MissingPackageError
from tests.fake_runs import a_model, a_run, some_record, some_score


class Bucket:
    """A remote store in memory that counts what is written."""

    def __init__(self, name: str) -> None:
        self.name, self.contents, self.writes = name, dict[str, bytes](), list[str]()

    def open_reader(self, artifact_id: str) -> BinaryIO:
        if artifact_id not in self.contents:
            raise ArtifactNotFound
        return io.BytesIO(self.contents[artifact_id])

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        self.writes.append(artifact_id)
        self.contents[artifact_id] = content_body.read()


def test_a_bucket_gets_each_file_once_below_its_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buckets: dict[str, Bucket] = {}
    monkeypatch.setattr(
        nas.dashboard.artifacts, "Boto3ArtifactStore", lambda name: buckets.setdefault(name, Bucket(name))
    )
    folder = a_run(tmp_path, records=[])
    model = a_model(folder, "models/a.onnx")
    record = some_record(0, 0.5, 1.0, **model)
    for _ in range(2):  # another dashboard on the same bucket
        files = RunArtifacts(folder, "s3://faces/runs/a/")
        files.publish(files.of_record(record))
        files.publish(files.of_record(record))
    bucket = buckets["faces"]
    assert len(bucket.writes) == 2
    assert bucket.contents[f"runs/a/{model['sha256']}"] == (folder.path / "models/a.onnx").read_bytes()
    assert files.store.open_reader(model["sha256"]).read() == (folder.path / "models/a.onnx").read_bytes()


def test_a_bucket_that_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, artifact_id: str) -> BinaryIO:
        raise RuntimeError("Access\nDenied")

    monkeypatch.setattr(Bucket, "open_reader", refuse)
    monkeypatch.setattr(nas.dashboard.artifacts, "GCSArtifactStore", Bucket)
    folder = a_run(tmp_path)
    files = RunArtifacts(folder, "gs://faces")
    with pytest.raises(ConfigError, match=r"^gs://faces must take the artifacts, but does not: Access Denied; check"):
        files.publish(files.of_record(some_record(0, 0.5, 1.0)))


@pytest.mark.parametrize(("place", "package"), [("s3://faces/x", "boto3"), ("gs://faces", "google-cloud-storage")])
def test_a_missing_client_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, package: str) -> None:
    def absent(name: str) -> None:
        raise ImportError("no client")

    for store in ("Boto3ArtifactStore", "GCSArtifactStore"):
        monkeypatch.setattr(nas.dashboard.artifacts, store, absent)
    with pytest.raises(MissingPackageError, match=rf"type: pip install {package}$"):
        RunArtifacts(a_run(tmp_path), place)


def test_another_scheme_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"artifacts must be s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or a folder, but"):
        RunArtifacts(a_run(tmp_path), "ftp://faces")


def test_a_confusion_matrix_is_a_picture_with_its_counts() -> None:
    score = some_score(0.5)
    texts = [e.text for e in ElementTree.fromstring(confusion_svg(score)).iter() if e.tag.endswith("text")]
    counts = [str(count) for row in score.confusion for count in row]
    assert [t for t in texts if t and t.isdigit()] == counts
    assert {"angry", "happy", "sad"} <= set(texts)
