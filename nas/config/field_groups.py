"""Fields of the configuration, in six groups.

A field's description is its help text everywhere: the command line's options, the docstring of `nas.search` and the
keys of a TOML file are generated from these fields, so names, defaults and explanations agree.
"""

import itertools
import os
from math import isfinite
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_serializer, field_validator, model_validator

from nas.config.protocol import parse_protocol
from nas.config.storage_url import without_password
from nas.config.units import Bytes, Milliseconds, Seconds

OBJECTIVES: dict[str, bool] = {"accuracy": True, "latency": False, "size": False, "energy": False}
"""Objectives by name; True where larger values are better."""


class _Group(BaseModel):
    """One table of the configuration: frozen, unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SearchFields(_Group):
    """Search: what is searched, on which data and device, and for how long."""

    target: str = Field(default="jetson", description="Target device; `nas targets` lists them.")
    space: str = Field(default="darts", description="Search space: darts, plain, ...; ignored where a model is given.")
    model: str | None = Field(
        default=None,
        description="Network to train or compress: a published network, timm:NAME, torchvision:NAME, a factory "
        "package.module:function, or a candidate of a run, RUN:TRIAL or RUN:KEY, with its layers and channels, in FP32 "
        "and from fresh weights; options follow a colon, as in timm:resnet18:in_chans=1,drop_rate=0.1.",
    )
    weights: Path | None = Field(
        default=None,
        description="File with the model's state dict; without it nas compress trains the model for the final epochs.",
    )
    mean: float | tuple[float, ...] | None = Field(
        default=None,
        description="Mean that the model subtracts from pixels 0..255, or one for each channel. Values of which none "
        "exceeds 1 are of pixels 0..1.",
    )
    std: float | tuple[float, ...] | None = Field(
        default=None, description="Standard deviation that the model divides pixels by, or one for each channel."
    )
    input_size: int | None = Field(
        default=None, ge=8, description="Height and width in pixels that images are resized to for the model."
    )
    keep: tuple[str, ...] | None = Field(
        default=None, description="Layers of the model that stay as they are, by module name, such as 'blocks.3.*'."
    )
    dataset: str = Field(
        default="synthetic",
        description="Data set: synthetic, fer2013, folder, csv, or a published one: affectnet, ckplus, expw, fairface, "
        "ferplus, jaffe, kdef, rafd, rafdb, sfew.",
    )
    data: Path | None = Field(default=None, description="File or folder of the data set.")
    data_options: dict[str, str] = Field(
        default_factory=dict, description="Options of the data set by name: NAME=VALUE, or a table in a TOML file."
    )
    keep_duplicates: bool = Field(
        default=False, description="Train on images too that are copies or near copies of images in val or test."
    )
    protocol: str = Field(
        default="official",
        description="Division of the faces: official (the source's splits), holdout, kfold:K, loso (leave one subject "
        "out) or folds:FILE (a table of subject and fold). By subject where they are known; a search sees one fold, "
        "and the front is trained and tested in each.",
    )
    objectives: tuple[str, ...] = Field(
        default=("accuracy", "latency"), description="Objectives: accuracy and latency, and any of size and energy."
    )
    trials: int | None = Field(
        default=None, ge=0, description="Number of candidates to evaluate; 0 evaluates only the uncompressed model."
    )
    budget: Seconds | None = Field(
        default=None,
        description="Time limit, final training included, such as 30m or 4h; 4m if no number of trials is given.",
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
        default=(), description="Earlier run on the same space and data whose trials initialise the surrogates."
    )
    proxies: tuple[str, ...] = Field(
        default=(), description="Zero-cost proxies to record for each candidate: jacov, nwot, synflow."
    )
    baseline: tuple[Path, ...] = Field(
        default=(),
        description="ONNX file of a published model to compare with, which is scored and timed at the end.",
    )

    @field_validator("mean", "std", mode="before")
    @classmethod
    def _read_numbers(cls, value: Any, info: ValidationInfo) -> float | tuple[float, ...] | None:
        """One number, or one for each channel; a sequence of one is that number."""
        if value is None:
            return None
        given = value if isinstance(value, (tuple, list)) else [value]
        if not given or not all(isinstance(v, (int, float)) and isfinite(v) for v in given):
            raise ValueError(f"must be a number, or one for each channel, but got {value!r}")
        if info.field_name == "std" and min(given) <= 0:
            raise ValueError(f"must be greater than 0, but got {min(given):g}")
        return tuple(map(float, given)) if len(given) > 1 else float(given[0])

    @field_validator("protocol")
    @classmethod
    def _check_protocol(cls, protocol: str) -> str:
        parse_protocol(protocol)
        return protocol.strip()

    @field_validator("objectives")
    @classmethod
    def _check_objectives(cls, objectives: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [word for word in objectives if word not in OBJECTIVES]
        if unknown or len(set(objectives)) != len(objectives) or not {"accuracy", "latency"} <= set(objectives):
            raise ValueError(
                "objectives must be accuracy, latency and any of size, energy, each once, "
                f"but got {','.join(objectives)}"
            )
        return objectives


class LimitFields(_Group):
    """Limits: constraints of a candidate; a candidate that violates one is infeasible."""

    max_latency: Milliseconds | None = Field(
        default=None, description="Upper limit of the latency on the target, such as 5ms."
    )
    max_size: Bytes | None = Field(default=None, description="Upper limit of the file size, such as 500kB.")
    max_memory: Bytes | None = Field(
        default=None,
        description="Upper limit of the weights and the activations alive at once, without the runtime, such as 1MiB.",
    )
    max_dla_fallback: int | None = Field(
        default=None, ge=0, description="Upper limit of the layers that fall back from a DLA to the GPU, such as 0."
    )
    min_accuracy: float | None = Field(
        default=None, ge=0, le=1, description="Lower limit of the accuracy on the selection split, 0..1."
    )


DEFAULT_FINAL_EPOCHS = 20.0
"""Epochs of a final training without a time limit."""


class TrainingFields(_Group):
    """Training: how long candidates and members of the front are trained."""

    epochs: float = Field(
        default=3.0, gt=0, description="Epochs of a candidate that is promoted through all rungs; 2 for a given model."
    )
    rungs: tuple[float, ...] = Field(
        default=(1 / 9, 1 / 3, 1.0),
        description="Shares of the epochs after which only non-dominated candidates are promoted.",
    )
    final_epochs: float | None = Field(
        default=None, ge=0,
        description="Further epochs of the final training of the front; 0 skips it; by default all that the time limit "
        "leaves, or 20 without one.",
    )  # fmt: skip
    verify: int | Literal["auto"] = Field(
        default="auto", union_mode="left_to_right",
        description="Number of members of the front that are trained in full and measured again; auto: few enough that "
        "each is trained to its end.",
    )  # fmt: skip
    branches: bool = Field(
        default=False,
        description="Train dense 3x3 convolutions with parallel 1x1 and identity branches, which are fused into them "
        "after each phase; up to twice the training time, the same network.",
    )
    auxiliary_head: bool = Field(
        default=False, description="Train with a second classifier at two thirds of the depth, which is then dropped."
    )
    crops: bool = Field(
        default=False,
        description="Train on random crops of 7/8 of an image's side or more, in the place of shifts and zooms; not on "
        "the views of teachers.",
    )  # fmt: skip
    verify_seeds: int = Field(
        default=1, ge=1, description="Final trainings of each member, to estimate seed variance; the first one ships."
    )

    @field_validator("verify", mode="before")
    @classmethod
    def _check_verify(cls, verify: Any) -> Any:
        if verify == "auto":
            return verify
        try:
            number = int(verify)
        except (TypeError, ValueError):
            number = -1
        if number < 0 or isinstance(verify, bool) or (isinstance(verify, float) and verify != number):
            raise ValueError(f"verify must be a number of members, or auto, but got {verify!r}")
        return number

    @property
    def model_epochs(self) -> float:
        """Epochs of the training of a given model, and of a final training without a time limit."""
        return DEFAULT_FINAL_EPOCHS if self.final_epochs is None else self.final_epochs

    @field_validator("rungs")
    @classmethod
    def _check_rungs(cls, rungs: tuple[float, ...]) -> tuple[float, ...]:
        if not rungs or rungs[-1] != 1 or rungs[0] <= 0 or any(a >= b for a, b in itertools.pairwise(rungs)):
            raise ValueError(f"rungs must ascend within (0, 1] and end with 1, but got {rungs}")
        return rungs


class CompressionFields(_Group):
    """Compression: which compressors apply to a network, and how."""

    compressors: tuple[str, ...] = Field(
        default=("prune_structured", "quantize"),
        description="Compressors, in order: prune_structured, prune_unstructured, low_rank, quantize, ...",
    )
    importance: tuple[str, ...] = Field(
        default=("bn_scale", "l1", "l2", "similarity", "taylor"),
        description="Importance criteria of channels that prune_structured may use; nni_l1 to nni_taylor need NNI.",
    )
    sparsity_step: float = Field(
        default=0.25, ge=0.05, le=0.5,
        description="Step of the shares of channels that prune_structured may remove from a stage, such as 0.125.",
    )  # fmt: skip
    prune_steps: int = Field(default=1, ge=1, description="Pruning steps, which share the epochs of fine-tuning.")
    qat: float = Field(
        default=0.15, ge=0, le=1, description="Share of the final epochs for quantisation-aware training; 0 skips it."
    )
    qat_scales: Literal["calibrated", "learned"] = Field(
        default="calibrated", description="Scales of quantisation-aware training: calibrated once, or learned as well."
    )

    @field_validator("compressors")
    @classmethod
    def _check_compressors(cls, compressors: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(compressors)) != len(compressors):
            raise ValueError(f"compressors must name each one once, but got {','.join(compressors)!r}")
        return compressors

    @field_validator("importance")
    @classmethod
    def _check_importance(cls, importance: tuple[str, ...]) -> tuple[str, ...]:
        if not importance or len(set(importance)) != len(importance):
            raise ValueError(f"importance must name one criterion or more, each once, but got {','.join(importance)!r}")
        return importance

    @field_validator("sparsity_step")
    @classmethod
    def _check_sparsity_step(cls, step: float) -> float:
        if abs(round(1 / step) * step - 1) > 1e-9:
            raise ValueError(f"sparsity_step must divide 1, such as 0.125, 0.1 or 0.25, but got {step:g}")
        return step


class DistillationFields(_Group):
    """Distillation: teachers, and how networks are distilled from them."""

    teacher: tuple[str, ...] = Field(
        default=(),
        description="Teacher: ONNX file, run (RUN or RUN:KEY), .npy file of logits, or votes, which are calibrated to "
        "the labels; =WEIGHT may follow. Or self: the most accurate member is trained first and teaches the others.",
    )
    teacher_classes: tuple[str, ...] = Field(
        default=(), description="Classes of a teacher that does not name them, in the order of its outputs."
    )  # fmt: skip
    teacher_output: str | None = Field(
        default=None, description="Name of the output that holds the logits, for an ONNX teacher with several outputs."
    )
    teacher_views: int = Field(
        default=32, ge=0, le=256,
        description="Changed copies of each training image that teachers answer and students see; 0 asks teachers for "
        "the unchanged images only.",
    )  # fmt: skip
    distill: str = Field(default="logits", description="Distillation method: logits, dkd, bounded, attention, hints.")
    temperature: float = Field(
        default=1.0, gt=0, description="Temperature that divides the logits of the network and its teachers."
    )
    alpha: float = Field(default=0.9, ge=0, le=1, description="Share of the distillation term in the loss, 0..1.")
    distill_during: Literal["final", "search"] = Field(
        default="final", description="final: final training only; search: all training, with the teacher as a gene."
    )

    @field_validator("teacher")
    @classmethod
    def _check_teacher(cls, teacher: tuple[str, ...]) -> tuple[str, ...]:
        if "self" in teacher and len(teacher) > 1:
            raise ValueError(f"teacher self must be the only one, but got {', '.join(teacher)}")
        return teacher


class RunFields(_Group):
    """Run: seed, hardware of the training, and where results are written."""

    seed: int = Field(default=0, ge=0, description="Random seed.")
    threads: int = Field(default=0, ge=0, description="CPU threads for training; 0 uses all cores.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Training device.")
    execution: Literal["fastest", "plain"] = Field(
        default="fastest",
        description="Form of the training: the fastest one here, or FP32 on one thread, which repeats to the bit.",
    )
    workers: int = Field(
        default=0, ge=0, description="Candidates to evaluate at once; 0 takes cores / threads where threads are given."
    )
    executor: str = Field(default="processes", description="Where workers run: processes, inline or ray.")
    address: str | None = Field(
        default=None,
        description="Ray cluster for the executor ray: auto, HOST:PORT, ray://HOST:PORT, or local, the default, which "
        "starts Ray on this machine.",
    )
    worker_memory: Bytes | None = Field(
        default=None, ge=1e9,
        description="Memory of one worker process, such as 4GB, at least 1GB; one that holds more is ended.",
    )  # fmt: skip
    wait: bool = Field(default=False, description="Wait for another process that works on the run, then go on.")
    storage: str | None = Field(
        default=None, repr=False,
        description="URL of a database for the study, sqlite:///FILE or postgresql+psycopg://USER@HOST/DB with the "
        "password in $NAS_STORAGE_PASSWORD; a journal file in the run folder by default.",
    )  # fmt: skip
    runs: Path = Field(default=Path("runs"), description="Folder of all runs.")
    name: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Name of the run; by default made of data set, space and target.",
    )  # fmt: skip

    @model_validator(mode="after")
    def _check_address(self) -> Self:
        if self.address is not None and self.executor != "ray":
            raise ValueError(f"address is for the executor ray, but got executor {self.executor}; add --executor ray")
        return self

    @property
    def n_workers(self) -> int:
        """Candidates that are evaluated at once."""
        return self.workers or (max(1, (os.cpu_count() or 1) // self.threads) if self.threads else 1)

    @property
    def worker_threads(self) -> int:
        """CPU threads of one worker's training."""
        return self.threads or max(1, (os.cpu_count() or 1) // self.n_workers)

    @field_serializer("storage")
    def _hide_password(self, storage: str | None) -> str | None:
        """Whatever is written or compared is the URL without its password; the field itself keeps it."""
        return None if storage is None else without_password(storage)


GROUPS: dict[str, type[_Group]] = {
    "search": SearchFields,
    "limits": LimitFields,
    "training": TrainingFields,
    "compression": CompressionFields,
    "distillation": DistillationFields,
    "run": RunFields,
}
FIELD_GROUPS: dict[str, str] = {field: group for group, fields in GROUPS.items() for field in fields.model_fields}
"""Group of each field. Field names are unique, so flags, keyword arguments and TOML keys need no group."""
MODEL_FIELDS = ("weights", "mean", "std", "input_size", "keep")
"""Fields that require `model`."""
