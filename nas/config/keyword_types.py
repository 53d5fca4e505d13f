"""Keyword arguments of the functions that take a configuration's fields: their types, defaults and explanations.

The types say what may be given ("30m" or 1800.0), while the fields in `nas.config.field_groups` say what is stored
(1800.0). tests/test_config.py proves that both have the same names.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict, TypeVar, get_type_hints

from pydantic.fields import FieldInfo

from nas.config.field_groups import FIELD_GROUPS, GROUPS

F = TypeVar("F", bound=Callable[..., object])


class ModelKeywords(TypedDict, total=False):
    """Fields of a given model and of the data set."""

    weights: str | Path | None
    mean: float | Sequence[float] | None
    std: float | Sequence[float] | None
    input_size: int | None
    keep: Sequence[str] | None
    dataset: str
    data: str | Path | None
    data_options: Mapping[str, str]
    keep_duplicates: bool
    protocol: str


class TrainKeywords(ModelKeywords, total=False):
    """Fields of `nas.train` besides model and epochs."""

    target: str
    baseline: Sequence[str | Path]
    teacher: Sequence[str]
    teacher_classes: Sequence[str]
    teacher_output: str | None
    teacher_views: int
    distill: str
    temperature: float
    alpha: float
    branches: bool
    auxiliary_head: bool
    crops: bool
    seed: int
    threads: int
    device: Literal["auto", "cpu", "cuda"]
    execution: Literal["fastest", "plain"]
    executor: str
    address: str | None
    worker_memory: float | str | None
    wait: bool
    runs: str | Path
    name: str | None


class PostTrainingKeywords(ModelKeywords, total=False):
    """Fields of `nas.quantize` and `nas.prune` besides model and target."""

    seed: int
    threads: int
    device: Literal["auto", "cpu", "cuda"]


class CompressKeywords(ModelKeywords, total=False):
    """Fields of `nas.compress` besides the model."""

    target: str
    objectives: Sequence[str]
    trials: int | None
    budget: float | str | None
    patience: int | None
    search_share: float
    sampler: str
    warm_start: Sequence[str | Path]
    proxies: Sequence[str]
    baseline: Sequence[str | Path]
    max_latency: float | str | None
    max_size: float | str | None
    max_memory: float | str | None
    max_dla_fallback: int | None
    min_accuracy: float | None
    epochs: float
    rungs: Sequence[float]
    final_epochs: float | None
    verify: int | Literal["auto"]
    branches: bool
    auxiliary_head: bool
    crops: bool
    verify_seeds: int
    compressors: Sequence[str]
    importance: Sequence[str]
    sparsity_step: float
    prune_steps: int
    qat: float
    qat_scales: Literal["calibrated", "learned"]
    teacher: Sequence[str]
    teacher_classes: Sequence[str]
    teacher_output: str | None
    teacher_views: int
    distill: str
    temperature: float
    alpha: float
    distill_during: Literal["final", "search"]
    seed: int
    threads: int
    device: Literal["auto", "cpu", "cuda"]
    execution: Literal["fastest", "plain"]
    workers: int
    executor: str
    address: str | None
    worker_memory: float | str | None
    wait: bool
    storage: str | None
    runs: str | Path
    name: str | None


class SearchKeywords(CompressKeywords, total=False):
    """Fields of `nas.search`: all fields of the configuration."""

    space: str
    model: str | None


def takes_config_fields(function: F) -> F:
    """Replace the `**fields` of a function by one keyword-only parameter for each field, and explain them.

    The function's `**fields` must be annotated with `Unpack` of one of the dictionaries above. Its signature then lists
    each field with type and default, and in its docstring the line of `**fields` is followed by one entry for each.
    """
    signature = inspect.signature(function)
    *own, rest = signature.parameters.values()
    types = get_type_hints(rest.annotation.__args__[0])
    names = [name for name in FIELD_GROUPS if name in types]
    keywords = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=_default(name), annotation=types[name])
        for name in names
    ]
    function.__signature__ = signature.replace(parameters=[*own, *keywords])  # type: ignore[attr-defined]
    lines = inspect.cleandoc(function.__doc__ or "").splitlines()
    marker = next(i for i, line in enumerate(lines) if line.lstrip().startswith("**fields:"))
    entries = [f"        {name}: {field_info(name).description} Default: {_default(name)!r}." for name in names]
    function.__doc__ = "\n".join([*lines[: marker + 1], *entries, *lines[marker + 1 :]])
    return function


def field_info(name: str) -> FieldInfo:
    """Type, default and description of a field."""
    return GROUPS[FIELD_GROUPS[name]].model_fields[name]


def _default(name: str) -> object:
    default = field_info(name).get_default(call_default_factory=True)
    return str(default) if isinstance(default, Path) else default
