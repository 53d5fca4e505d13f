"""Candidate of a run as a model: a network that a search found, built anew for `--model RUN:TRIAL`.

Its layers and channels are those of the candidate's file, removed channels included, so that its FP32 file is as fast.
What else compressed the file is left off: all units are in FP32, whole and dense. Its weights are fresh, because a long
training in one schedule ends better than one that goes on from the few epochs of a search.
"""

from pathlib import Path

from torch import nn

from nas import registry
from nas.errors import ConfigError, one_line
from nas.results.run_folder import RunFolder
from nas.results.selection import find_record


def is_run(word: str) -> bool:
    """Whether a word is a run folder, or one followed by a colon."""
    return _run_of(word) is not None


def build_candidate(word: str, *, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The network of a candidate, with fresh weights of torch's random state.

    Args:
        word: RUN:TRIAL or RUN:KEY, as `nas export` takes trial and key.
        input_shape: (C, H, W) of the images.
        classes: number of logits.

    Raises:
        ConfigError: there is no such candidate, or its run compressed a given model instead of searching a space.
    """
    run = _run_of(word)
    if run is None or run == word:
        raise ConfigError(
            f"a model of a run must be RUN:TRIAL or RUN:KEY, but got {word!r}; name one of its candidates"
        )
    folder = RunFolder(Path(run))
    candidate = find_record(folder.records(), word.removeprefix(f"{run}:")).candidate
    if candidate.space not in registry.names("space"):
        raise ConfigError(
            f"a model of a run must be a network of a search space, but {word} is a form of {candidate.space}; give "
            f"--model {folder.config.search.model or candidate.space}"
        )
    try:
        space = registry.load("space", candidate.space)
        net: nn.Module = space.build(
            candidate.architecture, input_shape=input_shape, classes=classes, widths=candidate.pruned
        )
    except Exception as error:  # a record may hold any JSON
        raise ConfigError(
            f"{word} must hold a network of the space {candidate.space}, but its record does not: {one_line(error)}; "
            "name another candidate"
        ) from None
    return net


def _run_of(word: str) -> str | None:
    """The part of a word that is a run folder: all of it, what precedes the last colon, or the first; None without."""
    parts = (word, word.rpartition(":")[0], word.partition(":")[0])
    return next((part for part in parts if part and _is_folder_of_run(Path(part))), None)


def _is_folder_of_run(path: Path) -> bool:
    try:
        return (path / "config.toml").is_file()
    except OSError:  # the options of a factory may be longer than any path
        return False
