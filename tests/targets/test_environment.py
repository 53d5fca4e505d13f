"""Environment check: what is installed, what is missing, and the command that installs it."""

import tomllib
from pathlib import Path

import numpy as np
import pytest

from nas import registry
from nas.errors import MissingPackageError
from nas.runtimes.base import Finding
from nas.targets import environment as module
from nas.targets.environment import check_environment

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def findings() -> dict[str, Finding]:
    return {f.name: f for f in check_environment(folder=ROOT / "runs")}


def require(monkeypatch: pytest.MonkeyPatch, *requirements: str) -> None:
    """Let the distribution have these requirements."""
    monkeypatch.setattr(module.metadata, "requires", lambda _: list(requirements))


def test_packages_are_those_of_the_metadata_without_the_developers_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    require(
        monkeypatch,
        "numpy>=2.0",
        "onnx",
        "pytest>=8.3; extra == 'test'",
        'pillow>=11.0; extra == "images"',
        "optuna-dashboard>=0.19 ; extra == 'dashboard'",
    )

    assert [f.name for f in module._check_packages()] == ["numpy", "onnx", "optuna-dashboard", "pillow"]


def test_each_extra_with_a_purpose_is_in_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert module.EXTRA_PURPOSES.keys() == project["optional-dependencies"].keys() - {"test", "lint", "docs"}
    assert project["name"] == module.DISTRIBUTION


def test_distribution_that_is_not_installed_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DISTRIBUTION", "no-such-distribution")

    (finding,) = module._check_packages()

    assert finding.is_ok, "a checkout can be used without an installation"
    assert finding.advice == "pip install -c constraints.txt -e ."


def test_versions_are_those_of_the_packages(findings: dict[str, Finding]) -> None:
    assert findings["numpy"].value == np.__version__
    assert findings["numpy"].is_ok


def test_every_runtime_and_both_folders_are_checked(findings: dict[str, Finding]) -> None:
    assert {f"runtime {name}" for name in registry.names("runtime")} <= set(findings)
    assert str(ROOT / "runs") in findings["run folder"].value
    assert "GB free" in findings["cache"].value


def test_missing_package_is_an_error_and_the_advice_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    require(monkeypatch, "no-such-package>=1")

    found = {f.name: f for f in check_environment()}["no-such-package"]

    assert not found.is_ok
    assert found.value == "not installed"
    assert found.advice == "pip install -c constraints.txt no-such-package"


def test_missing_extra_is_no_error_and_the_advice_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXTRA_PURPOSES", {"wings": "flying"})
    require(monkeypatch, "no-such-package; extra == 'wings'")

    found = {f.name: f for f in check_environment()}["no-such-package"]

    assert found.is_ok
    assert found.advice == "for flying: pip install 'fer-nas[wings]'"


@pytest.mark.parametrize(
    ("cpuinfo", "value", "int8"),
    [
        ("model name\t: Xeon\nflags\t\t: fpu avx2 avx512_vnni\n", "Xeon: AVX2, AVX-512 VNNI", True),
        ("model name\t: Old\nflags\t\t: fpu avx2\n", "Old: AVX2", False),
        ("model name\t: Ancient\nflags\t\t: fpu\n", "Ancient: no known vector instructions", False),
        ("Features\t: fp asimd asimddp\n", ": NEON, NEON dot product", True),
    ],
)
def test_instructions_are_named_and_slow_int8_is_reported(tmp_path: Path, cpuinfo: str, value: str, int8: bool) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(cpuinfo)

    found = module._check_cpu(file)

    assert found.value.endswith(value)
    assert ("hardly faster" in found.advice) is not int8


def test_system_without_cpuinfo_is_no_error(tmp_path: Path) -> None:
    found = module._check_cpu(tmp_path / "absent")

    assert found.is_ok
    assert "instructions unknown" in found.value


def test_unusable_runtime_gives_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    class UnusableRuntime:
        def unavailable_reason(self) -> str:
            return "no legs; pip install legs"

    monkeypatch.setattr(registry, "load", lambda family, name: UnusableRuntime())

    assert module._check_runtime("lame") == Finding(
        name="runtime lame", value="not usable here", is_ok=True, advice="no legs; pip install legs"
    )
    assert not module._check_runtime("onnxruntime").is_ok


def test_runtime_that_cannot_be_loaded_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(family: str, name: str) -> object:
        raise MissingPackageError("pip install legs")

    monkeypatch.setattr(registry, "load", fail)

    found = module._check_runtime("lame")

    assert not found.is_ok
    assert found.advice == "pip install legs"


def test_missing_folder_is_checked_by_the_one_above(tmp_path: Path) -> None:
    assert module._check_writable("cache", tmp_path / "a" / "b").is_ok
    assert not (tmp_path / "a").exists()


def test_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")

    found = module._check_writable("cache", file)

    assert not found.is_ok
    assert "cannot be written" in found.value
    assert "name another place" in found.advice


def test_full_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_FREE_GB", 1e9)

    assert not module._check_writable("cache", tmp_path).is_ok
