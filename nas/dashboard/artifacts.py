"""Artifacts of a run: its files in one of Optuna's artifact stores, where its dashboard shows and serves them.

An artifact's id is the SHA-256 of its content, so that one that is there already is not written again. Nothing is
uploaded during a search.
"""

import hashlib
import io
import json
import mimetypes
import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from optuna.artifacts import Boto3ArtifactStore, FileSystemArtifactStore, GCSArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound

from nas.errors import ConfigError, MissingPackageError, one_line
from nas.files import file_sha256, write_atomic
from nas.metrics import Score
from nas.results.record import Record
from nas.results.run_folder import RunFolder

RUN_FILES = ("report.html", "pareto.csv", "pareto.json", "importance.json")
"""Files of a run folder that belong to the study as a whole."""
UPLOADS_AT_ONCE = 8
_REMOTE = re.compile(r"(s3|gs)://([^/]+)/?(.*)")
_PACKAGES = {"s3": "boto3", "gs": "google-cloud-storage"}


class ArtifactStore(Protocol):
    """What Optuna's artifact stores have in common."""

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """The content; `ArtifactNotFound` where there is none."""

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Store a content."""

    def remove(self, artifact_id: str) -> None:
        """Remove a content."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One file of a run, by its content.

    Attributes:
        id: SHA-256 of the content, 64 hexadecimal digits.
        name: of the file, as it is shown.
        content: the content itself, or the path of the file that has it.
    """

    id: str
    name: str
    content: Path | bytes

    def attribute(self) -> tuple[str, str]:
        """Name and value of the system attribute by which Optuna knows an artifact of a trial or study."""
        kind, encoding = mimetypes.guess_type(self.name)
        facts = {"artifact_id": self.id, "filename": self.name, "encoding": encoding}
        return f"artifacts:{self.id}", json.dumps(facts | {"mimetype": kind or "application/octet-stream"})


class RunArtifacts:
    """The artifacts of one run, and the store that they are put into.

    Args:
        folder: the run.
        place: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, or a folder; None takes `artifacts/` in the run folder.

    Raises:
        MissingPackageError: the client of S3 or of Google's storage is not installed.
        ConfigError: the place is none of these.
    """

    def __init__(self, folder: RunFolder, place: str | None = None) -> None:
        self._folder, self._known = folder, set[str]()
        self._local: Path | None = None
        self.place = place or str(folder.path / "artifacts")
        remote = _REMOTE.fullmatch(self.place)
        if remote is not None:
            self.store: ArtifactStore = _remote_store(*remote.groups())
        elif "://" in self.place:
            raise ConfigError(
                f"artifacts must be s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or a folder, but got {place!r}"
            )
        else:
            self._local = Path(self.place)
            self._local.mkdir(parents=True, exist_ok=True)
            self.store = FileSystemArtifactStore(self._local)

    def of_run(self) -> list[Artifact]:
        """The report and the tables of the front, as far as they are written."""
        files = [self._folder.path / name for name in RUN_FILES]
        return [Artifact(id=file_sha256(f), name=f.name, content=f) for f in files if f.is_file()]

    def of_record(self, record: Record) -> list[Artifact]:
        """The ONNX file of a candidate, and a plot of its confusion matrix."""
        found = []
        root, file = self._folder.path.resolve(), (self._folder.path / record.model).resolve()
        # An edited record may name any file of this machine.
        if re.fullmatch("[0-9a-f]{64}", record.sha256) and file.is_relative_to(root) and file.is_file():
            found.append(Artifact(id=record.sha256, name=Path(record.model).name, content=file))
        if record.score is not None:
            plot = confusion_svg(record.score).encode()
            name = f"confusion-{record.phase}.svg"
            found.append(Artifact(id=hashlib.sha256(plot).hexdigest(), name=name, content=plot))
        return found

    def publish(self, artifacts: Iterable[Artifact]) -> None:
        """Put into the store what is not there yet.

        Raises:
            ConfigError: a remote store refuses.
            OSError: the folder cannot be written.
        """
        new = {a.id: a for a in artifacts if a.id not in self._known}
        if self._local is not None:
            for artifact in new.values():
                _put(artifact, self._local / artifact.id)
        elif new:
            try:
                with ThreadPoolExecutor(UPLOADS_AT_ONCE) as threads:
                    list(threads.map(self._upload, new.values()))
            except Exception as error:  # exceptions of the two clients share no base class
                raise ConfigError(
                    f"{self.place} must take the artifacts, but does not: {one_line(error)}; check bucket and "
                    "credentials"
                ) from None
        self._known |= new.keys()

    def _upload(self, artifact: Artifact) -> None:
        try:
            self.store.open_reader(artifact.id).close()
        except ArtifactNotFound:
            with (
                io.BytesIO(artifact.content)
                if isinstance(artifact.content, bytes)
                else artifact.content.open("rb") as f
            ):
                self.store.write(artifact.id, f)


def _put(artifact: Artifact, target: Path) -> None:
    """Write an artifact into a folder: a second name for a file on the same disk, otherwise a copy."""
    if target.exists():
        return
    if isinstance(artifact.content, Path):
        with suppress(OSError):
            os.link(artifact.content, target)
            return
        write_atomic(target, artifact.content.read_bytes())
    else:
        write_atomic(target, artifact.content)


def _remote_store(scheme: str, bucket: str, prefix: str) -> ArtifactStore:
    try:
        store = Boto3ArtifactStore(bucket) if scheme == "s3" else GCSArtifactStore(bucket)
    except ImportError:
        package = _PACKAGES[scheme]
        raise MissingPackageError(
            f"artifacts in {scheme}:// need {package}, which is not installed; type: pip install {package}"
        ) from None
    except Exception as error:  # credentials that are missing, of either client
        raise ConfigError(f"{scheme}://{bucket} cannot be used: {one_line(error)}; check the credentials") from None
    return _Prefixed(store, prefix.rstrip("/"))


class _Prefixed:
    """A store below a prefix of another."""

    def __init__(self, store: ArtifactStore, prefix: str) -> None:
        self._store, self._prefix = store, prefix

    def open_reader(self, artifact_id: str) -> BinaryIO:
        return self._store.open_reader(self._key(artifact_id))

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        self._store.write(self._key(artifact_id), content_body)

    def remove(self, artifact_id: str) -> None:
        self._store.remove(self._key(artifact_id))

    def _key(self, artifact_id: str) -> str:
        return f"{self._prefix}/{artifact_id}" if self._prefix else artifact_id


def confusion_svg(score: Score) -> str:
    """A confusion matrix as a picture: labels in rows, predictions in columns, darker for a larger share of the row."""
    names = (
        list(score.recall) if len(score.recall) == len(score.confusion) else list(map(str, range(len(score.confusion))))
    )
    side, margin = 44, 90
    size = margin + side * len(names)
    cells = []
    for row, counts in enumerate(score.confusion):
        y = margin + side * row
        name = _escape(names[row])
        cells.append(f'<text x="{margin - 6}" y="{y + 27}" text-anchor="end">{name}</text>')
        cells.append(f'<text transform="translate({y + 27} {margin - 6}) rotate(-60)">{name}</text>')
        for column, count in enumerate(counts):
            share = count / max(sum(counts), 1)
            ink = "#fff" if share > 0.5 else "#222"
            x, middle = margin + side * column, margin + side * column + side / 2
            cells.append(
                f'<rect x="{x}" y="{y}" width="{side}" height="{side}" fill="#1f5fa8" fill-opacity="{share:.3f}" '
                f'stroke="#ccc"/><text x="{middle:g}" y="{y + 27}" text-anchor="middle" fill="{ink}">{count}</text>'
            )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{size + 40}" height="{size + 10}" font-family="sans-serif" '
        f'font-size="13"><rect width="100%" height="100%" fill="#fff"/><text x="6" y="16">labels in rows, accuracy '
        f"{score.accuracy:.3f}</text>{''.join(cells)}</svg>"
    )


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
