"""Catalog of targets: those of `hw_profiles`, and the user's own in nas.toml."""

import tomllib
from pathlib import Path

import onnxruntime as ort
import pytest

from hw_profiles import cpu
from nas import registry
from nas.errors import ConfigError, MeasureError, UnknownMemberError
from nas.targets import catalog as targets


def test_targets_of_all_members_are_sorted_by_name() -> None:
    found = targets.load_targets()
    assert list(found) == sorted(found)
    assert {"cpu", "jetson", "jetson-nano"} <= found.keys()


def test_target_is_loaded_by_name() -> None:
    assert targets.load_target("cpu") is cpu.PROFILES["cpu"]


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownMemberError, match=r"cpu, .*jetson.*'toaster'"):
        targets.load_target("toaster")


def test_duplicate_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "load", lambda family, name: cpu.PROFILES)
    with pytest.raises(ConfigError, match="must be unique, but cpu"):
        targets.load_targets()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "nas.toml"


def test_user_target_is_written_and_loaded_again(file: Path) -> None:
    file.write_text("# mine\n[target.other]\nlike = 'jetson-nano'\nssh = 'nano'\n")
    targets.add_target("mynano", {"like": "jetson-orin-nano", "ssh": "me@nano:2222", "trtexec": None}, file)
    assert file.read_text().startswith("# mine\n[target.other]")
    mine, like = targets.load_target("mynano", file), targets.load_target("jetson-orin-nano")
    assert (mine.runtime, mine.local, mine.facts["ssh"]) == ("trtexec_ssh", False, "me@nano:2222")
    assert (mine.precisions, mine.latency, mine.peak_gops) == (like.precisions, like.latency, like.peak_gops)
    assert mine.sources["ssh"] == "the user's nas.toml"
    assert targets.load_target("other", file).facts["ssh"] == "nano"
    assert tomllib.loads(file.read_text())["target"]["mynano"] == {"like": "jetson-orin-nano", "ssh": "me@nano:2222"}


def test_text_is_escaped_for_toml(file: Path) -> None:
    where = 'a "b"\\c'
    targets.add_target("mine", {"like": "jetson", "ssh": "nano", "ssh_config": where}, file)
    assert targets.load_target("mine", file).facts["ssh_config"] == where


def test_user_target_can_be_this_machine(file: Path) -> None:
    targets.add_target("here", {"like": "jetson", "local": True}, file)
    here = targets.load_target("here", file)
    assert (here.runtime, here.local) == ("tensorrt", True)


@pytest.mark.parametrize(
    ("like", "runtime", "precisions"),
    [
        ("cuda", "onnxruntime_cuda", (16, 32)), ("cuda", "onnxruntime_tensorrt", (8, 16, 32)),
        ("jetson-nano", "onnxruntime_cuda", (16, 32)), ("cuda", "tensorrt", (8, 16, 32)),
    ],
)  # fmt: skip
def test_this_machine_may_have_another_runtime(
    file: Path, like: str, runtime: str, precisions: tuple[int, ...]
) -> None:
    targets.add_target("here", {"like": like, "local": True, "runtime": runtime}, file)
    here = targets.load_target("here", file)
    assert (here.runtime, here.local, here.precisions) == (runtime, True, precisions)
    assert set(here.peak_gops) == set(precisions)
    assert "runtime" not in here.facts
    assert tomllib.loads(file.read_text())["target"]["here"]["runtime"] == runtime


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"like": "cuda", "ssh": "nano", "runtime": "tensorrt"}, "runtime needs local = true"),
        ({"like": "cuda", "local": True, "runtime": "trtexec_ssh"}, "runtime must be one of onnxruntime, tensorrt, "),
        ({"like": "cuda", "local": True, "runtime": "onnxruntime_cud"}, "but got 'onnxruntime_cud'"),
        ({"like": "cuda", "local": True, "runtime": "onnxruntime"}, "like 'cuda' must be one of tensorrt, "),
        ({"like": "cpu", "local": True, "runtime": "tensorrt"}, "like 'cpu' must be one of onnxruntime, "),
    ],
)
def test_a_runtime_that_does_not_fit_is_refused(file: Path, fields: dict[str, object], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        targets.add_target("here", fields, file)
    assert not file.exists()


def test_a_dla_takes_fp32_files_and_a_wide_interval(file: Path) -> None:
    targets.add_target("mydla", {"like": "jetson-xavier-nx", "ssh": "nano", "dla": 1}, file)
    mine, like = targets.load_target("mydla", file), targets.load_target("jetson-xavier-nx")
    assert (mine.facts["dla"], mine.precisions, mine.runtime) == (1, (32,), "trtexec_ssh")
    assert mine.peak_gops == {32: like.peak_gops[16]}
    assert mine.latency is not None
    assert mine.latency.relative_error == 0.95
    assert mine.latency.source.startswith("constants of the GPU, as none are published for the DLA")


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"like": "jetson-agx-orin", "local": True, "dla": 0}, "dla needs ssh"),
        ({"like": "jetson-orin-nano", "ssh": "nano", "dla": 0}, "'jetson-orin-nano' has no DLA, and got 0"),
        ({"like": "jetson-orin-nx-8gb", "ssh": "nano", "dla": 1}, "has core 0 only, and got 1"),
        ({"like": "jetson-agx-orin", "ssh": "nano", "dla": 2}, "has cores 0 to 1, and got 2"),
        ({"like": "jetson-agx-orin", "ssh": "nano", "dla": -1}, "dla: Input should be greater than or equal to 0"),
    ],
)
def test_a_dla_that_the_board_lacks_is_refused(file: Path, fields: dict[str, object], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        targets.add_target("here", fields, file)


def test_a_local_runtime_is_looked_for_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    here = targets.local_runtime(targets.load_target("cpu"))
    assert here is not None
    assert here.name == "onnxruntime"
    assert targets.local_runtime(targets.load_target("jetson")) is None
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(MeasureError, match=r"'cuda-onnxruntime' cannot be measured .* pip install onnxruntime-gpu"):
        targets.local_runtime(targets.load_target("cuda-onnxruntime"))
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    found = targets.local_runtime(targets.load_target("cuda-onnxruntime"))
    assert found is not None
    assert found.name == "onnxruntime_cuda"


def test_known_board_in_another_power_mode_is_predicted(file: Path) -> None:
    targets.add_target("slow", {"like": "jetson-agx-orin", "power_mode": "15W"}, file)
    slow = targets.load_target("slow", file)
    assert (slow.runtime, slow.local, slow.facts["power_mode"]) == ("tensorrt", False, "MODE_15W")
    assert slow.title == "Jetson AGX Orin 64 GB (MODE_15W, GPU at 408 MHz), yours"
    assert targets.device_runtime(slow) is None
    assert tomllib.loads(file.read_text())["target"]["slow"] == {"like": "jetson-agx-orin", "power_mode": "15W"}


def test_user_board_can_have_another_power_mode(file: Path) -> None:
    mine = targets.add_target("mine", {"like": "jetson-agx-orin", "ssh": "orin", "power_mode": "30W"}, file)
    assert (mine.runtime, mine.facts["power_mode"], mine.facts["gpu_mhz"]) == ("trtexec_ssh", "MODE_30W", 612)


@pytest.mark.parametrize(
    ("name", "fields", "reason"),
    [
        ("cpu", {"like": "jetson", "ssh": "a"}, "must have a name of its own"),
        ("mine", {"like": "toaster", "ssh": "a"}, "like = 'toaster' is unknown; the known targets are"),
        ("mine", {"like": "jetson"}, r"needs either ssh = \"user@host\" or local = true, or else a power_mode"),
        ("mine", {"like": "jetson", "power_mode": "9W"}, "must be one of MAXN_SUPER, 25W, 15W, 7W, but got '9W'"),
        ("mine", {"like": "cpu", "power_mode": "9W"}, "cpu, which has no power modes"),
        ("mine", {"like": "jetson", "ssh": "a", "local": True}, "needs either ssh"),
        ("mine", {"like": "jetson", "ssh": "-oProxyCommand=x"}, r"\[target.mine\]: an ssh address must be user@host"),
        ("mine", {"like": "jetson", "ssh": "a", "trtexec": "/bin/x;rm"}, r"\[target.mine\]: trtexec: String should"),
        ("mine", {"like": "jetson", "ssh": "a", "trtexec": "trtexec"}, "trtexec: String should"),
        ("mine", {"like": "jetson", "ssh": "a", "build_limit_s": 0}, "build_limit_s: Input should be greater"),
        ("mine", {"like": "jetson", "ssh": "a", "password": "x"}, "password: Extra inputs are not permitted"),
        ("-x", {"like": "jetson", "ssh": "a"}, "name: String should match"),
        ("a]b", {"like": "jetson", "ssh": "a"}, "name: String should match"),
    ],
)
def test_invalid_table_is_one_line_and_writes_nothing(
    file: Path, name: str, fields: dict[str, object], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        targets.add_target(name, fields, file)
    assert "\n" not in str(caught.value)
    assert not file.exists()


@pytest.mark.parametrize("text", ["[target", "[target.a]\nlike = 'jetson'", "[target]\na = 1", "\xff\xfe"])
def test_invalid_file_is_named(file: Path, text: str) -> None:
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"nas\.toml"):
        targets.load_targets(file)


def test_search_configuration_of_the_same_name_has_no_targets(file: Path) -> None:
    file.write_text('target = "cpu"\n')
    assert targets.load_user_targets(file) == {}


def test_only_a_reachable_device_has_a_device_runtime(file: Path) -> None:
    targets.add_target("mynano", {"like": "jetson", "ssh": "nano"}, file)
    runtime = targets.device_runtime(targets.load_target("mynano", file))
    assert runtime is not None
    assert runtime.name == "trtexec_ssh"
    assert targets.device_runtime(targets.load_target("jetson")) is None
    assert targets.device_runtime(targets.load_target("cpu")) is None
