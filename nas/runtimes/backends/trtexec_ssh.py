"""Jetson over plain ssh, timed by the trtexec that JetPack installed. Nothing is installed on it, and nothing is left.

The profile's facts name the board: `ssh` ([user@]host[:port]), and optionally `trtexec` (its absolute path there),
`ssh_config` (a file for `ssh -F`) and `build_limit_s`. One connection serves a batch of files: the board is identified,
the reference network is built, and then each file is built and timed, followed by the reference network. A timing that
drifts by more than 3 % or was throttled is repeated, up to three times in all, with a note.

The figure is the median of trtexec's `computeMs`: GPU time of one image, replayed as a CUDA graph, without the copies
to and from the GPU.

Never run on a Jetson for this project: all of this was tested with a real sshd and a stand-in for trtexec.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hw_profiles._base import HardwareProfile
from hw_profiles._power_modes import is_same_mode
from nas.errors import MeasureError, UnreachableError
from nas.runtimes.base import NO_POWER_MONITOR, DeviceRuntime, DeviceTiming, Finding, Log
from nas.runtimes.board import power as _power
from nas.runtimes.board.benchmark import RemoteBenchmark
from nas.runtimes.board.probe import (
    format_megabytes,
    format_temperature,
    has_enough_disk,
    identify_board,
    probe_trtexec,
)
from nas.runtimes.board.ssh import SshConnection


class TrtexecSshRuntime(DeviceRuntime):
    """Times files on a board. Keeps the timing caches of boards in memory, so that later engines build faster."""

    name = "trtexec_ssh"

    def __init__(self) -> None:
        self._timing_caches: dict[tuple[str, str], bytes] = {}

    def unavailable_reason(self) -> str | None:
        """Always a reason: a board times whole files, and none can be loaded in this process."""
        return (
            "times files on a board and loads none here; for a board of yours: "
            "nas targets add NAME --like jetson-orin-nano --ssh user@host"
        )

    def versions(self) -> dict[str, str]:
        """Empty: each timing carries the versions of its board."""
        return {}

    def can_time_on_device(self, profile: HardwareProfile) -> bool:
        """Whether the profile names a board, by its fact `ssh`."""
        return "ssh" in profile.facts

    def probe_device(self, profile: HardwareProfile) -> list[Finding]:
        """Connect, and read the identity and state of the board.

        Raises:
            ConfigError: the address has a form that is refused.
            MeasureError: the board cannot be reached, or has no trtexec.
        """
        with _connect(profile, None) as link:
            board, tool = identify_board(link), probe_trtexec(link, profile)
            rails = _power.parse_rails(link.run(_power.RAILS_SCRIPT).stdout_text)
        return [
            Finding(name="connection", value=str(profile.facts["ssh"])),
            Finding(name="module", value=board.model),
            Finding(name="JetPack", value=f"{board.jetpack} (L4T {board.l4t or 'unknown'})"),
            Finding(name="TensorRT", value=f"{tool.version_text} ({tool.path})"),
            Finding(name="power mode", value=board.power_mode or "unknown"),
            Finding(
                name="clocks",
                value=board.clocks_text + ("" if board.has_locked_clocks else "; steady them: sudo jetson_clocks"),
            ),
            Finding(name="temperature", value=format_temperature(board.state)),
            Finding(
                name="free disk", value=format_megabytes(board.free_disk_mb), is_ok=has_enough_disk(board.free_disk_mb)
            ),
            Finding(name="free memory", value=format_megabytes(board.free_memory_mb)),
            Finding(name="energy", value=", ".join(r.name for r in rails) or NO_POWER_MONITOR),
        ]

    def time_models(
        self, models: Sequence[Path], profile: HardwareProfile, *, with_layers: bool = False, with_energy: bool = False,
        with_breakdown: bool = False, batch: int = 1, dry_run_commands: list[str] | None = None,
        log: Log = lambda _: None,
    ) -> list[DeviceTiming | MeasureError]:  # fmt: skip
        """Time files on the board. A file that fails does not affect the others.

        A lost connection is restored once for each file. A file that breaks it twice gets that error as its result, as
        do all remaining files where the board can no longer be reached.

        Raises:
            ConfigError: the address has a form that is refused.
            MeasureError: the board cannot be reached, has no trtexec, or does not run the reference network.
        """
        results: list[DeviceTiming | MeasureError] = []
        losses = 0  # of the connection, at the file that is next
        while len(results) < len(models):
            reached = False
            try:
                with _connect(profile, dry_run_commands, log) as link:
                    reached = True
                    bench = RemoteBenchmark(
                        link,
                        profile,
                        with_layers=with_layers,
                        with_energy=with_energy,
                        with_breakdown=with_breakdown,
                        batch=batch,
                        timing_caches=self._timing_caches,
                        log=log,
                    )
                    for model in models[len(results) :]:
                        results.append(_with_power_mode_note(bench.time_model(model), profile))
                        losses = 0
                    bench.save_timing_cache()
            except UnreachableError as error:
                if not reached:
                    if not results and not losses:
                        raise
                    return [*results, *([error] * (len(models) - len(results)))]
                losses += 1
                log(f"{error}; trying again" if losses == 1 else f"{error}; given up")
                if losses == 2:
                    results.append(error)
                    losses = 0
        return [] if dry_run_commands is not None else results


def _with_power_mode_note(timing: DeviceTiming | MeasureError, profile: HardwareProfile) -> DeviceTiming | MeasureError:
    """The timing, with a note where the board's power mode is not that of the profile."""
    if isinstance(timing, MeasureError):
        return timing
    expected, actual = str(profile.facts.get("power_mode", "")), timing.versions["power_mode"]
    if not expected or actual == "unknown" or is_same_mode(expected, actual):
        return timing
    note = (
        f"measured in power mode {actual}, clocks {timing.versions['clocks']}; the profile, and what is predicted "
        f"from it, is of {expected}, {profile.facts['gpu_mhz']:g} MHz"
    )
    return replace(timing, notes=(*timing.notes, note))


def _connect(profile: HardwareProfile, dry_run_commands: list[str] | None, log: Log = lambda _: None) -> SshConnection:
    config = profile.facts.get("ssh_config")
    return SshConnection(
        str(profile.facts["ssh"]),
        ssh_config=Path(str(config)) if config else None,
        dry_run_commands=dry_run_commands,
        log=log,
    )


RUNTIME = TrtexecSshRuntime()
