"""Catalog of targets: the devices that `--target` can name, from `hw_profiles` and the user's own.

A user's own device is a table in `nas.toml` in the working directory. It is a known device that can be reached:

    [target.mynano]
    like = "jetson-orin-nano"
    ssh = "user@host"               # or local = true: the device is this machine
    dla = 0                         # the DLA core that networks run on, on boards that have one
    trtexec = "/usr/src/tensorrt/bin/trtexec"     # only where it is elsewhere; likewise ssh_config, build_limit_s

The runtime of a device that is this machine is the package tensorrt, or another one by its word:

    [target.mygpu]
    like = "cuda"
    local = true
    runtime = "onnxruntime_cuda"    # or onnxruntime_tensorrt, tensorrt

or a known device in another power mode, whose latency is predicted:

    [target.slow]
    like = "jetson-agx-orin"
    power_mode = "15W"              # may also stand beside ssh: the mode in which the board is kept
"""

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hw_profiles._base import FLOAT16_BITS, FLOAT32_BITS, HardwareProfile
from hw_profiles._power_modes import MAX_RELATIVE_ERROR, with_power_mode
from nas import registry
from nas.errors import ConfigError, MeasureError, UnknownMemberError, one_line
from nas.files import read_text, write_atomic
from nas.runtimes.base import Backend, DeviceRuntime, Runtime
from nas.runtimes.board.ssh import parse_address

CONFIG_FILE = Path("nas.toml")
SSH_RUNTIME, LOCAL_RUNTIME = "trtexec_ssh", "tensorrt"
"""Runtimes that time files on the device itself, over ssh or here."""
HOST_RUNTIME = "onnxruntime"
"""Runtime of this machine's CPU."""
GPU_RUNTIMES = ("tensorrt", "onnxruntime_cuda", "onnxruntime_tensorrt")
"""Runtimes of this machine's GPU."""
RUNTIME_PRECISIONS = {"onnxruntime_cuda": (16, 32)}
"""Bit-widths that gain with a runtime, where these are fewer than the device has: ONNX Runtime's CUDA provider runs
Q/DQ nodes one by one."""

TargetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class UserTarget(BaseModel):
    """One table `[target.NAME]` of nas.toml, validated.

    Attributes:
        like: name of the known target that this device is an instance of.
        ssh: `[user@]host[:port]`.
        local: whether the device is this machine, used through the tensorrt package.
        runtime: word of the runtime on this machine; only with `local`.
        dla: DLA core of the board that networks run on; what it does not support falls back to the GPU.
        power_mode: the board's power mode, where it differs from that of the known target.
        trtexec: absolute path on the board, where it is in none of the usual places.
        ssh_config: file for `ssh -F`.
        build_limit_s: seconds that building the engine of one candidate may take.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    like: str
    ssh: str | None = None
    local: bool = False
    runtime: str | None = None
    dla: int | None = Field(default=None, ge=0)
    power_mode: str | None = None
    trtexec: str | None = Field(default=None, pattern=r"^/[A-Za-z0-9_./+-]+$")
    ssh_config: Path | None = None
    build_limit_s: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _check_reachable(self) -> Self:
        if (self.ssh and self.local) or not (self.ssh or self.local or self.power_mode):
            raise ValueError('a target needs either ssh = "user@host" or local = true, or else a power_mode')
        if self.runtime and not self.local:
            raise ValueError("runtime needs local = true, as a board over ssh runs its own trtexec")
        if self.dla is not None and not self.ssh:
            raise ValueError('dla needs ssh = "user@host", as a DLA is timed by the board\'s own trtexec')
        if self.ssh:
            parse_address(self.ssh)
        return self

    def to_profile(self, name: str, known_targets: dict[str, HardwareProfile]) -> HardwareProfile:
        """The known device's profile under this name, with the connection among its facts.

        Args:
            name: of the user's target.
            known_targets: name to profile of the targets in `hw_profiles`.

        Raises:
            ConfigError: `like` is no known target or has no such power mode, `name` is taken, or the runtime does not
                run files of such a device here.
        """
        if self.like not in known_targets or name in known_targets:
            fault = (
                f"target {name!r} must have a name of its own"
                if name in known_targets
                else f"like = {self.like!r} is unknown"
            )
            raise ConfigError(f"{fault}; the known targets are {', '.join(known_targets)}")
        like = self._with_dla(self._with_runtime(self._with_power_mode(known_targets[self.like])))
        own = self.model_dump(mode="json", exclude={"like", "local", "runtime", "power_mode"})
        facts = {k: v for k, v in own.items() if v is not None}
        return replace(
            like,
            name=name,
            title=f"{like.title}, yours",
            runtime=SSH_RUNTIME if self.ssh else like.runtime,
            local=self.local,
            facts={**like.facts, **facts},
            sources={**like.sources, **dict.fromkeys(facts, "the user's nas.toml")},
        )

    def _with_runtime(self, like: HardwareProfile) -> HardwareProfile:
        """The profile with the runtime that runs files on this machine, and the precisions that gain with it."""
        word = self.runtime or (LOCAL_RUNTIME if self.local and not like.local else like.runtime)
        if self.runtime:
            check_local_runtime(word)
            if (word == HOST_RUNTIME) != (like.runtime == HOST_RUNTIME):
                fitting = HOST_RUNTIME if like.runtime == HOST_RUNTIME else ", ".join(GPU_RUNTIMES)
                raise ConfigError(f"runtime of a device like {self.like!r} must be one of {fitting}, but got {word!r}")
        gaining = RUNTIME_PRECISIONS.get(word, like.precisions)
        precisions = tuple(bits for bits in like.precisions if bits in gaining)
        rates = {bits: rate for bits, rate in like.peak_gops.items() if bits in precisions}
        return replace(like, runtime=word, precisions=precisions, peak_gops=rates)

    def _with_dla(self, like: HardwareProfile) -> HardwareProfile:
        """The profile with networks on a DLA core: files in FP32, which the builder computes in half precision.

        Casts and Q/DQ nodes would fall back to the GPU, so neither FP16 nor INT8 is put into files. Until the board has
        measured enough, its GPU's constants stand in, with the widest interval.
        """
        if self.dla is None:
            return like
        cores = int(like.facts.get("dla_cores", 0))
        if self.dla >= cores:
            has = f"cores 0 to {cores - 1}" if cores > 1 else "core 0 only" if cores else "no DLA"
            raise ConfigError(f"dla must be a core of the board, but {self.like!r} has {has}, and got {self.dla}")
        half = like.peak_gops.get(FLOAT16_BITS, like.peak_gops[FLOAT32_BITS])
        model = like.latency and replace(
            like.latency, relative_error=MAX_RELATIVE_ERROR,
            source=f"constants of the GPU, as none are published for the DLA; {like.latency.source}",
        )  # fmt: skip
        return replace(
            like, title=f"{like.title}, DLA core {self.dla}", precisions=(FLOAT32_BITS,), latency=model,
            peak_gops={FLOAT32_BITS: half},
        )  # fmt: skip

    def _with_power_mode(self, like: HardwareProfile) -> HardwareProfile:
        try:
            return with_power_mode(like, self.power_mode) if self.power_mode else like
        except ValueError as error:
            raise ConfigError(str(error)) from None


def load_targets(file: Path | None = None) -> dict[str, HardwareProfile]:
    """Name to profile of every target in `hw_profiles` and `nas.toml`, aliases included, sorted by name.

    Args:
        file: of the user's targets; None takes `nas.toml` in the working directory.

    Raises:
        ConfigError: two members define the same name, or nas.toml is invalid.
    """
    known: dict[str, HardwareProfile] = {}
    for member in registry.names("target"):
        profiles: dict[str, HardwareProfile] = registry.load("target", member)
        if duplicates := sorted(known.keys() & profiles.keys()):
            raise ConfigError(
                f"a target's name must be unique, but {', '.join(duplicates)} occurs again in {member}.py"
            )
        known |= profiles
    known = dict(sorted(known.items()))
    user_targets = {name: entry.to_profile(name, known) for name, entry in load_user_targets(file).items()}
    return dict(sorted({**known, **user_targets}.items()))


def load_target(name: str, file: Path | None = None) -> HardwareProfile:
    """The profile of one device.

    Raises:
        UnknownMemberError: no target has this name; the message lists all names.
        ConfigError: nas.toml is invalid.
    """
    targets = load_targets(file)
    if name not in targets:
        raise UnknownMemberError(
            f"target must be one of {', '.join(targets)}, but got {name!r}{registry.near(name, targets)}; "
            "to add a board of your own: nas targets add NAME --like jetson-orin-nano --ssh user@host"
        )
    return targets[name]


def device_runtime(profile: HardwareProfile) -> DeviceRuntime | None:
    """The runtime that times files on the device itself, a board or a GPU; None where the device cannot be reached."""
    if profile.runtime not in registry.names("runtime"):
        return None
    backend: Backend = registry.load("runtime", profile.runtime)
    return backend if isinstance(backend, DeviceRuntime) and backend.can_time_on_device(profile) else None


def check_local_runtime(word: str) -> None:
    """Refuse a word that is no runtime which loads files on this machine.

    Raises:
        ConfigError: there is no such runtime, or it times files on a board.
    """
    words = (HOST_RUNTIME, *GPU_RUNTIMES)
    if word not in words:
        raise ConfigError(f"runtime must be one of {', '.join(words)}, but got {word!r}{registry.near(word, words)}")


def local_runtime(profile: HardwareProfile) -> Runtime | None:
    """The runtime that loads files on this machine for a target which is this machine, and which the timing loop times.

    None for other targets, and where the device's own clock times them (`device_runtime`).

    Raises:
        MeasureError: it cannot run here; the message says what is missing and how to get it.
    """
    if not profile.local or device_runtime(profile) is not None:
        return None
    runtime: Runtime = registry.load("runtime", profile.runtime)
    if reason := runtime.unavailable_reason():
        raise MeasureError(f"target {profile.name!r} cannot be measured here: {reason}")
    return runtime


def load_user_targets(file: Path | None = None) -> dict[str, UserTarget]:
    """The validated targets of the user's nas.toml, by name; empty where there is no such file.

    Raises:
        ConfigError: the file is not TOML, or a table is invalid; the one line names table and field.
    """
    file = file or CONFIG_FILE
    if not file.exists():
        return {}
    try:
        tables = tomllib.loads(read_text(file)).get("target", {})
    except (ValueError, RecursionError) as error:  # also ConfigError, of a file that is no text
        raise ConfigError(f"{file} must be TOML with tables [target.NAME], but is not: {one_line(error)}") from None
    if not isinstance(tables, dict):
        return {}  # a search configuration of the same file name, where `target` is a word
    return {name: _validate_table(file, name, table) for name, table in tables.items()}


def add_target(name: str, fields: dict[str, Any], file: Path | None = None) -> HardwareProfile:
    """Append a table `[target.NAME]` to nas.toml, and return its profile.

    Args:
        name: of the new target.
        fields: of `UserTarget`; those that are None are left out.
        file: None takes `nas.toml` in the working directory.

    Raises:
        ConfigError: the name is taken, or a field is invalid. The file is unchanged then.
    """
    file = file or CONFIG_FILE
    table = {k: v for k, v in fields.items() if v is not None}
    if name in load_targets(file):
        raise ConfigError(f"target {name!r} must have a name of its own, but there is one; see `nas targets`")
    entry = _validate_table(file, name, table)
    profile = entry.to_profile(name, load_targets(file))
    written = entry.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    lines = [f"[target.{name}]", *(f"{key} = {_format_toml(value)}" for key, value in written.items())]
    before = read_text(file).rstrip() + "\n\n" if file.is_file() else ""
    write_atomic(file, before + "\n".join(lines) + "\n")
    return profile


def _validate_table(file: Path, name: str, table: Any) -> UserTarget:
    try:
        _TargetNameCheck(name=name)
        return UserTarget.model_validate(table)
    except (ValidationError, ConfigError) as error:
        if isinstance(error, ConfigError):
            raise ConfigError(f"{file}, [target.{name}]: {error}") from None
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = str(first["msg"]).removeprefix("Value error, ")
        raise ConfigError(f"{file}, [target.{name}]: {f'{where}: ' if where else ''}{message}") from None


class _TargetNameCheck(BaseModel):
    name: TargetName


def _format_toml(value: str | bool | float) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value).lower()
