"""A simulated board: a real sshd on this machine with keys of its own, a made-up sysfs, and a stand-in for trtexec."""

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hw_profiles._base import HardwareProfile
from nas.runtimes.board import state as _board
from nas.targets.catalog import load_target

STAND_IN = Path(__file__).with_name("stand_in_trtexec.py")
MHZ = 918_000_000


@dataclass(frozen=True)
class PlayedBoard:
    """A directory that stands for the board's file system, and the configuration to reach it by ssh.

    Attributes:
        root: `NAS_ROOT` on the board.
        temp: its directory for temporary files.
        config: file for `ssh -F`. The host is called `board`, with a wrong key `impostor`, without one `stranger`.
    """

    root: Path
    temp: Path
    config: Path

    def play(self, version: str = "10.3", **what: object) -> None:
        """Reset to a board with this TensorRT; see `stand_in_trtexec.py`."""
        shutil.rmtree(self.root, ignore_errors=True)
        (self.root / "bin").mkdir(parents=True)
        for name, text in BOARD_FILES.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(text)
        self.tool("trtexec", f'#!/bin/sh\nexec {sys.executable} -I -S {STAND_IN} "$@"\n')
        self.tool("nvpmodel", "#!/bin/sh\nprintf 'NV Power Mode: 15W\\n0\\n'\n")
        (self.root / "board.json").write_text(json.dumps({"version": version, **what}))

    def tool(self, name: str, script: str) -> None:
        """Put a program first in the board's path."""
        (self.root / "bin" / name).write_text(script)
        (self.root / "bin" / name).chmod(0o755)

    def profile(self, host: str = "board", **facts: str | int | float) -> HardwareProfile:
        """The target as nas.toml would define it."""
        like = load_target("jetson-orin-nano")
        mine = {"ssh": host, "ssh_config": str(self.config), "trtexec": str(self.root / "bin/trtexec")}
        return replace(like, name="mynano", runtime="trtexec_ssh", facts={**like.facts, **mine, **facts})

    def calls(self) -> list[list[str]]:
        """Arguments of trtexec, call by call."""
        return [json.loads(line) for line in (self.root / "calls.jsonl").read_text().splitlines()]

    def left_behind(self) -> list[str]:
        """Files in the board's temporary directory and processes of its trtexec, after up to 6 s."""
        for _ in range(60):
            found = [str(p) for p in self.temp.rglob("*")] + _processes(str(STAND_IN))
            if not found:
                break
            time.sleep(0.1)
        return found


BOARD_FILES = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    "proc/meminfo": "MemTotal: 7800000 kB\nMemAvailable:    5400000 kB\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": f"{MHZ}\n",
    "sys/class/devfreq/17000000.gpu/min_freq": f"{MHZ}\n",
    "sys/class/devfreq/17000000.gpu/max_freq": f"{MHZ}\n",
    "sys/class/devfreq/15340000.vic/cur_freq": "1\n",
    "sys/class/thermal/thermal_zone0/temp": "48500\n",
    "sys/class/thermal/thermal_zone1/temp": "-256000\n",
    "sys/class/hwmon/hwmon1/oc1_event_cnt": "0\n",
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon2/in1_label": "VDD_IN\n",
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon2/in1_input": "5000\n",
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon2/curr1_input": "800\n",
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon2/in2_label": "VDD_CPU_GPU_CV\n",
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon2/in2_input": "5000\n",
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon2/curr2_input": "100\n",
}


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlayedBoard]:
    """An sshd on a free port. Skips with the reason where none can run."""
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if not program or not shutil.which("ssh"):
        pytest.skip("no sshd or ssh on this machine; apt-get install openssh-server")
    folder = tmp_path_factory.mktemp("board")
    folder.chmod(0o700)
    root, temp = folder / "root", folder / "temp"
    temp.mkdir()
    for key in ("host", "user", "impostor"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"PidFile none\nSubsystem sftp internal-sftp\nMaxStartups 100\n"
        f"SetEnv NAS_ROOT={root} TMPDIR={temp} HOME={root} PATH={root}/bin:/usr/bin:/bin\n"
    )
    for host, key in (("board", "host"), ("impostor", "impostor")):
        public = " ".join((folder / f"{key}.pub").read_text().split()[:2])
        (folder / f"known_{host}").write_text(f"[127.0.0.1]:{port} {public}\n")
    (folder / "known_stranger").write_text("")
    (folder / "ssh_config").write_text(
        f"Host *\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n  IdentityFile {folder}/user\n"
        "  IdentitiesOnly yes\n  GlobalKnownHostsFile /dev/null\n  UpdateHostKeys no\n"
        f"Host board impostor stranger\n  UserKnownHostsFile {folder}/known_%n\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd of root requires it
    with (folder / "sshd.log").open("w") as log:
        server = subprocess.Popen([program, "-D", "-e", "-f", folder / "sshd_config"], stdout=log, stderr=log)
    try:
        if not _listens(port, server):
            pytest.skip(f"sshd does not run here: {(folder / 'sshd.log').read_text().strip()[-300:]}")
        yield PlayedBoard(root=root, temp=temp, config=folder / "ssh_config")
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def board(sshd: PlayedBoard, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlayedBoard]:
    """The board with TensorRT 10.3; fails where a test leaves a file or process behind."""
    monkeypatch.setattr(_board, "WATCH_INTERVAL_S", 0.02)
    sshd.play()
    yield sshd
    left = sshd.left_behind()
    shutil.rmtree(sshd.temp)
    sshd.temp.mkdir()
    assert not left


def _listens(port: int, server: "subprocess.Popen[bytes]") -> bool:
    for _ in range(100):
        if server.poll() is not None:
            return False
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return True
    return False


def _processes(words: str) -> list[str]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if words in line and "pytest" not in line:
            found.append(line)
    return found
