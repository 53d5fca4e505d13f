"""Measuring over a real sshd with a stand-in for trtexec (reconstructed, see there), and all failures."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from nas.errors import ConfigError, MeasureError, UnreachableError
from nas.runtimes.backends.trtexec_ssh import RUNTIME
from nas.runtimes.base import DeviceTiming, Runtime
from nas.runtimes.board import power as _power
from nas.runtimes.board import ssh as _ssh
from nas.runtimes.board.ssh import SshConnection, parse_address
from nas.runtimes.reference_network import reference_path
from tests.runtimes.conftest import BOARD_FILES, PlayedBoard

CLOCK = "sys/class/devfreq/17000000.gpu/cur_freq"
HEAT = "sys/class/thermal/thermal_zone0/temp"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(reference_path().read_bytes())
    return path


def only(results: list[DeviceTiming | MeasureError]) -> DeviceTiming:
    (found,) = results
    assert isinstance(found, DeviceTiming), found
    return found


@pytest.mark.parametrize("version", ["8.2", "8.5", "8.6", "10.3", "11.4"])
def test_a_file_is_timed_by_every_version(board: PlayedBoard, model: Path, version: str) -> None:
    board.play(version, ms={"candidate-1": 0.0931})
    found = only(RUNTIME.time_models([model], board.profile(), with_layers=True))
    assert sorted(found.times_ms)[100] == pytest.approx(0.0931, rel=1e-5)  # not on the grid of the time stamps
    assert found.drift == 0
    assert found.device == "NVIDIA Jetson Orin Nano Developer Kit (15W, clocks locked at 918 MHz)"
    assert found.versions["tensorrt"].startswith(version)
    assert {k: found.versions[k] for k in ("l4t", "jetpack", "power_mode", "temperature", "throttled")} == {
        "l4t": "36.4.3", "jetpack": "6.2", "power_mode": "15W", "temperature": "48 C", "throttled": "no",
    }  # fmt: skip
    assert [layer.name for layer in found.layers] == [
        "stem.conv + stem.relu",
        "stage1.0.conv || stage1.1.conv",
        "head.fc",
    ]
    assert found.layers[0].ms == (0.021 if version == "8.2" else 0.02)


def test_a_power_mode_other_than_the_profiles_is_noted(board: PlayedBoard, model: Path) -> None:
    board.play()
    assert not any("power mode" in note for note in only(RUNTIME.time_models([model], board.profile())).notes)
    board.tool("nvpmodel", "#!/bin/sh\nprintf 'NV Power Mode: MODE_7W\\n1\\n'\n")
    assert only(RUNTIME.time_models([model], board.profile())).notes[-1] == (
        "measured in power mode MODE_7W, clocks locked at 918 MHz; the profile, and what is predicted from it, is of "
        "15W, 625 MHz"
    )
    kept = board.profile(power_mode="7W")
    assert not any("power mode" in note for note in only(RUNTIME.time_models([model], kept)).notes)


def test_a_batch_shares_one_connection_and_one_reference(board: PlayedBoard, model: Path) -> None:
    assert len(RUNTIME.time_models([model] * 3, board.profile())) == 3
    built = [call[0] for call in board.calls() if call[0].startswith("--onnx")]
    assert built == ["--onnx=reference.onnx", *(f"--onnx=candidate-{i}.onnx" for i in (1, 2, 3))]


def test_an_engine_that_fails_affects_one_file_and_shows_its_log(board: PlayedBoard, model: Path) -> None:
    board.play(do={"candidate-1": "fail"})
    bad, good = RUNTIME.time_models([model, model], board.profile())
    assert isinstance(bad, MeasureError)
    assert str(bad) == (
        "'net.onnx': trtexec failed with status 1: Error[10]: Could not find any implementation for node "
        "{ForeignNode[stage1.Conv]}."
    )
    assert len(bad.log_lines) == 20
    assert bad.log_lines[-1].startswith("&&&& FAILED")
    assert isinstance(good, DeviceTiming)


def test_an_engine_that_takes_too_long_is_stopped_on_the_board(board: PlayedBoard, model: Path) -> None:
    board.play(do={"candidate-1": "hang"})
    bad, good = RUNTIME.time_models([model, model], board.profile(build_limit_s=2))
    assert str(bad) == "'net.onnx': the engine must be built and timed within 2 s, but trtexec was stopped then"
    assert isinstance(good, DeviceTiming)


def test_a_disk_that_fills_up_is_named(board: PlayedBoard, model: Path) -> None:
    board.play(do={"candidate-1": "full disk"})
    bad, good = RUNTIME.time_models([model, model], board.profile())
    assert str(bad) == "'net.onnx': the board's disk must have room for the engine, but it is full; free some"
    assert isinstance(good, DeviceTiming)


def test_a_full_disk_is_refused_before_any_build(board: PlayedBoard, model: Path) -> None:
    board.tool(
        "df", "#!/bin/sh\nprintf 'Filesystem 1024-blocks Used Available Capacity Mounted on\\nx 9 9 3000 99%% /\\n'\n"
    )
    with pytest.raises(MeasureError, match="must have 100 MB free for temporary files, but has 3; free some"):
        RUNTIME.time_models([model], board.profile())


def test_garbage_is_one_line_without_control_characters(board: PlayedBoard, model: Path) -> None:
    board.play(do={"candidate-1": "garbage"})
    bad, good = RUNTIME.time_models([model, model], board.profile())
    assert isinstance(bad, MeasureError)
    assert "must write a list of runs with computeMs, but wrote" in str(bad)
    assert all(line.isprintable() for line in (str(bad), *bad.log_lines))
    assert isinstance(good, DeviceTiming)


def test_a_lost_connection_is_restored_once(board: PlayedBoard, model: Path) -> None:
    board.play(do={"candidate-1": "drop once"})
    said: list[str] = []
    only(RUNTIME.time_models([model], board.profile(), log=said.append))
    assert any("broke in the middle of a measurement; trying again" in line for line in said)


def test_a_file_that_breaks_the_connection_twice_is_given_up_alone(board: PlayedBoard, model: Path) -> None:
    board.play(do={"candidate-1": "drop"})
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if line.endswith("given up"):
            board.play()

    bad, good = RUNTIME.time_models([model, model], board.profile(), log=say)
    assert isinstance(bad, UnreachableError)
    assert str(bad) == "the connection to board broke in the middle of a measurement"
    assert isinstance(good, DeviceTiming)


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("impostor", "must show the host key that is known of it, but showed another"),
        ("stranger", "must be a host whose key is known, but this one's is not; type once: ssh stranger"),
    ],
)
def test_a_wrong_host_key_is_refused_before_anything_is_sent(
    board: PlayedBoard, model: Path, host: str, reason: str
) -> None:
    with pytest.raises(UnreachableError, match=reason):
        RUNTIME.time_models([model], board.profile(host))
    assert not (board.root / "calls.jsonl").exists()


def test_a_board_that_is_off_is_reported_in_one_line(board: PlayedBoard, model: Path) -> None:
    with pytest.raises(UnreachableError, match="board:1 must run an ssh server, but refused the connection"):
        RUNTIME.time_models([model], board.profile("board:1"))


def test_a_key_that_is_not_accepted_is_reported_in_one_line(board: PlayedBoard, model: Path, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    config = tmp_path / "config"
    config.write_text(board.config.read_text().replace(str(board.config.with_name("user")), str(tmp_path / "other")))
    with pytest.raises(UnreachableError, match="must let you in by key and without a password"):
        RUNTIME.time_models([model], board.profile(ssh_config=str(config)))


def test_an_ssh_config_that_does_not_end_or_exist_is_refused(board: PlayedBoard, model: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, fault in (("pipe", "must be a regular file, but is a pipe"), ("none", "does not exist")):
        with pytest.raises(ConfigError, match=f"ssh_config .*{name} {fault}"):
            RUNTIME.time_models([model], board.profile(ssh_config=str(tmp_path / name)))


@pytest.mark.parametrize(
    ("file", "text", "note"),
    [
        (CLOCK, "510000000\n", "throttled: the GPU fell to 510 MHz, though it was locked at 918 MHz"),
        (HEAT, "91000\n", "throttled or about to: 91 C, which should stay below 80"),
    ],
)
def test_throttling_repeats_the_timing_and_is_noted(
    board: PlayedBoard, model: Path, file: str, text: str, note: str
) -> None:
    (board.root / file).write_text(text)
    found = only(RUNTIME.time_models([model], board.profile()))
    assert note in found.notes
    assert found.versions["throttled"] == note
    assert sum("candidate-1.plan" in call[0] for call in board.calls()) == 2  # and once with the build


def test_clocks_that_are_not_locked_are_noted(board: PlayedBoard, model: Path) -> None:
    (board.root / CLOCK).with_name("min_freq").write_text("306000000\n")
    found = only(RUNTIME.time_models([model], board.profile()))
    assert found.versions["clocks"] == "not locked, up to 918 MHz"
    assert any(note.startswith("clocks not locked") for note in found.notes)


def test_a_board_that_became_slower_is_measured_again(board: PlayedBoard, model: Path) -> None:
    board.play(ms={"candidate-1": 0.2, "*": 0.1})

    def say(line: str) -> None:
        if line.startswith("'net.onnx': build"):
            played = json.loads((board.root / "board.json").read_text())
            (board.root / "board.json").write_text(json.dumps({**played, "ms": {"candidate-1": 0.3, "*": 0.12}}))

    said: list[str] = []
    found = only(RUNTIME.time_models([model], board.profile(), log=lambda line: (say(line), said.append(line))[0]))
    assert "'net.onnx': busy board: the reference network drifted by +20.0%; timing it again" in said
    assert found.drift == 0


HOSTILE = ("-oProxyCommand=touch pwned.onnx", "$(touch pwned);`touch pwned`.onnx", "a\nb'; touch pwned; '.onnx")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_name_is_not_executed(
    board: PlayedBoard, model: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hostile = model.rename(tmp_path / name)
    only(RUNTIME.time_models([Path(hostile.name)], board.profile()))
    assert not list(tmp_path.rglob("pwned"))
    assert not list(board.root.parent.rglob("pwned"))
    assert all(word.startswith("--") and name not in word for call in board.calls() for word in call)


@pytest.mark.parametrize("address", ["-oProxyCommand=x", "a@-b", "a b", "a;b", "$(a)", "", "a@b:x", "a\nb", "a@b/c"])
def test_an_address_that_ssh_could_misread_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="ssh address must be user@host"):
        parse_address(address)


def test_addresses_are_parsed_with_and_without_a_port() -> None:
    assert parse_address("me@nano.local:2222") == ("me@nano.local", 2222)
    assert parse_address("nano") == ("nano", None)


def test_a_dry_run_lists_every_command_and_runs_none(
    board: PlayedBoard, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    assert RUNTIME.time_models([model], board.profile(), dry_run_commands=said) == []
    assert not (board.root / "calls.jsonl").exists()
    assert all(line.startswith(("ssh ", "scp ", "# ")) for line in said)
    assert all("BatchMode=yes" in line and "StrictHostKeyChecking=yes" in line for line in said if line[0] == "s")
    assert sum("--onnx=candidate-1.onnx" in line for line in said) == 1
    assert any("--stronglyTyped" in line for line in said)
    ran: list[str] = []
    real = subprocess.run
    monkeypatch.setattr(_ssh.subprocess, "run", lambda command, **more: (ran.append(command), real(command, **more))[1])
    only(RUNTIME.time_models([model], board.profile()))
    assert len(ran) == len([line for line in said if line[0] == "s"]) - 1  # the keeper is no `run`


def test_two_sessions_never_measure_at_once(board: PlayedBoard) -> None:
    profile = board.profile()
    said: list[str] = []
    with SshConnection("board", ssh_config=Path(str(profile.facts["ssh_config"]))) as first:
        second = SshConnection("board", ssh_config=Path(str(profile.facts["ssh_config"])), log=said.append)
        waiting = pytest.MonkeyPatch()
        waiting.setattr(_ssh, "LOCK_TIMEOUT_S", 1)
        with pytest.raises(UnreachableError, match="must be free, but another search kept its lock"), second:
            pass
        waiting.undo()
        assert first.run("echo still here").stdout_text == "still here\n"
    assert said == ["another search is measuring on board; waiting for it"]


def test_a_session_without_heartbeat_is_ended_by_the_board(board: PlayedBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ssh, "HEARTBEAT_TIMEOUT_S", 1)
    monkeypatch.setattr(_ssh, "HEARTBEAT_INTERVAL_S", 600)
    with SshConnection("board", ssh_config=board.config) as link:
        assert list(board.temp.iterdir())
        assert not board.left_behind()
        with pytest.raises(UnreachableError, match="broke"):
            link.run("echo anybody")


def test_energy_is_the_power_above_idle_for_each_inference(
    board: PlayedBoard, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_power, "IDLE_DURATION_S", 0.5)
    board.play(ms={"candidate-1": 2.0}, do={"candidate-1": "steady"})
    amperes = next(name for name in BOARD_FILES if name.endswith("curr1_input"))
    # 5 V: 0.8 A at rest, 1.4 A while trtexec runs, so 3000 mW more for 500 inferences a second
    board.tool(
        "trtexec",
        (board.root / "bin/trtexec").read_text().replace("exec ", f"echo 1400 >{board.root / amperes}; ")
        + f"r=$?; echo 800 >{board.root / amperes}; exit $r\n",
    )
    found = only(RUNTIME.time_models([model], board.profile(), with_energy=True))
    assert found.energy_mj == pytest.approx(3000 / 500, rel=0.02)


def test_a_board_is_identified(board: PlayedBoard) -> None:
    found = {finding.name: finding.value for finding in RUNTIME.probe_device(board.profile())}
    assert found["module"] == "NVIDIA Jetson Orin Nano Developer Kit"
    assert found["JetPack"] == "6.2 (L4T 36.4.3)"
    assert found["TensorRT"].startswith("10.3.0 (")
    assert found["energy"] == "VDD_IN"


def test_a_board_without_trtexec_names_the_searched_paths(board: PlayedBoard, model: Path) -> None:
    with pytest.raises(MeasureError, match="must have trtexec at /nowhere/trtexec, but has none"):
        RUNTIME.time_models([model], board.profile(trtexec="/nowhere/trtexec"))


def test_an_unknown_banner_is_refused(board: PlayedBoard, model: Path) -> None:
    board.tool("trtexec", "#!/bin/sh\necho hello\n")
    with pytest.raises(MeasureError, match="must begin with a line that names its version, but said: hello"):
        RUNTIME.time_models([model], board.profile())


def test_nothing_is_loaded_in_this_process_and_the_reason_says_what_to_do() -> None:
    assert "nas targets add" in (RUNTIME.unavailable_reason() or "")
    assert not isinstance(RUNTIME, Runtime)
