"""FER2013 (Goodfellow et al., "Challenges in representation learning", ICML 2013 workshop), and FER+ on its images.

Two releases are read:
- Kaggle's `fer2013.csv`, also as .gz, .tar.gz or .zip, with columns in any order;
- the folder release with `train/<class>/Training_*.jpg` and `test/<class>/{PublicTest,PrivateTest}_*.jpg`.

Training is the training split, PublicTest the selection split, PrivateTest the test split. Without PrivateTest there
is no test split.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from nas.data.base import Dataset, FaceData
from nas.data.cache import load_cached
from nas.data.fer2013_csv import find_ferplus_votes, read_fer2013_csv
from nas.data.fer2013_folder import list_images, read_fer2013_folder
from nas.data.options import DatasetOptions, parse_options
from nas.errors import DataError


class _Options(DatasetOptions):
    labels: Literal["fer2013", "ferplus"] = "fer2013"
    ferplus: Path | None = None


class Fer2013Dataset(Dataset):
    """Options: `labels=fer2013` (default) or `labels=ferplus`; `ferplus=PATH` of `fer2013new.csv`."""

    name = "fer2013"

    def load(self, path: Path | None, *, cache: Path, options: Mapping[str, str]) -> FaceData:
        """Read the data set; see `Dataset.load`."""
        checked = parse_options(_Options, options, dataset=self.name)
        source = _find_source(path)
        settings = {"labels": checked.labels, "release": "folder" if source.is_dir() else "csv"}
        if source.is_dir():
            if checked.labels == "ferplus":
                raise DataError(
                    f"FER+ needs the rows of fer2013.csv in their order, but {source} is a folder of images; give the "
                    "path of fer2013.csv or leave labels=ferplus out"
                )
            files = list_images(source)
            return load_cached(
                cache, lambda: read_fer2013_folder(source, files), dataset=self.name, settings=settings, sources=files
            )
        votes = find_ferplus_votes(source, checked.ferplus) if checked.labels == "ferplus" else None
        sources = (source,) if votes is None else (source, votes)
        return load_cached(
            cache, lambda: read_fer2013_csv(source, votes), dataset=self.name, settings=settings, sources=sources
        )


def _find_source(path: Path | None) -> Path:
    """The CSV file or its archive, or the folder with train/ and test/."""
    if path is None:
        raise DataError(
            "fer2013 needs the path of fer2013.csv (or .gz, .zip) or of the folder with train/ and test/, but got "
            "none; download one of them from Kaggle (for research) and give its path"
        )
    if not path.exists():
        raise DataError(f"{path} does not exist; give the path of fer2013.csv or of the folder with train/ and test/")
    if not path.is_dir():
        return path
    names = ("fer2013.csv", "icml_face_data.csv", "fer2013.csv.gz", "fer2013.csv.zip", "fer2013.tar.gz", "fer2013.zip")
    file = next((path / name for name in names if (path / name).is_file()), None)
    if file is None and not (path / "train").is_dir():
        raise DataError(
            f"{path} must hold fer2013.csv, or train/ and test/ of the folder release, but has neither; check the path"
        )
    return file or path


DATASET = Fer2013Dataset()
