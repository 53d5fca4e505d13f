"""The devices one can search for, by the word after `--target`: those of `hw_profiles`, and the user's own.

A user's own device stands in `nas.toml` in the working directory, as a copy of a known one that can be reached:

    [target.mynano]
    like = "jetson-orin-nano"
    ssh = "user@host"               # or local = true: the device is this machine
    trtexec = "/usr/src/tensorrt/bin/trtexec"     # only where it is elsewhere; likewise ssh_config, build_limit_s

or as a known one in another power mode, whose latency is predicted:

    [target.slow]
    like = "jetson-agx-orin"
    power_mode = "15W"              # may also stand beside ssh: the mode in which the board is kept
"""

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hw_profiles._base import HardwareProfile
from hw_profiles._power_modes import with_power_mode
from nas import registry
from nas.errors import ConfigError, UnknownMemberError
from nas.files import write_atomic
from nas.runtimes.base import Backend, DeviceRuntime
from nas.runtimes.board.ssh import parse_address

CONFIG_FILE = Path("nas.toml")
SSH_RUNTIME, LOCAL_RUNTIME = "trtexec_ssh", "tensorrt"
"""Runtimes that time files on the device itself."""

TargetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class UserTarget(BaseModel):
    """One table `[target.NAME]` of nas.toml. Frozen; checked here, once.

    Attributes:
        like: the known target that this device is one of.
        ssh: `[user@]host[:port]`.
        local: whether the device is this machine, by the tensorrt package.
        power_mode: the board's power mode, where it is not that of the known target.
        trtexec: absolute path on the board, where it is not at one of the usual places.
        ssh_config: file for `ssh -F`.
        build_limit_s: seconds that the engine of one candidate may take.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    like: str
    ssh: str | None = None
    local: bool = False
    power_mode: str | None = None
    trtexec: str | None = Field(default=None, pattern=r"^/[A-Za-z0-9_./+-]+$")
    ssh_config: Path | None = None
    build_limit_s: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _check_reachable(self) -> Self:
        if (self.ssh and self.local) or not (self.ssh or self.local or self.power_mode):
            raise ValueError('a target needs either ssh = "user@host" or local = true, or else a power_mode')
        if self.ssh:
            parse_address(self.ssh)
        return self

    def to_profile(self, name: str, known_targets: dict[str, HardwareProfile]) -> HardwareProfile:
        """The known device's profile under this name, with the way to it among its facts.

        Raises:
            ConfigError: `like` is no known target, has no such power mode, or `name` is taken.
        """
        if self.like not in known_targets or name in known_targets:
            what = (
                f"target {name!r} must have a name of its own"
                if name in known_targets
                else f"like = {self.like!r} is unknown"
            )
            raise ConfigError(f"{what}; the known targets are {', '.join(known_targets)}")
        like = self._with_power_mode(known_targets[self.like])
        own = self.model_dump(mode="json", exclude={"like", "local", "power_mode"})
        facts = {k: v for k, v in own.items() if v is not None}
        return replace(
            like,
            name=name,
            title=f"{like.title}, yours",
            runtime=LOCAL_RUNTIME if self.local else SSH_RUNTIME if self.ssh else like.runtime,
            local=self.local,
            facts={**like.facts, **facts},
            sources={**like.sources, **dict.fromkeys(facts, "the user's nas.toml")},
        )

    def _with_power_mode(self, like: HardwareProfile) -> HardwareProfile:
        try:
            return with_power_mode(like, self.power_mode) if self.power_mode else like
        except ValueError as error:
            raise ConfigError(str(error)) from None


def load_targets(file: Path | None = None) -> dict[str, HardwareProfile]:
    """Every profile of every member of `hw_profiles`, and of `nas.toml`, by name, sorted. Aliases appear too.

    Raises:
        ConfigError: two members give one name, or nas.toml is not as it must be.
    """
    found: dict[str, HardwareProfile] = {}
    for member in registry.names("target"):
        profiles: dict[str, HardwareProfile] = registry.load("target", member)
        if twice := sorted(found.keys() & profiles.keys()):
            raise ConfigError(f"a target's name must be unique, but {', '.join(twice)} occurs again in {member}.py")
        found |= profiles
    found = dict(sorted(found.items()))
    mine = {name: entry.to_profile(name, found) for name, entry in load_user_targets(file).items()}
    return dict(sorted({**found, **mine}.items()))


def load_target(name: str, file: Path | None = None) -> HardwareProfile:
    """The profile of one device.

    Raises:
        UnknownMemberError: no profile has this name; the message lists those there are.
        ConfigError: nas.toml is not as it must be.
    """
    found = load_targets(file)
    if name not in found:
        raise UnknownMemberError(
            f"target must be one of {', '.join(found)}, but got {name!r}{registry.near(name, found)}; "
            "a board of yours: nas targets add NAME --like jetson-orin-nano --ssh user@host"
        )
    return found[name]


def device_runtime(profile: HardwareProfile) -> DeviceRuntime | None:
    """The runtime that times files on this very device, a board or a GPU; None where there is no way to it."""
    if profile.runtime not in registry.names("runtime"):
        return None
    backend: Backend = registry.load("runtime", profile.runtime)
    return backend if isinstance(backend, DeviceRuntime) and backend.can_time_on_device(profile) else None


def load_user_targets(file: Path | None = None) -> dict[str, UserTarget]:
    """What the user's nas.toml names, checked; empty where there is no such file.

    Raises:
        ConfigError: it is not TOML, or a table does not fit; one line that names table and field.
    """
    file = file or CONFIG_FILE
    if not file.is_file():
        return {}
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8")).get("target", {})
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} must be TOML with tables [target.NAME], but is not: {error}") from None
    if not isinstance(tables, dict):
        return {}  # a search's configuration under the same name: `target` is a word there
    return {name: _validate_table(file, name, table) for name, table in tables.items()}


def add_target(name: str, fields: dict[str, Any], file: Path | None = None) -> HardwareProfile:
    """Write a table `[target.NAME]` at the end of nas.toml, and give its profile.

    Raises:
        ConfigError: the name is taken, or a field does not fit. The file is as it was then.
    """
    file = file or CONFIG_FILE
    given = {k: v for k, v in fields.items() if v is not None}
    if name in load_targets(file):
        raise ConfigError(f"target {name!r} must have a name of its own, but there is one; see `nas targets`")
    entry = _validate_table(file, name, given)
    profile = entry.to_profile(name, load_targets(file))
    written = entry.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    lines = [f"[target.{name}]", *(f"{key} = {_format_toml(value)}" for key, value in written.items())]
    before = file.read_text(encoding="utf-8").rstrip() + "\n\n" if file.is_file() else ""
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
