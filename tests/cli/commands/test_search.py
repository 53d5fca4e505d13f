"""`nas search` and `nas compress`: options, and what is shown during and after a search; the search is replaced."""

import inspect
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import nas
from nas import api
from nas.cli.commands._config_options import flag_of, load_config
from nas.cli.main import app
from nas.config import FIELD_GROUPS, GROUPS, MODEL_FIELDS, TRAIN_FIELDS, make_config
from nas.errors import ConfigError
from nas.results.run import Run
from nas.results.run_folder import RunFolder
from nas.results.status import SearchStatus
from tests.shown import plain

MODEL_FLAGS = {flag_of(name) for name in ("model", *MODEL_FIELDS)}


def test_every_field_of_the_configuration_has_a_flag(run: CliRunner, monkeypatch, folder: RunFolder) -> None:
    configs = []

    def search(config, *, on_status):
        configs.append(config)
        return Run(folder)

    monkeypatch.setattr(api, "search", search)
    flags = [
        "--target", "cpu", "--space", "plain", "--dataset", "folder", "--data", "faces", "--data-option", "size=48",
        "--data-option", "gray=yes", "--objectives", "accuracy,latency,size", "--max-latency", "5ms",
        "--max-memory", "8MiB", "--max-dla-fallback", "0", "--max-size",
        "500kB", "--min-accuracy", "0.6", "--trials", "7", "--budget", "30m", "--sampler", "random", "--epochs", "9",
        "--search-share", "0.7", "--patience", "40", "--verify-seeds", "3",
        "--rungs", "0.1,0.3,1", "--final-epochs", "4", "--verify", "2", "--seed", "3", "--threads", "1", "--device",
        "cpu", "--execution", "plain", "--workers", "4", "--executor", "ray", "--address", "auto", "--worker-memory",
        "4GB", "--wait", "--storage", "sqlite:///x.db", "--runs", "elsewhere", "--name", "mine",
        "--teacher", "votes", "--teacher", "best.onnx=3", "--teacher-classes", "sad,happy",
        "--teacher-output", "y", "--distill", "dkd", "--temperature", "2", "--alpha", "0.5",
        "--keep-duplicates", "--protocol", "holdout", "--teacher-views", "8", "--branches",
        "--auxiliary-head", "--crops",
            "--distill-during", "search", "--compressors", "quantize,low_rank", "--importance", "l1,nni_l1",
        "--sparsity-step", "0.125", "--prune-steps", "3", "--qat", "0.5",
        "--qat-scales", "learned", "--warm-start", "runs/a", "--warm-start", "runs/b", "--proxies", "nwot,jacov",
        "--baseline", "a.onnx", "--baseline", "b,c.onnx",
    ]  # fmt: skip
    result = run.invoke(app, ["search", *flags])
    assert result.exit_code == 0, result.output
    assert {name: configs[0].get(name) for name in FIELD_GROUPS} == {
        "target": "cpu", "space": "plain", "dataset": "folder", "data": Path("faces"),
        "data_options": {"size": "48", "gray": "yes"}, "objectives": ("accuracy", "latency", "size"),
        "max_latency": 5.0, "max_memory": 8 * 2**20, "max_dla_fallback": 0, "max_size": 500e3,
        "min_accuracy": 0.6, "trials": 7, "budget": 1800.0, "search_share": 0.7,
        "sampler": "random", "epochs": 9.0, "rungs": (0.1, 0.3, 1.0), "final_epochs": 4, "verify": 2, "seed": 3,
        "threads": 1, "device": "cpu", "execution": "plain", "workers": 4, "executor": "ray", "address": "auto",
        "worker_memory": 4e9, "wait": True, "storage": "sqlite:///x.db", "runs": Path("elsewhere"), "name": "mine",
        "teacher": ("votes", "best.onnx=3"), "teacher_classes": ("sad", "happy"), "teacher_output": "y",
        "distill": "dkd", "temperature": 2.0, "alpha": 0.5,
        "keep_duplicates": True, "protocol": "holdout", "teacher_views": 8, "branches": True,
        "auxiliary_head": True, "crops": True,
            "distill_during": "search", "compressors": ("quantize", "low_rank"), "importance": ("l1", "nni_l1"),
        "sparsity_step": 0.125, "prune_steps": 3, "qat": 0.5,
        "qat_scales": "learned", "patience": 40, "verify_seeds": 3,
        "warm_start": (Path("runs/a"), Path("runs/b")), "proxies": ("nwot", "jacov"),
        "baseline": (Path("a.onnx"), Path("b,c.onnx")),
        **dict.fromkeys(("model", *MODEL_FIELDS)),  # of nas compress
    }  # fmt: skip


def test_options_take_precedence_over_the_file(run: CliRunner, monkeypatch, folder: RunFolder, tmp_path: Path) -> None:
    configs = []
    monkeypatch.setattr(api, "search", lambda config, *, on_status: configs.append(config) or Run(folder))
    file = tmp_path / "nas.toml"
    file.write_text('target = "cpu"\nspace = "plain"\ntrials = 5\n')
    assert run.invoke(app, ["search", "--config", str(file), "--trials", "6"]).exit_code == 0
    fields = configs[0].search
    assert (fields.target, fields.space, fields.trials, fields.budget) == ("cpu", "plain", 6, None)


def test_a_search_shows_the_front_and_what_comes_next(run: CliRunner, monkeypatch, folder: RunFolder) -> None:
    def search(config, *, on_status):
        status = {"run": "r", "activity": "", "total": None, "feasible_share": 1.0, "hypervolume": 0.1}
        status |= {"best": "b", "left_s": 75}
        for done in range(25):
            on_status(SearchStatus(stage="search", done=done, **status))
        on_status(SearchStatus(stage="verify", done=1, **status))
        return Run(folder)

    monkeypatch.setattr(api, "search", search)
    found = run.invoke(app, ["search"])
    lines = found.stdout.splitlines()
    # Not a terminal: a line after 10 and 20 candidates and when the phase changes.
    assert [line.split(" ")[:2] for line in lines if "hypervolume" in line] == [
        ["searching:", "10"],
        ["searching:", "20"],
        ["training", "the"],
    ]
    assert "1:15 left" in lines[0]
    words = plain(found.stdout)
    assert "verified front" in words
    assert "predicted" in words
    assert "dropped: trial 5 (trial 2 is +2.0 points" in words
    assert f"nas pick {folder.path}" in words
    assert str(folder.path / "report.html") in words


def test_an_interrupted_search_says_how_to_resume(run: CliRunner, monkeypatch) -> None:
    def search(config, *, on_status):
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "search", search)
    found = run.invoke(app, ["search"])
    assert found.exit_code == 130
    assert found.stderr == "nas: stopped; the same command resumes\n"


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--budget", "soon"], "budget must be a positive number"),
        (["--rungs", "a,b"], "--rungs must be numbers separated by commas, but got 'a,b'"),
        (["--data-option", "gray"], "--data-option must be NAME=VALUE"),
        (["--objectives", "accuracy"], "objectives must be accuracy, latency"),
        (["--config", "nowhere.toml"], "nowhere.toml does not exist; give the path of a text file"),
    ],
)
def test_an_invalid_option_is_one_line_and_status_2(run: CliRunner, flags: list[str], line: str) -> None:
    found = run.invoke(app, ["search", *flags])
    assert found.exit_code == 2
    assert found.stderr.startswith(f"nas: {line}")
    assert found.stderr.count("\n") == 1


def flags_of(command: str) -> set[str]:
    return {flag for option in get_command(app).commands[command].params for flag in option.opts} - {"--help"}


def test_flags_toml_keys_and_keyword_arguments_are_one_set_of_words() -> None:
    assert flags_of("search") == {flag_of(name) for name in FIELD_GROUPS} - MODEL_FLAGS | {"--config"}
    own = {"--config", "--sensitivity", "--out"}
    assert flags_of("compress") == {flag_of(name) for name in FIELD_GROUPS} - {"--space"} | own
    assert flags_of("train") == {flag_of(name) for name in TRAIN_FIELDS} | {"--config", "--epochs"}
    assert set(inspect.signature(nas.search).parameters) == {*FIELD_GROUPS, "config", "on_status"}
    assert {key for table in tomllib.loads(make_config().to_toml()).values() for key in table} <= set(FIELD_GROUPS)
    # Each flag sets one of several options of the data set; every other flag is its field's name.
    assert {name for name in FIELD_GROUPS if flag_of(name) != f"--{name.replace('_', '-')}"} == {"data_options"}


@pytest.mark.parametrize("command", ["search", "compress"])
def test_help_explains_each_option_in_the_panel_of_its_group(run: CliRunner, command: str) -> None:
    shown = plain(run.invoke(app, [command, "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"}).stdout)
    titles = [f"─ {group.capitalize()} ─" for group in GROUPS]
    places = [shown.index(title) for title in titles]
    assert places == sorted(places)
    ends = [*places[1:], len(shown)]
    for name, group in FIELD_GROUPS.items():
        if flag_of(name) in flags_of(command):
            panel = shown[places[list(GROUPS).index(group)] : ends[list(GROUPS).index(group)]]
            field = GROUPS[group].model_fields[name]
            assert f"{flag_of(name)} " in panel
            assert str(field.description) in panel
    assert "(default accuracy,latency)" in shown
    assert "(default 0.111,0.333,1)" in shown


def test_compress_requires_a_model_and_passes_it_on(run: CliRunner, monkeypatch, folder: RunFolder) -> None:
    configs = []
    monkeypatch.setattr(api, "search", lambda config, *, on_status: configs.append(config) or Run(folder))
    refused = run.invoke(app, ["compress", "--trials", "3"])
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert refused.stderr.startswith("nas: nas compress requires a model; give --model NAME")
    result = run.invoke(app, ["compress", "--model", "resnet8", "--mean", "0", "--std", "255", "--trials", "0"])
    assert result.exit_code == 0, result.output
    fields = configs[0].search
    assert (fields.model, fields.mean, fields.std, fields.trials) == ("resnet8", 0.0, 255.0, 0)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(13, "Permission denied", "runs/a"), "runs/a: Permission denied; check its owner and mode"),
        (FileNotFoundError(2, "No such file or directory", "w.pt"), "w.pt: No such file or directory; check the path"),
        (OSError(28, "No space left on device", "runs/b"), "runs/b: No space left on device; free space on that disk"),
        (OSError("odd"), "odd; check the path"),
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer; check the connection"),
        (MemoryError("Unable to allocate 9 GiB"), "out of memory (Unable to allocate 9 GiB); close other programs"),
        (MemoryError(), "out of memory; close other programs"),
        (UnicodeDecodeError("utf-8", b"caf\xe9", 3, 4, "unexpected end"), "a file must be UTF-8 text, but is not: "),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_of_the_system_is_one_line(run: CliRunner, monkeypatch, error: Exception, line: str) -> None:
    def search(config, *, on_status):
        raise error

    monkeypatch.setattr(api, "search", search)
    result = run.invoke(app, ["search"])
    is_lack_of_room = isinstance(error, MemoryError) or "No space" in str(error)
    assert result.exit_code == (1 if is_lack_of_room else 2)
    assert result.stderr.startswith(f"nas: {line}")
    assert result.stderr.count("\n") == 1
    assert isinstance(result.exception, SystemExit)


def test_a_fault_of_the_package_keeps_its_traceback(run: CliRunner, monkeypatch) -> None:
    def search(config, *, on_status):
        raise RuntimeError("a fault")

    monkeypatch.setattr(api, "search", search)
    assert isinstance(run.invoke(app, ["search"]).exception, RuntimeError)


def test_normalisation_is_given_as_one_number_or_one_for_each_channel() -> None:
    several = load_config(None, {"model": "resnet8", "mean": "0.485,0.456,0.406", "std": "0.25"}).search
    assert (several.mean, several.std) == ((0.485, 0.456, 0.406), 0.25)
    with pytest.raises(ConfigError, match="--mean must be numbers separated by commas, but got '0,x'"):
        load_config(None, {"model": "resnet8", "mean": "0,x"})


def test_a_password_in_a_file_of_fields_reaches_the_search(
    run: CliRunner, monkeypatch, folder: RunFolder, tmp_path: Path
) -> None:
    configs = []
    monkeypatch.setattr(api, "search", lambda config, *, on_status: configs.append(config) or Run(folder))
    file = tmp_path / "nas.toml"
    file.write_text('storage = "postgresql://ada:secret@db/nas"\nmax_latency = "5ms"\nrungs = [0.5, 1.0]')
    assert run.invoke(app, ["search", "--config", str(file)]).exit_code == 0
    assert configs[0].run.storage == "postgresql://ada:secret@db/nas"
    assert (configs[0].limits.max_latency, configs[0].training.rungs) == (5.0, (0.5, 1.0))
