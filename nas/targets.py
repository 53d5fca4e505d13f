"""The devices one can search for, by the word after `--target`."""

from hw_profiles._base import HardwareProfile
from nas import registry
from nas.errors import ConfigError, UnknownMemberError


def targets() -> dict[str, HardwareProfile]:
    """Every profile of every member of `hw_profiles`, by name, sorted. Aliases appear beside what they stand for.

    Raises:
        ConfigError: two members give one name.
    """
    found: dict[str, HardwareProfile] = {}
    for member in registry.names("target"):
        profiles: dict[str, HardwareProfile] = registry.load("target", member)
        if twice := sorted(found.keys() & profiles.keys()):
            raise ConfigError(f"a target's name must be unique, but {', '.join(twice)} occurs again in {member}.py")
        found |= profiles
    return dict(sorted(found.items()))


def target(name: str) -> HardwareProfile:
    """The profile of one device.

    Raises:
        UnknownMemberError: no profile has this name; the message lists those there are.
    """
    found = targets()
    if name not in found:
        raise UnknownMemberError(f"target must be one of {', '.join(found)}, but got {name!r}")
    return found[name]
