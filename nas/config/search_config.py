"""SearchConfig, the checked configuration of one search or compression."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nas.config.field_groups import (
    FIELD_GROUPS,
    GROUPS,
    MODEL_FIELDS,
    CompressionFields,
    DistillationFields,
    LimitFields,
    RunFields,
    SearchFields,
    TrainingFields,
)
from nas.config.protocol import parse_protocol
from nas.config.storage_url import HIDDEN

DEFAULT_BUDGET_S = 240.0
"""Default of `budget` where neither `budget` nor `trials` is given."""
COMPRESS_EPOCHS = 2.0
"""Default of `epochs` where a model is given: its candidates start from trained weights."""
FREE_FIELDS = frozenset(
    {
        *("trials", "budget", "patience", "search_share", "final_epochs", "verify", "verify_seeds"),
        *("threads", "device", "workers", "executor", "address", "worker_memory", "wait"),
        *("runs", "name", "data", "weights", "baseline"),
    }
)
"""Fields that may change when a run is resumed: duration, hardware and paths. The contents of data and weights must
stay the same, which their digests prove."""
KEPT_DISTILLATION_FIELDS = ("teacher_views", "temperature", "alpha")
TRAIN_FIELDS = (
    *("model", *MODEL_FIELDS, "dataset", "data", "data_options", "keep_duplicates", "protocol", "target", "baseline"),
    *("teacher", "teacher_classes", "teacher_output", "teacher_views", "distill", "temperature", "alpha"),
    *("branches", "auxiliary_head", "crops"),
    *("seed", "threads", "device", "execution", "executor", "address", "worker_memory", "wait", "runs", "name"),
)
"""Fields that decide about the training of a single model."""
KEPT_FIELDS = ("sampler", "rungs", "prune_steps", "keep_duplicates", *KEPT_DISTILLATION_FIELDS)
"""Fields that a resumed run keeps if they are not given again: how it searches. Fields that say what is searched must
be given again; otherwise a command that asks for something else would silently resume the old run."""


class SearchConfig(BaseModel):
    """Configuration of one search or compression. Frozen; every field is checked once, here.

    Fields are given flat (`SearchConfig(target="cpu", epochs=2)`) or by group, as in a TOML file with tables, and read
    by group (`config.search.target`).

    Attributes:
        search: what is searched, on which data and device, and for how long.
        limits: constraints of a candidate.
        training: epochs, rungs and final training.
        compression: compressors and their settings.
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
        """Move flat fields into their groups. Unknown names stay where they are, and are refused by name later."""
        if not isinstance(fields, Mapping):
            return fields
        grouped: dict[str, Any] = {
            name: dict(value) if name in GROUPS and isinstance(value, Mapping) else value
            for name, value in fields.items()
            if name not in FIELD_GROUPS
        }
        for name, value in fields.items():
            if name in FIELD_GROUPS:
                group = FIELD_GROUPS[name]
                if name in grouped.setdefault(group, {}):
                    raise ValueError(f"{name} must be given once, but is given both flat and in [{group}]")
                grouped[group][name] = value
        return grouped

    @model_validator(mode="after")
    def _check_model_fields(self) -> Self:
        orphans = [name for name in MODEL_FIELDS if getattr(self.search, name) is not None]
        if self.search.model is None and orphans:
            raise ValueError(f"{orphans[0]} requires a model, but none is given; use nas compress --model")
        if self.search.model is None and self.search.trials == 0:
            raise ValueError("trials must be at least 1, but got 0; only nas compress accepts 0")
        if self.search.model is not None and "epochs" not in self.fields_set:
            self._set_default("epochs", COMPRESS_EPOCHS)
        return self

    @model_validator(mode="after")
    def _check_folds(self) -> Self:
        """Folds need networks that have seen no face of another fold, and one training in each."""
        if not parse_protocol(self.search.protocol).has_folds:
            return self
        what = f"protocol {self.search.protocol}"
        if self.search.model is not None:
            raise ValueError(
                f"{what} is for searches, but a model is given, whose weights have seen faces of other folds; use "
                "official or holdout"
            )
        if self.distillation.teacher:
            raise ValueError(
                f"{what} must be without teachers, but one is given, which has seen faces of other folds; use official "
                "or holdout"
            )
        if "verify_seeds" in self.fields_set and self.training.verify_seeds > 1:
            raise ValueError(
                f"{what} trains each member once in each fold, but verify_seeds is {self.training.verify_seeds}; leave "
                "it out"
            )
        return self

    @model_validator(mode="after")
    def _set_default_budget(self) -> Self:
        if self.search.trials is None and self.search.budget is None:
            self._set_default("budget", DEFAULT_BUDGET_S)
        return self

    @property
    def fields_set(self) -> set[str]:
        """Names of the fields that were given, without their groups."""
        return {name for group in GROUPS for name in getattr(self, group).model_fields_set}

    @property
    def run_name(self) -> str:
        """Name of the run: the given one, or one made of data set, space or model, and target."""
        subject = re.sub(r"[^A-Za-z0-9_]+", "-", self.subject)
        return self.run.name or f"{self.search.dataset}-{subject}-{self.search.target}"

    @property
    def subject(self) -> str:
        """The model to compress, or else the search space."""
        return self.search.model or self.search.space

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.run.runs / self.run_name

    def flat(self, *, only_set: bool = False) -> dict[str, Any]:
        """All fields without their groups, JSON-ready; with `only_set`, those that were given."""
        fields = {name: value for group in self.model_dump(mode="json").values() for name, value in group.items()}
        return {name: value for name, value in fields.items() if not only_set or name in self.fields_set}

    def get(self, name: str) -> Any:
        """Value of a field by its name, without its group."""
        return getattr(getattr(self, FIELD_GROUPS[name]), name)

    def with_fields(self, **values: Any) -> "SearchConfig":
        """A copy with other values. They are not checked, and do not count as given."""
        copy = self.model_copy()
        for name, value in values.items():
            copy._set_default(name, value)
        return copy

    def to_toml(self) -> str:
        """The configuration as TOML, one table for each group; fields that are None are left out."""
        lines: list[str] = []
        for group, fields in self.model_dump(mode="json", exclude_none=True).items():
            tables = {name: value for name, value in fields.items() if isinstance(value, dict)}
            plain = {name: value for name, value in fields.items() if name not in tables}
            for table, entries in ((group, plain), *((f"{group}.{name}", value) for name, value in tables.items())):
                if entries:
                    rows = [f"{_toml_key(key)} = {_toml(value)}" for key, value in entries.items()]
                    lines += ["", f"[{table}]", *rows]
        return "\n".join(lines[1:]) + "\n"

    def differences(self, other: "SearchConfig") -> list[str]:
        """Fields that decide the result and differ, each as "field: value there, value asked".

        `FREE_FIELDS` do not count, nor does a storage's password, which may be in the URL or elsewhere.
        """
        mine, theirs = (
            {name: value.replace(f":{HIDDEN}@", "@") if name == "storage" and value else value for name, value in f}
            for f in (self.flat().items(), other.flat().items())
        )
        return [
            f"{name}: {mine[name]!r} there, {theirs[name]!r} asked"
            for name in mine
            if name not in FREE_FIELDS and mine[name] != theirs[name]
        ]

    def _set_default(self, name: str, value: Any) -> None:
        """Replace a field without marking it as given. For validators and copies only: the model is frozen."""
        group = getattr(self, FIELD_GROUPS[name])
        changed = group.model_copy(update={name: value})
        # model_copy adds the updated names to the set of given fields.
        changed.__pydantic_fields_set__.clear()
        changed.__pydantic_fields_set__.update(group.model_fields_set)
        object.__setattr__(self, FIELD_GROUPS[name], changed)


def _toml_key(key: str) -> str:
    """The key as it is where TOML takes it so, else quoted."""
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else _toml(key)


def _toml(value: Any) -> str:
    """A string, number, boolean or list as TOML: JSON, except that TOML requires DEL to be escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def training_config(config: SearchConfig, epochs: float) -> SearchConfig:
    """The configuration of the training of its model alone, for so many epochs: a compression without candidates."""
    return config.with_fields(trials=0, budget=None, final_epochs=epochs)
