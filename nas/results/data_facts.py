"""Facts of the data set of a run, as data.json holds them: name, classes, counts, digest, whether it is synthetic."""

from collections.abc import Mapping
from typing import Any

from nas.results.run_folder import RunFolder

DATA_FILE = "data.json"


def read_data_facts(folder: RunFolder) -> dict[str, Any]:
    """The facts of a run's data set; where none were written, its name alone."""
    return folder.read_json(DATA_FILE) or {"name": folder.config.search.dataset}


def is_synthetic(facts: Mapping[str, Any], dataset: str) -> bool:
    """Whether the faces are drawn by code, so that no accuracy says anything about real faces.

    Args:
        facts: as `read_data_facts` returns them.
        dataset: the data set of the configuration, which decides where the facts do not say.
    """
    return bool(facts.get("synthetic", dataset == "synthetic"))
