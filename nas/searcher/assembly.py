"""Assembly of a search: looks up what the configuration names, makes all parts, and hands each what it needs.

Two steps, in this order:

1. `load_inputs` resolves every word, file and package. It writes nothing, so a search that is refused for a mistyped
   word leaves no folder behind.
2. `assemble` opens the run folder, checks that it may be resumed, and makes the parts.

No other module of a search sees both the configuration and more than one part.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from hw_profiles._base import HardwareProfile
from nas.compression.base import Compressor
from nas.compression.gene_provider import GeneProvider
from nas.compression.pipeline import CompressionPipeline
from nas.config import LimitFields, SearchConfig, SearchFields
from nas.data.base import FaceData
from nas.data.loading import load_data
from nas.distillation.base import DistillationMethod
from nas.distillation.teacher_gene import TeacherGene
from nas.distillation.teacher_outputs import TeacherOutputs, unique_teacher_names
from nas.distillation.teachers import SELF, TeacherSource, find_teachers
from nas.errors import ConfigError
from nas.evaluation.evaluator import Evaluator
from nas.evaluation.onnx_classifier import checked_file, find_classifier
from nas.evaluation.proxy import Proxy
from nas.models.user_model import load_user_model
from nas.registry import load
from nas.results.run_folder import RunFolder, with_resumed_fields
from nas.results.status import SearchStatus
from nas.runtimes.base import NO_POWER_MONITOR, DeviceRuntime
from nas.searcher.acquisition.base import EMPTY_CONTEXT, SamplerContext
from nas.searcher.acquisition.surrogate import SearchSurrogate
from nas.searcher.budget import SearchBudget
from nas.searcher.executor import Executor, Task
from nas.searcher.initial_picks import MAX_RUNGS, Pick, affordable, covering_picks, known_picks, max_initial_macs
from nas.searcher.progress import Progress
from nas.searcher.promotion import RungResults, drop_uninformative_rungs
from nas.searcher.record_index import SearchRecords
from nas.searcher.resume_check import check_same_data, check_same_target, study_identity
from nas.searcher.study import Study
from nas.searcher.warm_start import WarmStart, warm_start
from nas.targets.catalog import HOST_RUNTIME, device_runtime, load_target, local_runtime
from nas.targets.environment import check_environment
from search_spaces._base import Choice, SearchSpace, Value

TEACHER_BUDGET_SHARE = 0.15
"""Share of the time limit, at most, in which teachers answer the views of the training images."""
HOST_TARGET = "cpu"
"""Target word of this machine."""


@dataclass(frozen=True, kw_only=True)
class SearchInputs:
    """Everything that a configuration names, resolved.

    Attributes:
        config: the configuration, with the rungs that apply and the fields that a resumed run keeps.
        data: the data set.
        profile: of the target.
        device_runtime: times files on the target itself; None where latency is predicted or measured here.
        space: the search space, or the space of the user's model.
        distillation_method: how networks are distilled from teachers.
        make_sampler: (seed, context) to an Optuna sampler.
        compressors: in order.
        proxies: zero-cost proxies to record.
        teachers: sources of soft targets; empty without distillation.
        make_executor: (options, log function) to an executor.
    """

    config: SearchConfig
    data: FaceData
    profile: HardwareProfile
    device_runtime: DeviceRuntime | None
    space: SearchSpace
    distillation_method: DistillationMethod
    make_sampler: Any
    compressors: Sequence[Compressor]
    proxies: Sequence[Proxy]
    teachers: Sequence[TeacherSource]
    make_executor: type[Executor]


@dataclass(frozen=True, kw_only=True)
class SearchParts:
    """The parts of one search, made for each other.

    Attributes:
        config: of the run.
        folder: of the run. One object for all parts, because it holds the records that were read already.
        records: records of the search phase.
        rung_results: results of candidates at their rungs.
        budget: trials, time and stop reason.
        progress: publishes the status.
        space: decodes and builds networks.
        compression: compresses them.
        evaluator: turns a candidate into a record; without distillation and initial weights as yet.
        teacher_outputs: computes and stores the soft targets.
        warm_start: extract of earlier runs.
        study: proposes trials.
        executor: takes steps to workers.
    """

    config: SearchConfig
    folder: RunFolder
    records: SearchRecords
    rung_results: RungResults
    budget: SearchBudget
    progress: Progress
    space: SearchSpace
    compression: CompressionPipeline
    evaluator: Evaluator
    teacher_outputs: TeacherOutputs
    warm_start: WarmStart
    study: Study
    executor: Executor


def load_inputs(config: SearchConfig) -> SearchInputs:
    """Resolve every word, file and package that a configuration names. Writes nothing.

    Raises:
        ConfigError: an earlier run to start from does not exist, a baseline cannot be scored on the data, or the target
            cannot measure energy, an objective.
        UserError: a member, a file or a package is missing.
        MeasureError: the target's device cannot be reached, or its runtime is missing here.
    """
    config = with_resumed_fields(config)
    data = load_data(
        config.search.dataset,
        config.search.data,
        options=config.search.data_options,
        keep_duplicates=config.search.keep_duplicates,
        protocol=config.search.protocol,
    )
    config = drop_uninformative_rungs(config, len(data.train))
    profile = load_target(config.search.target)
    runtime = device_runtime(profile)
    check_dla_limit(config.limits, profile)
    local_runtime(profile)  # a runtime that is missing here is reported now too
    # An unreachable device is reported now, not after the first candidate was exported.
    findings = {f.name: f.value for f in runtime.probe_device(profile)} if runtime else {}
    check_objectives(config.search, can_measure_energy=findings.get("energy", NO_POWER_MONITOR) != NO_POWER_MONITOR)
    space: SearchSpace = (
        load_user_model(config, data, channel_multiple=profile.channel_multiple)
        if config.search.model
        else load("space", config.search.space)
    )
    make_executor = load("executor", config.run.executor)
    method, make_sampler = load("method", config.distillation.distill), load("sampler", config.search.sampler)
    compressors = [load("compressor", word).configured(config.compression) for word in config.compression.compressors]
    proxies = [load("proxy", word) for word in config.search.proxies]
    for path in config.search.warm_start:
        RunFolder.open_existing(path)
    for path in config.search.baseline:  # scored at the end, and refused now
        find_classifier(checked_file(path), data)
    return SearchInputs(
        config=config,
        data=data,
        profile=profile,
        device_runtime=runtime,
        space=space,
        distillation_method=method,
        make_sampler=make_sampler,
        compressors=compressors,
        proxies=proxies,
        teachers=find_teachers(
            [word for word in config.distillation.teacher if word != SELF],
            data,
            classes=config.distillation.teacher_classes,
            output_name=config.distillation.teacher_output,
        ),
        make_executor=make_executor,
    )


def assemble(
    config: SearchConfig,
    *,
    on_status: Callable[[SearchStatus], None] = lambda _: None,
) -> SearchParts:
    """Open the run folder of a configuration, and make the parts of its search.

    Args:
        config: what to search for.
        on_status: receives the status.

    Raises:
        ConfigError: the folder holds a run of another configuration, on other data or another target.
        UserError: a member, a file or a package is missing.
    """
    started = time.time()
    inputs = load_inputs(config)
    config, data, space, profile = inputs.config, inputs.data, inputs.space, inputs.profile
    folder = RunFolder.open(config)
    if data.n_folds > 1:  # each member is trained once in each fold; the folder keeps what was asked
        config = config.with_fields(verify_seeds=data.n_folds)
    records, rung_results = SearchRecords(folder), RungResults(folder, config.search.objectives)
    budget = SearchBudget(folder, records, search=config.search, training=config.training, started=started)
    check_same_data(folder, data)
    check_same_target(folder, profile, target=config.search.target)
    folder.write("environment.json", json.dumps({f.name: f.value for f in check_environment()}, indent=1))
    progress = Progress(folder, budget, search=config.search, training=config.training, on_status=on_status)
    compression = CompressionPipeline(compressors=inputs.compressors, profile=profile, other_genes=_other_genes(inputs))
    evaluator = _make_evaluator(inputs, folder, compression, progress)
    choices = [
        *space.choices(channel_multiple=profile.channel_multiple),
        *compression.choices(space.stages),
    ]
    start = warm_start(
        folder,
        choices,
        search=config.search,
        training=config.training,
        neutral=compression.neutral_settings(space.stages),
        rung_results=rung_results,
    )
    surrogate = SearchSurrogate(
        folder,
        config,
        space=space,
        compression=compression,
        genes=choices,
        input_shape=data.input_shape,
        classes=len(data.classes),
        prior_records=start.records,
        prior_trials=start.prior_trials if start.runs else None,
    )
    context = surrogate.sampler_context()
    study = make_study(
        folder,
        config,
        choices,
        inputs.make_sampler,
        rung_results=rung_results,
        initial_picks=start.initial_picks or _initial_picks(inputs, compression, context),
        context=context,
    )
    return SearchParts(
        config=config,
        folder=folder,
        records=records,
        rung_results=rung_results,
        budget=budget,
        progress=progress,
        space=space,
        compression=compression,
        evaluator=evaluator,
        teacher_outputs=_make_teacher_outputs(inputs, folder, evaluator, progress),
        warm_start=start,
        study=study,
        executor=inputs.make_executor(config.run, partial(_log_task, progress)),
    )


def _make_teacher_outputs(
    inputs: SearchInputs, folder: RunFolder, evaluator: Evaluator, progress: Progress
) -> TeacherOutputs:
    config = inputs.config
    return TeacherOutputs(
        sources=inputs.teachers,
        method=inputs.distillation_method,
        data=inputs.data,
        folder=folder,
        n_views=n_teacher_views(config),
        max_view_s=None if config.search.budget is None else TEACHER_BUDGET_SHARE * config.search.budget,
        threads=evaluator.trainer.threads,
        log=progress.publish,
    )


def make_study(
    folder: RunFolder,
    config: SearchConfig,
    choices: Sequence[Choice],
    make_sampler: Any,
    *,
    rung_results: RungResults | None = None,
    initial_picks: Sequence[dict[str, Value]] = (),
    context: SamplerContext = EMPTY_CONTEXT,
) -> Study:
    """The study of a configuration, see `Study`; by default with rung results of its own.

    Raises:
        ConfigError: the storage cannot be opened, or its study is another run's or has other options for a gene.
    """
    return Study(
        folder,
        choices,
        make_sampler,
        name=config.run_name,
        search=config.search,
        training=config.training,
        run=config.run,
        rung_results=rung_results or RungResults(folder, config.search.objectives),
        initial_picks=initial_picks,
        context=context,
        identity=study_identity(folder, config),
    )


def check_objectives(search: SearchFields, *, can_measure_energy: bool) -> None:
    """Refuse an objective that the target cannot measure.

    Raises:
        ConfigError: energy is an objective, and nothing measures it.
    """
    if "energy" in search.objectives and not can_measure_energy:
        raise ConfigError(
            f"objective energy needs a target that measures it, but {search.target!r} does not; "
            "use --objectives accuracy,latency or add size"
        )


def check_dla_limit(limits: LimitFields, profile: HardwareProfile) -> None:
    """Refuse a limit on layers that fall back from a DLA where the target uses none.

    Raises:
        ConfigError: there is such a limit, and no DLA.
    """
    if limits.max_dla_fallback is not None and "dla" not in profile.facts:
        raise ConfigError(
            f"max_dla_fallback needs a target on a DLA, but {profile.name!r} is none; "
            "add one: nas targets add NAME --like jetson-agx-orin --ssh user@host --dla 0"
        )


def n_teacher_views(config: SearchConfig) -> int:
    """Views that teachers answer: no more than a network of the run trains for epochs."""
    training, is_distilled_in_search = config.training, config.distillation.distill_during == "search"
    if training.final_epochs is None and config.search.budget is not None:
        return config.distillation.teacher_views
    epochs = training.model_epochs + (training.epochs if is_distilled_in_search else 0)
    return min(config.distillation.teacher_views, math.ceil(epochs))


def _log_task(progress: Progress, task: Task, line: str) -> None:
    progress.publish(f"{task.name.partition(',')[0]}: {line}")


def _other_genes(inputs: SearchInputs) -> list[GeneProvider]:
    """Genes beside those of space and compressors: the teacher, where networks are distilled during the search."""
    if inputs.teachers and inputs.config.distillation.distill_during == "search":
        return [TeacherGene(unique_teacher_names(inputs.teachers))]
    return []


def _make_evaluator(
    inputs: SearchInputs,
    folder: RunFolder,
    compression: CompressionPipeline,
    progress: Progress,
) -> Evaluator:
    return Evaluator(
        config=inputs.config,
        folder=folder,
        space=inputs.space,
        profile=inputs.profile,
        host_profile=load_target(HOST_TARGET),
        compression=compression,
        host_runtime=load("runtime", HOST_RUNTIME),
        data=inputs.data,
        data_digest=inputs.data.digest,
        device_runtime=inputs.device_runtime,
        log=progress.publish,
        proxies=inputs.proxies,
    )


def _initial_picks(inputs: SearchInputs, compression: CompressionPipeline, context: SamplerContext) -> list[Pick]:
    """Networks known to be good; with a limit on the latency also larger ones that cover the range up to it."""
    config, space, profile, data = inputs.config, inputs.space, inputs.profile, inputs.data
    limit_ms, known_objectives = config.limits.max_latency, context.known_objectives
    if limit_ms is None or known_objectives is None:
        return known_picks(space, compression.gene_providers, profile)
    max_macs = math.inf
    if config.search.budget is not None and (config.run.device == "cpu" or not torch.cuda.is_available()):
        max_macs = max_initial_macs(
            search_s=config.search.search_share * config.search.budget,
            n_images=config.training.rungs[0] * config.training.epochs * len(data.train),
            threads=config.run.worker_threads,
        )
    is_affordable = affordable(space, input_shape=data.input_shape, classes=len(data.classes), max_macs=max_macs)
    known = known_picks(space, compression.gene_providers, profile, is_affordable=is_affordable)
    column = config.search.objectives.index("latency")
    return known + covering_picks(
        known, space.choices(channel_multiple=profile.channel_multiple),
        neutral=compression.neutral_settings(space.stages), limit_ms=limit_ms,
        latency_ms=lambda picks: np.asarray(known_objectives(picks))[:, column],
        is_affordable=is_affordable, seed=config.run.seed,
        max_picks=MAX_RUNGS if config.search.trials is None else config.search.trials // 4,
    )  # fmt: skip
