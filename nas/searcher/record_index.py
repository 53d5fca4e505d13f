"""Records of the search phase of one run, in order and by candidate key, updated incrementally."""

from nas.results.record import Record
from nas.results.run_folder import RunFolder


class SearchRecords:
    """The records of the search phase of one run.

    Life: made once per search and shared by its parts. Each query first takes in the records that were appended since
    the last one, so its cost does not grow with the number of trials.

    Args:
        folder: the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._n_read = 0
        self._records: list[Record] = []
        self._by_key: dict[str, Record] = {}

    def all(self) -> list[Record]:
        """Records of the search phase, oldest first. The list grows with later calls; do not change it."""
        self._read_new()
        return self._records

    def find(self, key: str) -> Record | None:
        """The latest record of a candidate; None where it was not evaluated yet."""
        self._read_new()
        return self._by_key.get(key)

    def _read_new(self) -> None:
        records = self._folder.records()
        added = [record for record in records[self._n_read :] if record.phase == "search"]
        self._n_read = len(records)
        self._records += added
        self._by_key |= {record.key: record for record in added}
