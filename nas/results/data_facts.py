"""Facts of the data set of a run, as data.json holds them: name, classes, counts, digest, whether it is synthetic."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from nas.results.run_folder import RunFolder

DATA_FILE = "data.json"


class DataFacts(BaseModel):
    """Form of data.json: what its readers rely on."""

    model_config = ConfigDict(strict=True)

    name: str = ""
    digest: str = ""
    classes: list[str] = []
    notes: list[str] = []
    synthetic: bool = False
    train: int = 0
    val: int = 0
    test: int = 0
    n_folds: int = 1
    val_name: str = ""
    test_name: str = ""


def read_data_facts(folder: RunFolder) -> dict[str, Any]:
    """The facts of a run's data set; where none were written, its name alone.

    Raises:
        ConfigError: data.json is damaged.
    """
    stored: dict[str, Any] = folder.read_json(DATA_FILE, DataFacts)
    return {"name": folder.config.search.dataset} | stored


def is_synthetic(facts: Mapping[str, Any], dataset: str) -> bool:
    """Whether the faces are drawn by code, so that no accuracy says anything about real faces.

    Args:
        facts: as `read_data_facts` returns them.
        dataset: the data set of the configuration, which decides where the facts do not say.
    """
    return bool(facts.get("synthetic", dataset == "synthetic"))
