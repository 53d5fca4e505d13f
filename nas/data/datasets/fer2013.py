"""FER2013 (Goodfellow et al., "Challenges in representation learning", ICML 2013 workshop), and FER+ on its images.

Two releases are read:
- Kaggle's `fer2013.csv`, also as .gz, .tar.gz or .zip, with columns in any order, and the competition's `train.csv`,
  whose faces have no usage;
- the folder release with `train/<class>/Training_*.jpg` and `test/<class>/{PublicTest,PrivateTest}_*.jpg`.

Training is the training split, PublicTest the selection split, PrivateTest the test split. Without PrivateTest there
is no test split.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from nas.data.base import Dataset, FaceData
from nas.data.cache import load_cached
from nas.data.fer2013_csv import CSV_NAMES, read_fer2013_csv
from nas.data.fer2013_folder import list_images, read_fer2013_folder
from nas.data.ferplus import find_ferplus_votes
from nas.data.options import DatasetOptions, parse_options
from nas.data.paths import printable_path
from nas.errors import DataError
from nas.files import regular_file_fault


class _Options(DatasetOptions):
    labels: Literal["fer2013", "ferplus"] = "fer2013"
    ferplus: Path | None = None


class Fer2013Dataset(Dataset):
    """Options: `labels=fer2013` (default) or `labels=ferplus`; `ferplus=PATH` of `fer2013new.csv`.

    With FER2013's labels and a path the votes of FER+ come beside the labels, which stay as they are.
    """

    name = "fer2013"

    def load(self, path: Path | None, *, cache: Path, options: Mapping[str, str]) -> FaceData:
        """Read the data set; see `Dataset.load`."""
        checked = parse_options(_Options, options, dataset=self.name)
        source = _find_source(path)
        settings = {"labels": checked.labels, "release": "folder" if source.is_dir() else "csv"}
        if source.is_dir():
            if checked.labels == "ferplus" or checked.ferplus is not None:
                raise DataError(
                    f"FER+ needs the rows of fer2013.csv in their order, but {printable_path(source)} is a folder of "
                    "images; give the path of fer2013.csv or leave labels=ferplus and ferplus=PATH out"
                )
            files, notes = list_images(source)
            return load_cached(
                cache,
                lambda: read_fer2013_folder(source, files, notes),
                dataset=self.name,
                settings=settings,
                root=source,
                sources=files,
                details=notes,
            )
        relabels = checked.labels == "ferplus"
        votes = find_ferplus_votes(source, checked.ferplus) if relabels or checked.ferplus is not None else None
        sources = (source,) if votes is None else (source, votes)
        return load_cached(
            cache,
            lambda: read_fer2013_csv(source, votes, relabels=relabels),
            dataset=self.name,
            settings=settings,
            root=source,
            sources=sources,
        )


def _find_source(path: Path | None) -> Path:
    """The CSV file or its archive, or the folder with train/ and test/."""
    if path is None:
        raise DataError(
            "fer2013 needs the path of fer2013.csv (or .gz, .zip) or of the folder with train/ and test/, but got "
            "none; download one of them from Kaggle (for research) and give its path"
        )
    shown = printable_path(path)
    if not path.is_dir():
        if (fault := regular_file_fault(path)) is not None:
            raise DataError(f"{shown} {fault}; give the path of fer2013.csv or of the folder with train/ and test/")
        return path
    if (source := _source_in(path)) is None:
        inner = next((folder for folder in sorted(path.iterdir()) if folder.is_dir() and _source_in(folder)), None)
        raise DataError(
            f"{shown} must hold fer2013.csv, or train/ and test/ of the folder release, but has neither; "
            + (f"it looks one level too high: give {printable_path(inner)}" if inner else "check the path")
        )
    return source


def _source_in(folder: Path) -> Path | None:
    """The CSV file in a folder, or the folder itself if it is the folder release, or None."""
    packed = ("fer2013.csv.gz", "fer2013.csv.zip", "fer2013.tar.gz", "fer2013.zip")
    *complete, partial = CSV_NAMES  # train.csv has no selection split
    if file := next((folder / name for name in (*complete, *packed) if (folder / name).is_file()), None):
        return file
    if (folder / "train").is_dir():
        return folder
    return folder / partial if (folder / partial).is_file() else None


DATASET = Fer2013Dataset()
