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


class _Group(BaseModel):
    """One table of the configuration; frozen, and without fields of other names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SearchFields(_Group):
    """[search]: what is searched for, on which data and device, and for how long."""

    target: str = Field(default="jetson", description="Device to search for; see `nas targets`.")
    space: str = Field(default="darts", description="Search space: darts, plain, ...; unused where a model is given.")
    model: str | None = Field(
        default=None, description="Network to compress: a word of the zoo, or a factory package.module:function."
    )
    weights: Path | None = Field(
        default=None, description="State dict of the model; without one it is trained first, for the final epochs."
    )
    mean: float | None = Field(default=None, description="Value the model subtracts from pixels 0..255.")
    std: float | None = Field(default=None, gt=0, description="Value the model divides them by afterwards.")
    input_size: int | None = Field(
        default=None, ge=8, description="Height and width that images are resized to for the model."
    )
    dataset: str = Field(default="synthetic", description="Data set: synthetic, fer2013, folder, csv.")
    data: Path | None = Field(default=None, description="File or folder of the data set.")
    data_options: dict[str, str] = Field(
        default_factory=dict, description="Setting of the data set as NAME=VALUE; repeatable."
    )
    objectives: tuple[str, ...] = Field(
        default=("accuracy", "latency"), description="Objectives: accuracy,latency and any of size, energy."
    )
    trials: int | None = Field(
        default=None, ge=0, description="Number of candidates to evaluate; 0 only measures the uncompressed model."
    )
    budget: Seconds | None = Field(
        default=None, description="Time limit, final training included: 30m, 4h (4m where no trials are given)."
    )
    patience: int | None = Field(
        default=None, ge=5,
        description="Stop once this many further candidates are expected to add less than 1 % of hypervolume.",
    )  # fmt: skip
    search_share: float = Field(
        default=0.6, gt=0, le=1, description="Share of the budget for the search; the rest trains the front."
    )
    sampler: str = Field(default="screened", description="Sampler: screened, tpe, nsga2 or random.")
    warm_start: tuple[Path, ...] = Field(
        default=(), description="Earlier run on the same space and data to learn from; repeatable."
    )
    proxies: tuple[str, ...] = Field(
        default=(), description="Zero-cost proxies to record: jacov, nwot, synflow."
    )  # fmt: skip

    @field_validator("objectives")
    @classmethod
    def _known_objectives(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [w for w in words if w not in OBJECTIVES]
        if unknown or len(set(words)) != len(words) or not {"accuracy", "latency"} <= set(words):
            raise ValueError(
                f"objectives must be accuracy, latency and any of size, energy, each once, but got {','.join(words)}"
            )
        return words


class LimitFields(_Group):
    """[limits]: constraints of a candidate; a candidate that breaks one is infeasible."""

    max_latency: Milliseconds | None = Field(default=None, description="Upper latency limit on the target, e.g. 5ms.")
    max_size: Bytes | None = Field(default=None, description="Upper limit of the file size, e.g. 500kB.")
    min_accuracy: float | None = Field(
        default=None, ge=0, le=1, description="Lower limit of the accuracy on the selection split, 0..1."
    )


class TrainingFields(_Group):
    """[training]: how long candidates and members of the front are trained."""

    epochs: float = Field(default=3.0, gt=0, description="Epochs of a candidate that is promoted through all rungs.")
    rungs: tuple[float, ...] = Field(
        default=(1 / 9, 1 / 3, 1.0),
        description="Shares of the epochs after which only non-dominated candidates are promoted.",
    )
    final_epochs: int = Field(default=20, ge=0, description="Further epochs for members of the front; 0 skips them.")
    verify: int = Field(
        default=5, ge=0, description="Members of the front that are trained in full and measured again."
    )
    verify_seeds: int = Field(
        default=1, ge=1, description="Trainings of each of them, to estimate the seed noise; the first one ships."
    )

    @field_validator("rungs")
    @classmethod
    def _ascending_rungs(cls, rungs: tuple[float, ...]) -> tuple[float, ...]:
        if not rungs or rungs[-1] != 1 or rungs[0] <= 0 or any(a >= b for a, b in itertools.pairwise(rungs)):
            raise ValueError(f"rungs must ascend within (0, 1] and end with 1, but got {rungs}")
        return rungs


class CompressionFields(_Group):
    """[compression]: what may be done to a network."""

    compressors: tuple[str, ...] = Field(
        default=("prune_structured", "quantize"),
        description="Compressors, in order: prune_structured, quantize, low_rank, ...",
    )
    prune_steps: int = Field(default=2, ge=1, description="Pruning steps, with training between them.")
    qat: float = Field(
        default=0.15, ge=0, le=1, description="Share of the final epochs for quantisation-aware training; 0 skips it."
    )
    qat_scales: str = Field(
        default="calibrated", pattern="^(calibrated|learned)$",
        description="Quantisation scales during that training: calibrated (fixed) or learned.",
    )  # fmt: skip


class DistillationFields(_Group):
    """[distillation]: teachers, and how networks are distilled from them."""

    teacher: tuple[str, ...] = Field(
        default=(),
        description="Teacher: ONNX file, run (RUN or RUN:KEY), .npy of logits, or votes; =WEIGHT behind it; repeatable.",
    )
    distill: str = Field(default="logits", description="Distillation method: logits, dkd, bounded, attention, hints.")
    temperature: float = Field(default=4.0, gt=0, description="Temperature that divides the logits of both.")
    alpha: float = Field(default=0.7, ge=0, le=1, description="Share of the teachers in the loss, 0..1.")
    distill_during: str = Field(
        default="final", pattern="^(final|search)$",
        description="final: only the final training; search: all training, with the teacher as a gene.",
    )  # fmt: skip


class RunFields(_Group):
    """[run]: how, where and under which name it runs."""

    seed: int = Field(default=0, ge=0, description="Seed of all randomness.")
    threads: int = Field(default=0, ge=0, description="CPU threads for training; 0 uses all cores.")
    device: str = Field(default="auto", pattern="^(auto|cpu|cuda)$", description="Training device: auto, cpu or cuda.")
    storage: str | None = Field(
        default=None, description="URL of an Optuna storage; a journal file in the run folder by default."
    )
    runs: Path = Field(default=Path("runs"), description="Folder of all runs.")
    name: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Name of the run; made of data set, space and target by default.",
    )  # fmt: skip


GROUPS: dict[str, type[_Group]] = {
    "search": SearchFields,
    "limits": LimitFields,
    "training": TrainingFields,
    "compression": CompressionFields,
    "distillation": DistillationFields,
    "run": RunFields,
}
FIELD_GROUPS: dict[str, str] = {field: group for group, fields in GROUPS.items() for field in fields.model_fields}
"""Each field's group; a field's name is unique, so that flags, keyword arguments and TOML keys are one set of words."""


class SearchConfig(BaseModel):
    """Configuration of one search or compression. Frozen; every field is checked once, here.

    Fields are given flat (`SearchConfig(target="cpu", epochs=2)`) or by group, as in a TOML file with tables, and read
    by group (`config.search.target`). A part of a search receives the group that it needs.

    Attributes:
        search: what is searched for, on which data and device, and for how long.
        limits: constraints of a candidate.
        training: epochs, rungs and final training.
        compression: what may be done to a network.
        distillation: teachers and the distillation method.
        run: seed, threads, device, storage, folder and name.

    Examples:
        >>> config = SearchConfig(target="cpu", max_latency="5ms")
        >>> config.search.target, config.limits.max_latency
        ('cpu', 5.0)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    search: SearchFields = Field(default_factory=SearchFields)
    limits: LimitFields = Field(default_factory=LimitFields)
    training: TrainingFields = Field(default_factory=TrainingFields)
    compression: CompressionFields = Field(default_factory=CompressionFields)
    distillation: DistillationFields = Field(default_factory=DistillationFields)
    run: RunFields = Field(default_factory=RunFields)

    @model_validator(mode="before")
    @classmethod
    def _group_flat_fields(cls, fields: Any) -> Any:
        """Put fields that are given flat into their groups; unknown ones stay, and are refused by name."""
        if not isinstance(fields, Mapping):
            return fields
        grouped: dict[str, Any] = {}
        for name, value in fields.items():
            if name in FIELD_GROUPS:
                grouped.setdefault(FIELD_GROUPS[name], {})[name] = value
            elif name in GROUPS and isinstance(value, Mapping):
                grouped.setdefault(name, {}).update(value)
            else:
                grouped[name] = value
        return grouped

    @model_validator(mode="after")
    def _check_model_fields(self) -> Self:
        without = [name for name in MODEL_FIELDS if getattr(self.search, name) is not None]
        if self.search.model is None and without:
            raise ValueError(f"{without[0]} must come with a model, but there is none; try nas compress --model")
        if self.search.model is None and self.search.trials == 0:
            raise ValueError("trials: must be at least 1, but got 0; only nas compress has something to do without any")
        if self.search.model is not None and "epochs" not in self.fields_set:
            self._set_default("epochs", COMPRESS_EPOCHS)
        return self

    @model_validator(mode="after")
    def _has_an_end(self) -> Self:
        if self.search.trials is None and self.search.budget is None:
            self._set_default("budget", DEFAULT_BUDGET_S)
        return self

    @property
    def fields_set(self) -> set[str]:
        """Names of the fields that were given, without their groups."""
        return {name for group in GROUPS for name in getattr(self, group).model_fields_set}

    @property
    def run_name(self) -> str:
        """The run's name, the given one or one made of data set, space and target."""
        subject = re.sub(r"[^A-Za-z0-9_]+", "-", self.subject)
        return self.run.name or f"{self.search.dataset}-{subject}-{self.search.target}"

    @property
    def subject(self) -> str:
        """What is searched: the model to compress, or the search space."""
        return self.search.model or self.search.space

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.run.runs / self.run_name

    def flat(self, *, only_set: bool = False) -> dict[str, Any]:
        """All fields without their groups, JSON-ready; with `only_set` those that were given."""
        fields = {name: value for group in self.model_dump(mode="json").values() for name, value in group.items()}
        return {name: value for name, value in fields.items() if not only_set or name in self.fields_set}

    def get(self, name: str) -> Any:
        """The value of a field by its name alone."""
        return getattr(getattr(self, FIELD_GROUPS[name]), name)

    def with_fields(self, **values: Any) -> "SearchConfig":
        """A copy with other values, which are not checked again and do not count as given."""
        copy = self.model_copy()
        for name, value in values.items():
            copy._set_default(name, value)
        return copy

    def to_toml(self) -> str:
        """The configuration as TOML, a table for each group; fields that are None are left out."""
        lines: list[str] = []
        for group, fields in self.model_dump(mode="json", exclude_none=True).items():
            tables = {name: value for name, value in fields.items() if isinstance(value, dict)}
            plain = {name: value for name, value in fields.items() if name not in tables}
            for table, entries in ((group, plain), *((f"{group}.{name}", value) for name, value in tables.items())):
                if entries:
                    lines += ["", f"[{table}]", *(f"{_toml(key)} = {_toml(value)}" for key, value in entries.items())]
        return "\n".join(lines[1:]) + "\n"

    def differences(self, other: "SearchConfig") -> list[str]:
        """Fields that decide what is found and differ, as "field: here, there"; see `FREE_FIELDS` for the others."""
        mine, theirs = self.flat(), other.flat()
        return [
            f"{k}: {mine[k]!r} there, {theirs[k]!r} asked"
            for k in mine
            if k not in FREE_FIELDS and mine[k] != theirs[k]
        ]

    def _set_default(self, name: str, value: Any) -> None:
        """Replace a field without marking it as given. For validators and copies; the model is frozen otherwise."""
        group = getattr(self, FIELD_GROUPS[name])
        changed = group.model_copy(update={name: value})
        changed.__pydantic_fields_set__.clear()
        changed.__pydantic_fields_set__.update(group.model_fields_set)
        object.__setattr__(self, FIELD_GROUPS[name], changed)


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
        "patience",
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
RENAMED_FIELDS = {"stop_when_flat": "patience", "distill_from": "distill_during", "qat_steps": "qat_scales"}
"""Fields of run folders of version 0.1 by their name of today."""


def make_config(**fields: Any) -> SearchConfig:
    """A checked configuration; fields that are None take their default.

    Raises:
        ConfigError: one line for the first field that does not fit.
    """
    try:
        return SearchConfig(**{k: v for k, v in fields.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"] if part not in GROUPS)
        message = str(first["msg"]).removeprefix("Value error, ")
        raise ConfigError(f"{name}: {message}" if name and not message.startswith(name) else message) from None


def read_config(path: Path) -> SearchConfig:
    """The configuration that a TOML file holds.

    Raises:
        ConfigError: there is no such file, it is not TOML, or a field does not fit.
    """
    return make_config(**_read_toml(path))


def read_run_config(path: Path) -> SearchConfig:
    """The configuration of a run folder; fields that had another name in version 0.1 are understood.

    Raises:
        ConfigError: there is no such file, it is not TOML, or a field does not fit.
    """
    fields = {RENAMED_FIELDS.get(name, name): value for name, value in _read_toml(path).items()}
    if fields.get("distill_during") == "start":
        fields["distill_during"] = "search"
    return make_config(**fields)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}; mend it, or name another file or run") from None
