"""A Jetson, measured over plain ssh with the trtexec that JetPack put there. Nothing is installed, nothing is left.

The profile's facts name the board: `ssh` ([user@]host[:port]), and if need be `trtexec` (its absolute path there),
`ssh_config` (a file for `ssh -F`) and `build_limit_s`. One connection serves a batch of files: the board says who it is
and how it stands, the reference network is built, and then each file is built, timed, and the reference network timed
again. What drifts by more than 3 % or was throttled is timed anew, three times at most, and then says so.

The figure is the median of trtexec's `computeMs`: GPU time of one image, replayed as a CUDA graph, without the copies
to and from the GPU.

What never ran: all of this was tried against a real sshd with a stand-in for trtexec, and never against a Jetson.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hw_profiles._base import HardwareProfile
from hw_profiles._power_modes import same_mode
from nas.errors import MeasureError, UnreachableError
from nas.runtimes.base import NO_MONITOR, Finding, Runtime, Say, Session, Timing
from nas.runtimes.board import power as _power
from nas.runtimes.board.benchmark import Bench, enough, heat, identified, megabytes, probed
from nas.runtimes.board.ssh import Connection


class TrtexecSsh(Runtime):
    """Times files on a board. Keeps the boards' timing caches in memory, so that later engines build faster."""

    name = "trtexec_ssh"

    def __init__(self) -> None:
        self._caches: dict[tuple[str, str], bytes] = {}

    def missing(self) -> str | None:
        """Always a line: a board times whole files, it loads none for this process."""
        return (
            "times files on a board and loads none here; for a board of yours: "
            "nas targets add NAME --like jetson-orin-nano --ssh user@host"
        )

    def versions(self) -> dict[str, str]:
        """Nothing here: the board names its own."""
        return {}

    def load(self, model: Path, *, threads: int = 1) -> Session:
        """Refused.

        Raises:
            MeasureError: always.
        """
        raise MeasureError(f"{model.name!r} cannot be loaded by {self.name}: it {self.missing()}")

    def times(self, profile: HardwareProfile) -> bool:
        """Whether the profile names a board."""
        return "ssh" in profile.facts

    def reach(self, profile: HardwareProfile) -> list[Finding]:
        """Connect, and ask the board who it is and how it stands.

        Raises:
            ConfigError: the address has a form that is refused.
            MeasureError: there is no way to it, or no trtexec on it.
        """
        with _connection(profile, None) as link:
            board, tool = identified(link), probed(link, profile)
            rails = _power.parse_rails(link.run(_power.RAILS).text)
        return [
            Finding(name="connection", value=str(profile.facts["ssh"])),
            Finding(name="module", value=board.model),
            Finding(name="JetPack", value=f"{board.jetpack} (L4T {board.l4t or 'unknown'})"),
            Finding(name="TensorRT", value=f"{tool.version_text} ({tool.path})"),
            Finding(name="power mode", value=board.mode or "unknown"),
            Finding(
                name="clocks", value=board.clocks + ("" if board.is_locked else "; steady them: sudo jetson_clocks")
            ),
            Finding(name="temperature", value=heat(board.state)),
            Finding(name="free disk", value=megabytes(board.free_mb), ok=enough(board.free_mb)),
            Finding(name="free memory", value=megabytes(board.memory_mb)),
            Finding(name="energy", value=", ".join(r.name for r in rails) or NO_MONITOR),
        ]

    def timings(
        self, models: Sequence[Path], profile: HardwareProfile, *, layers: bool = False, energy: bool = False,
        dry: list[str] | None = None, say: Say = lambda _: None,
    ) -> list[Timing | MeasureError]:  # fmt: skip
        """Time files on the board. A file's fault costs that file; a lost connection is made once more.

        Raises:
            ConfigError: the address has a form that is refused.
            MeasureError: there is no way to the board, no trtexec on it, or not even the reference network runs.
        """
        results: list[Timing | MeasureError] = []
        losses = 0
        while len(results) < len(models):
            reached = False
            try:
                with _connection(profile, dry, say) as link:
                    reached = True
                    bench = Bench(link, profile, layers=layers, energy=energy, cache=self._caches, say=say)
                    for model in models[len(results) :]:
                        results.append(_compared(bench.measured(model), profile))
                        losses = 0
                    bench.keep_cache()
            except UnreachableError as error:
                if not reached:
                    if not results and not losses:
                        raise
                    return [*results, *([error] * (len(models) - len(results)))]
                losses += 1
                say(f"{error}; trying again" if losses == 1 else f"{error}; given up")
                if losses == 2:
                    results.append(error)
                    losses = 0
        return [] if dry is not None else results


def _compared(timing: Timing | MeasureError, profile: HardwareProfile) -> Timing | MeasureError:
    """The timing, with a note where the board was in another power mode than the profile is of."""
    if isinstance(timing, MeasureError):
        return timing
    expected, found = str(profile.facts.get("power_mode", "")), timing.versions["power_mode"]
    if not expected or found == "unknown" or same_mode(expected, found):
        return timing
    note = (
        f"measured in power mode {found}, clocks {timing.versions['clocks']}; the profile, and what is predicted "
        f"from it, is of {expected}, {profile.facts['gpu_mhz']:g} MHz"
    )
    return replace(timing, notes=(*timing.notes, note))


def _connection(profile: HardwareProfile, dry: list[str] | None, say: Say = lambda _: None) -> Connection:
    config = profile.facts.get("ssh_config")
    return Connection(str(profile.facts["ssh"]), config=Path(str(config)) if config else None, dry=dry, say=say)


RUNTIME = TrtexecSsh()
