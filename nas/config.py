"""What a search is asked to do: flags or TOML in, one frozen and checked `SearchConfig` out."""

import itertools
import json
import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from nas.errors import ConfigError

OBJECTIVES: dict[str, bool] = {"accuracy": True, "latency": False, "size": False, "energy": False}
"""Objective words, and whether more is better."""

_TIME_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LATENCY_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_SIZE_BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "kib": 1024.0, "mib": 1024.0**2}


def quantity(text: str | float, units: Mapping[str, float], *, example: str) -> float:
    """A number with a unit as a plain number; a bare number is taken as it is.

    Raises:
        ConfigError: it is not a positive number, or the unit is none of `units`.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([a-zA-Z]*)\s*", str(text))
    unit = match[2].lower() if match else ""
    if not match or not 0 < float(match[1]) < math.inf or (unit and unit not in units):
        raise ConfigError(f"need a positive number with one of {', '.join(units)}, but got {text!r}; try {example}")
    return float(match[1]) * (units[unit] if unit else 1.0)


def _unit(units: Mapping[str, float], example: str) -> BeforeValidator:
    return BeforeValidator(lambda v: None if v is None else quantity(v, units, example=example))


Seconds = Annotated[float, _unit(_TIME_S, "30m")]
Milliseconds = Annotated[float, _unit(_LATENCY_MS, "5ms")]
Bytes = Annotated[float, _unit(_SIZE_BYTES, "500kB")]


class SearchConfig(BaseModel):
    """One search. Frozen; every field is checked once, here.

    Attributes:
        target: the device to search for, a word of `nas targets`.
        space: the search space; not used where a model is given.
        model: a net whose compression is searched instead: a word of `nas.models.zoo`, or a factory "package.module:function",
            called with those of `input_shape`, `classes` and `num_classes` that it names.
        weights: file of the model's state dict; without one the net is trained first, for `final_epochs`.
        mean: what the model wants subtracted from pixels 0..255; None leaves what our nets do.
        std: what it wants them divided by afterwards; None leaves what our nets do.
        input_size: height and width that images are resized to for the model; None leaves them as they are.
        dataset: the data set; `data` is its file or folder, `data_options` further settings by name.
        objectives: two or more of accuracy, latency, size and energy; accuracy and latency among them.
        max_latency: upper limit in milliseconds on the target; text may carry a unit ("5ms").
        max_size: upper limit of the file in bytes; text may carry a unit ("500kB").
        min_accuracy: lower limit of the accuracy on the selection split, 0..1.
        trials: stop after this many evaluated candidates; 0 only trains and measures a given model as it is.
        budget: stop after this many seconds, training the front included; text may carry a unit ("30m").
        stop_when_flat: end the search earlier, when so many further candidates would gain less than 1 % of hypervolume
            with 97.5 % confidence, see `nas.results.convergence`; None never does.
        search_share: share of the budget for the search, 0..1; the rest trains and measures its front.
        sampler: who proposes candidates.
        warm_start: folders of earlier runs on the same space and data, which teach the sampler and whose fronts are
            asked first.
        proxies: what is read off each draft that may be trained, into its record: words of `nas.evaluation.proxies`.
        compressors: what may be done to a net, in order; words of `nas.compression.compressors`.
        qat: share of the final epochs that a member of the front with 8-bit units learns on in its quantised form; 0
            leaves that out.
        qat_steps: "calibrated" keeps the grids of that form, "learned" trains them too.
        teacher: who the nets learn from besides the labels: files, runs or `votes`, each with =WEIGHT if wanted; see
            `nas.distillation.teachers`.
        distill: how they learn from it; a word of `nas.distillation.methods`.
        temperature: the teachers' and the nets' logits are divided by it.
        alpha: share of the teachers in the loss, 0..1.
        distill_from: "final" teaches in the final training of the front, "start" in all of the search too.
        prune_steps: steps in which channels leave, with training between them.
        epochs: passes over the training set that a candidate gets when it goes through all rungs.
        rungs: shares of `epochs`, ascending, the last is 1; after each only the non-dominated go on. Of the default,
            those are left out at which a small data set has taught nothing yet, see `nas.searcher.promotion`.
        final_epochs: passes that a member of the front gets afterwards, on top; 0 skips that.
        verify: how many members of the front are trained and measured again, from two on the most accurate among them.
        verify_seeds: how often each of them is trained, to say how much of an accuracy is luck; the first one ships.
        seed: of everything random.
        threads: CPU threads for training; 0 means all cores.
        device: "auto", "cpu" or "cuda".
        storage: URL of an Optuna storage; None keeps a journal file in the run folder.
        runs: folder of all runs.
        name: of this run; None makes it from data set, space and target.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    target: str = "jetson"
    space: str = "darts"
    model: str | None = None
    weights: Path | None = None
    mean: float | None = None
    std: float | None = Field(default=None, gt=0)
    input_size: int | None = Field(default=None, ge=8)
    dataset: str = "synthetic"
    data: Path | None = None
    data_options: dict[str, str] = Field(default_factory=dict)
    objectives: tuple[str, ...] = ("accuracy", "latency")
    max_latency: Milliseconds | None = None
    max_size: Bytes | None = None
    min_accuracy: float | None = Field(default=None, ge=0, le=1)
    trials: int | None = Field(default=None, ge=0)
    budget: Seconds | None = None
    stop_when_flat: int | None = Field(default=None, ge=5)
    search_share: float = Field(default=0.6, gt=0, le=1)
    sampler: str = "screened"
    warm_start: tuple[Path, ...] = ()
    proxies: tuple[str, ...] = ()
    compressors: tuple[str, ...] = ("prune_structured", "quantize")
    teacher: tuple[str, ...] = ()
    distill: str = "logits"
    temperature: float = Field(default=4.0, gt=0)
    alpha: float = Field(default=0.7, ge=0, le=1)
    distill_from: str = Field(default="final", pattern="^(final|start)$")
    prune_steps: int = Field(default=2, ge=1)
    qat: float = Field(default=0.15, ge=0, le=1)
    qat_steps: str = Field(default="calibrated", pattern="^(calibrated|learned)$")
    epochs: float = Field(default=3.0, gt=0)
    rungs: tuple[float, ...] = (1 / 9, 1 / 3, 1.0)
    final_epochs: int = Field(default=20, ge=0)
    verify: int = Field(default=5, ge=0)
    verify_seeds: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0)
    threads: int = Field(default=0, ge=0)
    device: str = Field(default="auto", pattern="^(auto|cpu|cuda)$")
    storage: str | None = None
    runs: Path = Path("runs")
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")

    @field_validator("objectives")
    @classmethod
    def _known_objectives(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [w for w in words if w not in OBJECTIVES]
        if unknown or len(set(words)) != len(words) or not {"accuracy", "latency"} <= set(words):
            raise ValueError(
                f"objectives must be accuracy, latency and any of size, energy, each once, but got {','.join(words)}"
            )
        return words

    @field_validator("rungs")
    @classmethod
    def _ascending_rungs(cls, rungs: tuple[float, ...]) -> tuple[float, ...]:
        if not rungs or rungs[-1] != 1 or rungs[0] <= 0 or any(a >= b for a, b in itertools.pairwise(rungs)):
            raise ValueError(f"rungs must ascend within (0, 1] and end with 1, but got {rungs}")
        return rungs

    @model_validator(mode="after")
    def _is_of_a_model(self) -> Self:
        without = [name for name in MODEL_FIELDS if getattr(self, name) is not None]
        if self.model is None and without:
            raise ValueError(f"{without[0]} must come with a model, but there is none; try nas compress --model")
        if self.model is None and self.trials == 0:
            raise ValueError("trials: must be at least 1, but got 0; only nas compress has something to do without any")
        if self.model is not None and "epochs" not in self.model_fields_set:
            object.__setattr__(self, "epochs", COMPRESS_EPOCHS)
        return self

    @model_validator(mode="after")
    def _has_an_end(self) -> Self:
        if self.trials is None and self.budget is None:
            object.__setattr__(self, "budget", DEFAULT_BUDGET_S)
        return self

    @property
    def run_name(self) -> str:
        """The run's name, the given one or one made of data set, space and target."""
        return self.name or f"{self.dataset}-{re.sub(r'[^A-Za-z0-9_]+', '-', self.subject)}-{self.target}"

    @property
    def subject(self) -> str:
        """What is searched: the given model, or the search space."""
        return self.model or self.space

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.runs / self.run_name

    def to_toml(self) -> str:
        """The configuration as TOML; fields that are None are left out."""
        fields = self.model_dump(mode="json", exclude_none=True)
        tables = {k: v for k, v in fields.items() if isinstance(v, dict)}
        lines = [f"{k} = {_toml(v)}" for k, v in fields.items() if k not in tables]
        for name, table in tables.items():
            if table:
                lines += ["", f"[{name}]", *(f"{_toml(k)} = {_toml(v)}" for k, v in table.items())]
        return "\n".join(lines) + "\n"

    def differences(self, other: "SearchConfig") -> list[str]:
        """Fields that decide what is found and differ, as "field: here, there"; see `FREE_FIELDS` for the others."""
        mine, theirs = self.model_dump(mode="json"), other.model_dump(mode="json")
        return [
            f"{k}: {mine[k]!r} there, {theirs[k]!r} asked"
            for k in mine
            if k not in FREE_FIELDS and mine[k] != theirs[k]
        ]


def _toml(value: Any) -> str:
    """Text, number, truth or list as TOML: JSON, but for what TOML wants as it is or escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


DEFAULT_BUDGET_S = 240.0
COMPRESS_EPOCHS = 2.0
"""Default of `epochs` where a model is given: its candidates begin with trained weights."""
MODEL_FIELDS = ("weights", "mean", "std", "input_size")
"""Fields that only mean something for a given model."""
FREE_FIELDS = frozenset(
    {
        "trials",
        "budget",
        "stop_when_flat",
        "search_share",
        "final_epochs",
        "verify",
        "verify_seeds",
        "threads",
        "device",
        "runs",
        "name",
        "data",
        "weights",
    }
)
"""Fields that may change when a run is resumed: how long, with what and where from. Digests of data and
weights are checked."""
KEPT_FIELDS = ("sampler", "rungs")
"""Fields that a resumed run keeps where its command says nothing of them: how it searches. A field that says what is
searched has to be said again, or a command that asks for something else would go on with the old run."""


def make_config(**fields: Any) -> SearchConfig:
    """A checked configuration; fields that are None take their default.

    Raises:
        ConfigError: one line for the first field that does not fit.
    """
    try:
        return SearchConfig(**{k: v for k, v in fields.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        message = str(first["msg"]).removeprefix("Value error, ")
        raise ConfigError(f"{name}: {message}" if name and not message.startswith(name) else message) from None


def read_config(path: Path) -> SearchConfig:
    """The configuration that a TOML file holds.

    Raises:
        ConfigError: there is no such file, it is not TOML, or a field does not fit.
    """
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}; mend it, or name another file or run") from None
    return make_config(**fields)
