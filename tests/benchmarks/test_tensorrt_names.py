"""Names of TensorRT that the code uses, read from the source and looked up in the published bindings if present."""

import os
import zipfile
from pathlib import Path

import pytest

from benchmarks.tensorrt_names import ENGINE, GUARDED, missing_names, used_names

DOWNLOAD = "pip download --no-deps tensorrt-cu12-bindings==10.3.0 tensorrt-cu13-bindings==11.4.0.106 -d wheels"


def wheels() -> list[Path]:
    """Wheels of the bindings in $NAS_WHEELS, or in `shared/wheels` beside the checkout."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "wheels"
    return sorted(Path(os.environ.get("NAS_WHEELS", beside)).glob("tensorrt*bindings*.whl"))


def a_wheel(path: Path, content: bytes, name: str = "tensorrt/tensorrt.so") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content)
    return path


def test_names_are_read_from_the_source() -> None:
    names = used_names(ENGINE)
    assert {"Builder", "OnnxParser", "build_serialized_network", "deserialize_cuda_engine", "execute_async_v3"} <= names
    assert {"STRONGLY_TYPED", "EXPLICIT_BATCH"} <= names
    assert not {"trt", "numpy", "append"} & names


def test_a_name_must_be_a_whole_string(tmp_path: Path) -> None:
    wheel = a_wheel(tmp_path / "a.whl", b"\0Builder\0OnnxParserError\0")
    assert missing_names(wheel, {"Builder", "OnnxParser"}) == {"OnnxParser"}


def test_a_wheel_without_bindings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="must hold the bindings' shared object, but has none"):
        missing_names(a_wheel(tmp_path / "a.whl", b"", name="tensorrt/__init__.py"), {"Builder"})


@pytest.mark.data
@pytest.mark.parametrize("major", ["8", "10", "11"])
def test_every_name_is_in_the_published_bindings(major: str) -> None:
    found = [wheel for wheel in wheels() if wheel.name.split("-")[1].split(".")[0] == major]
    if not found:
        pytest.skip(f"needs wheels of TensorRT {major}'s bindings in $NAS_WHEELS: {DOWNLOAD}")
    for wheel in found:
        assert missing_names(wheel, used_names(ENGINE)) <= GUARDED.keys(), wheel.name
