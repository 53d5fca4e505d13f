"""The report says what is there, what is missing, and what to type."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from nas import registry
from nas.errors import MissingPackageError
from nas.targets import environment as module
from nas.targets.environment import Finding, check_environment

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def findings() -> dict[str, Finding]:
    return {f.name: f for f in check_environment(folder=ROOT / "runs")}


def test_the_packages_are_those_of_pyproject(project: dict[str, list[str]]) -> None:
    assert sorted(module.REQUIRED_PACKAGES) == sorted(map(_name, project["dependencies"]))


def test_each_optional_package_is_in_the_extra_that_the_advice_names(project: dict[str, dict[str, list[str]]]) -> None:
    extras = {extra: set(map(_name, needs)) for extra, needs in project["optional-dependencies"].items()}

    assert all(package in extras[extra] for package, (extra, _) in module.OPTIONAL_PACKAGES.items())


def test_versions_are_those_that_the_packages_give_themselves(findings: dict[str, Finding]) -> None:
    assert findings["numpy"].value == np.__version__
    assert findings["numpy"].is_ok


def test_every_runtime_and_both_folders_are_looked_at(findings: dict[str, Finding]) -> None:
    assert {f"runtime {name}" for name in registry.names("runtime")} <= set(findings)
    assert str(ROOT / "runs") in findings["run folder"].value
    assert "GB free" in findings["cache"].value


def test_a_missing_package_stops_the_search_and_the_advice_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUIRED_PACKAGES", ("no-such-package",))

    found = {f.name: f for f in check_environment()}["no-such-package"]

    assert not found.is_ok
    assert found.value == "not installed"
    assert found.advice == "pip install -c constraints.txt no-such-package"


def test_a_missing_extra_stops_nothing_and_the_advice_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPTIONAL_PACKAGES", {"no-such-package": ("wings", "flying")})

    found = {f.name: f for f in check_environment()}["no-such-package"]

    assert found.is_ok
    assert found.advice == "for flying: pip install 'fer-nas[wings]'"


@pytest.mark.parametrize(
    ("cpuinfo", "value", "int8"),
    [
        ("model name\t: Xeon\nflags\t\t: fpu avx2 avx512_vnni\n", "Xeon: AVX2, AVX-512 VNNI", True),
        ("model name\t: Old\nflags\t\t: fpu avx2\n", "Old: AVX2", False),
        ("model name\t: Ancient\nflags\t\t: fpu\n", "Ancient: no vector instructions known to us", False),
        ("Features\t: fp asimd asimddp\n", ": NEON, NEON dot product", True),
    ],
)
def test_instructions_are_named_and_slow_int8_is_said(tmp_path: Path, cpuinfo: str, value: str, int8: bool) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(cpuinfo)

    found = module._check_cpu(file)

    assert found.value.endswith(value)
    assert ("not faster" in found.advice) is not int8


def test_a_system_without_cpuinfo_is_no_fault(tmp_path: Path) -> None:
    found = module._check_cpu(tmp_path / "absent")

    assert found.is_ok
    assert "instructions unknown" in found.value


def test_a_runtime_that_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lame:
        def missing(self) -> str:
            return "no legs; pip install legs"

    monkeypatch.setattr(registry, "load", lambda family, name: Lame())

    assert module._check_runtime("lame") == Finding(
        name="runtime lame", value="not usable here", is_ok=True, advice="no legs; pip install legs"
    )
    assert not module._check_runtime("onnxruntime").is_ok


def test_a_runtime_that_cannot_be_loaded_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(family: str, name: str) -> object:
        raise MissingPackageError("pip install legs")

    monkeypatch.setattr(registry, "load", fail)

    found = module._check_runtime("lame")

    assert not found.is_ok
    assert found.advice == "pip install legs"


def test_a_folder_that_is_not_there_yet_is_judged_by_the_one_above(tmp_path: Path) -> None:
    assert module._check_writable("cache", tmp_path / "a" / "b").is_ok
    assert not (tmp_path / "a").exists()


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")

    found = module._check_writable("cache", file)

    assert not found.is_ok
    assert "cannot be written" in found.value
    assert "name another place" in found.advice


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_FREE_GB", 1e9)

    assert not module._check_writable("cache", tmp_path).is_ok


def _name(requirement: str) -> str:
    return re.split(r"[<>=!~\[; ]", requirement, maxsplit=1)[0]
