"""Probe of a board: its identity and state, the trtexec on it, and the wording of what was found."""

import shlex

from hw_profiles._base import HardwareProfile
from nas.errors import MeasureError
from nas.runtimes.board import state as _board
from nas.runtimes.board.ssh import SshConnection
from nas.runtimes.board.state import Board, BoardState
from nas.runtimes.tensorrt import trtexec as _trtexec
from nas.runtimes.tensorrt.dla import LAST_VERSION
from nas.runtimes.tensorrt.trtexec import TrtexecInfo

TRTEXEC_PATHS = (
    "/usr/src/tensorrt/bin/trtexec",
    "/usr/local/tensorrt/bin/trtexec",
    "/opt/tensorrt/bin/trtexec",
    "/usr/bin/trtexec",
)
"""Where JetPack and NVIDIA's packages install it; nothing else is executed unless nas.toml names it."""
PROBE_TIMEOUT_S = 180
"""Seconds for two starts of trtexec, each cut off at 60 s."""
MIN_FREE_MB = 100
"""Room for a file, its engine, the reference engine and the JSON of all runs."""

# Without arguments some versions print the banner that `--help` omits, so both are tried.
_PROBE_SCRIPT = """
for t in @PATHS@; do
  [ -x "$t" ] || continue
  echo "path=$t"
  said=$(timeout 60 "$t" --help 2>&1 | head -c 200000)
  case $said in *"RUNNING TensorRT"*) ;; *) said=$(timeout 60 "$t" 2>&1 | head -c 200000) ;; esac
  printf "%s\\n" "$said"
  exit 0
done
exit 44
"""


def identify_board(connection: SshConnection) -> Board:
    """Identity and state of the board, now.

    Raises:
        UnreachableError: the connection broke.
    """
    script = f"cd {shlex.quote(connection.remote_folder)} || exit 73\n{_board.IDENTIFY_SCRIPT}"
    return _board.parse_board(connection.run(script).stdout_text)


def probe_trtexec(connection: SshConnection, profile: HardwareProfile) -> TrtexecInfo:
    """Path, version and flags of the board's trtexec. A dry run assumes the profile's version.

    Raises:
        MeasureError: the board has no trtexec, it does not name its version, or that has no support for the DLA.
        UnreachableError: the connection broke.
    """
    named = profile.facts.get("trtexec")
    paths = (str(named),) if named else TRTEXEC_PATHS
    done = connection.run(_PROBE_SCRIPT.replace("@PATHS@", shlex.join(paths)).strip(), timeout_s=PROBE_TIMEOUT_S)
    if connection.dry_run_commands is not None:
        assumed = str(profile.facts.get("tensorrt", "10.3")).split(".")
        connection.dry_run_commands.append(
            f"# the flags below are for TensorRT {'.'.join(assumed)}; the board's trtexec names its version"
        )
        return TrtexecInfo(path=paths[0], version=(int(assumed[0]), int(assumed[1]), 0), dla_core=_dla_core(profile))
    first, _, rest = done.stdout_text.partition("\n")
    if done.exit_code or not first.startswith("path="):
        raise MeasureError(
            f"{connection.address} must have trtexec at {' or '.join(paths)}, but has none; install TensorRT's samples "
            'with JetPack, or name its path in nas.toml: trtexec = "/..."'
        )
    version, core = _trtexec.parse_version(rest), _dla_core(profile)
    if core is not None and version > LAST_VERSION:
        raise MeasureError(
            f"a DLA needs TensorRT 8.2 to 10.7, but {connection.address} has {'.'.join(map(str, version))}; remove dla "
            "from this target in nas.toml to measure the GPU"
        )
    return TrtexecInfo(path=first.removeprefix("path="), version=version, help_text=rest, dla_core=core)


def _dla_core(profile: HardwareProfile) -> int | None:
    """The DLA core that the target names; None for the GPU."""
    return int(profile.facts["dla"]) if "dla" in profile.facts else None


def format_temperature(state: BoardState) -> str:
    """The hottest zone, as in "48 C"."""
    return "unknown" if state.hottest_c is None else f"{state.hottest_c:.0f} C"


def format_megabytes(count: int | None) -> str:
    """Megabytes, as in "5,400 MB"."""
    return "unknown" if count is None else f"{count:,} MB"


def has_enough_disk(free_disk_mb: int | None) -> bool:
    """Whether the board's disk has `MIN_FREE_MB` free; an unknown amount passes."""
    return free_disk_mb is None or free_disk_mb >= MIN_FREE_MB
