"""Page of the devices: the targets of this version, and the fields of a profile."""

from hw_profiles._base import HardwareProfile, LatencyModel, PowerMode
from nas.registry import load, names

from .attributes import describe_attributes, type_text
from .markdown import code, table

INTRODUCTION = """\
# Devices and profiles

Generated from `hw_profiles`. `nas targets` prints this table for your machine, with the targets of your `nas.toml`, and
`nas targets show NAME` the facts of one with their sources.

The interval of a predicted latency is meant to hold 95 of 100 latencies that a board would show.
"""


def profile_page() -> str:
    """The page."""
    profiles = dict(
        sorted(
            (entry for family in names("target") for entry in load("target", family).items()),
            key=lambda entry: entry[0],
        )
    )
    rows = [_row(word, profile) for word, profile in profiles.items()]
    parts = [INTRODUCTION.rstrip(), table(["`--target`", "device", "runtime", "bits", "latency without a board"], rows)]
    parts += [
        "## Fields of a profile",
        "A device is data: one entry in a file of `hw_profiles/`, which ends with `PROFILES`.",
    ]
    for cls in (HardwareProfile, LatencyModel, PowerMode):
        rows = [[code(name), code(type_text(cls, name)), text] for name, text in describe_attributes(cls).items()]
        parts += [f"### {cls.__name__}", table(["field", "type", "meaning"], rows)]
    return "\n\n".join(parts) + "\n"


def _row(word: str, profile: HardwareProfile) -> list[str]:
    title = "this machine's CPU, one thread" if profile.local else profile.title
    kind = "none is needed: it is always measured" if profile.local else "not predicted"
    if profile.latency:
        kind = f"predicted, +-{profile.latency.relative_error:.0%}".replace("%", " %")
    name = code(word) if word == profile.name else f"{code(word)}, which is {code(profile.name)}"
    return [name, title, profile.runtime, ", ".join(map(str, profile.precisions)), kind]
