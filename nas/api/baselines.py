"""Published baselines of a run: ONNX files from elsewhere, scored and timed as the candidates were, and remembered."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from nas.api.measurement import measure_all
from nas.data.base import FaceData
from nas.data.loading import load_data
from nas.errors import ConfigError, ExportError, MeasureError
from nas.evaluation.onnx_classifier import checked_file, file_digest, find_classifier, score_classifier
from nas.latency.costs import Costs, compute_costs
from nas.latency.latency import Latency
from nas.results.data_facts import read_data_facts
from nas.results.published_baseline import PublishedBaseline, add_baselines, baseline_key, read_baselines
from nas.results.record import utc_timestamp
from nas.results.run_folder import RunFolder
from nas.runtimes.onnx_input import read_onnx_input

LogFunction = Callable[[str], None]


def evaluate_baselines(
    folder: RunFolder,
    paths: Sequence[str | Path],
    *,
    data: FaceData | None = None,
    log: LogFunction = lambda _: None,
) -> list[PublishedBaseline]:
    """Score files on a run's selection split, time them for its target, and keep the figures in the run folder.

    A file that the run folder has figures of is neither scored nor timed again. On this machine, files are timed on one
    thread, as candidates are.

    Args:
        folder: the run.
        paths: ONNX files, each with one image input.
        data: the data set of the run; None reads it where a file is scored.
        log: called with a line about each step.

    Returns:
        The baselines of these files, in order, each once.

    Raises:
        ConfigError: a file is missing or no ONNX file, has other classes than the data or an unknown order of them, or
            the data are not those of the run.
        DataError: the data set of the run cannot be read.
        MeasureError: a file does not run, or the board gives no latency that can be trusted.
    """
    target = folder.config.search.target
    files = [checked_file(Path(path)) for path in paths]
    keys = {path: baseline_key(file_digest(path), target) for path in files}
    known = {baseline.key: baseline for baseline in read_baselines(folder)}
    new = list({keys[path]: path for path in files if keys[path] not in known}.values())
    found: dict[str, PublishedBaseline] = {}
    if new:
        found = {each.key: each for each in _evaluate(folder, new, data or _data_of(folder, log), log)}
    for path in files:  # a file may have moved since
        if keys[path] in known:
            found[keys[path]] = replace(known[keys[path]], name=_display_name(path), path=str(path))
    add_baselines(folder, found.values())
    return [found[key] for key in dict.fromkeys(keys[path] for path in files)]


def _evaluate(folder: RunFolder, paths: Sequence[Path], data: FaceData, log: LogFunction) -> list[PublishedBaseline]:
    log("find pixel scaling and order of the classes on training images")
    sources = [find_classifier(path, data) for path in paths]
    config = folder.config
    timed = measure_all(paths, target=config.search.target, log=log)
    baselines = []
    for path, source, latencies in zip(paths, sources, timed, strict=True):
        if isinstance(latencies, MeasureError):
            raise latencies
        log(f"score {path.name} on the {len(data.val):,} images of {data.val_name}")
        costs, cost_notes = _costs(path)
        baselines.append(
            PublishedBaseline(
                name=_display_name(path), path=str(path), sha256=source.sha256, target=config.search.target,
                score=score_classifier(source, data, threads=config.run.worker_threads, log=log),
                accuracy_split=f"val ({data.val_name}{', synthetic faces' if data.synthetic else ''})",
                latency=latencies[0], host=_host_of(latencies), params=costs.params if costs else None,
                macs=costs.macs if costs else None, size_bytes=_total_bytes(path), notes=source.notes + cost_notes,
                finished=utc_timestamp(),
            )
        )  # fmt: skip
    return baselines


def _data_of(folder: RunFolder, log: LogFunction) -> FaceData:
    """The data set of a run.

    Raises:
        ConfigError: it has changed since.
        DataError: it cannot be read.
    """
    search = folder.config.search
    log(f"read data set {search.dataset}")
    data = load_data(
        search.dataset, search.data, options=search.data_options, keep_duplicates=search.keep_duplicates,
        protocol=search.protocol,
    )  # fmt: skip
    expected = read_data_facts(folder).get("digest")
    if expected and expected != data.digest:
        raise ConfigError(
            f"the data of {folder.path} must be those of its search, but {search.data or search.dataset} has changed "
            f"(digest {data.digest[:12]} instead of {str(expected)[:12]}); restore the file"
        )
    return data


def _host_of(latencies: Sequence[Latency]) -> Latency | None:
    """What was measured on this machine beside a prediction."""
    return latencies[1] if len(latencies) > 1 else None


def _costs(path: Path) -> tuple[Costs | None, tuple[str, ...]]:
    """Costs of a file; None with a note where its operators cannot be counted."""
    try:
        return compute_costs(path), ()
    except ExportError as error:
        return None, (f"weights and multiply-accumulates of {path.name} are unknown: {error}",)


def _total_bytes(path: Path) -> int:
    """Bytes of a file and of the files that hold its weights."""
    beside = [path.parent / name for name in read_onnx_input(path).external_files]
    return sum(file.stat().st_size for file in (path, *beside))


def _display_name(path: Path) -> str:
    """The file's name; that of its folder for the model.onnx of an exported model."""
    return path.parent.name if path.name == "model.onnx" else path.stem
