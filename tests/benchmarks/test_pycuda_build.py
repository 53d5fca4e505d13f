"""pycuda built against CUDA's headers, and driven by our code on a stand-in for the driver, where the downloads lie."""

import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from benchmarks import pycuda_build

DOWNLOAD = "see the top of benchmarks/pycuda_build.py"


@pytest.fixture(scope="module")
def package() -> Path:
    """The package built from $NAS_PYCUDA, or from `shared/pycuda` beside the checkout."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "pycuda"
    folder = Path(os.environ.get("NAS_PYCUDA", beside))
    if not list(folder.glob("pycuda-*.tar.gz")):
        pytest.skip(f"needs pycuda's sdist and CUDA's header wheels in $NAS_PYCUDA: {DOWNLOAD}")
    if not shutil.which("g++"):
        pytest.skip("needs g++ to build pycuda")
    return pycuda_build.build(folder)


def test_names_are_read_from_the_source() -> None:
    names = pycuda_build.used(pycuda_build.SOURCE)
    assert {"Device", "retain_primary_context", "mem_alloc", "memcpy_htod_async", "time_till", "handle"} <= names
    assert not {"append", "cudaMalloc", "_driver"} & names


@pytest.mark.data
def test_every_name_is_in_the_built_package_and_takes_what_it_is_given(package: Path) -> None:
    signatures = pycuda_build.look(package, pycuda_build.used(pycuda_build.SOURCE))
    assert None not in signatures.values()
    assert "(object)dest, (object)src [, (object)stream=None]" in str(signatures["memcpy_htod_async"])
    assert str(signatures["mem_alloc"]) == "pycuda.driver: mem_alloc( (int)arg1) -> DeviceAllocation"
    assert str(signatures["time_till"]) == "Event: time_till( (Event)arg1, (Event)arg2) -> float"
    assert "Stream: a property" in str(signatures["handle"])


@pytest.mark.data
def test_our_code_drives_the_built_package(package: Path) -> None:
    status, said = pycuda_build.drive(package)
    assert (status, said) == (0, "_PyCuda drove stand-in GPU: memory, copies, events and a graph, five launches")


@pytest.mark.data
def test_a_name_that_is_not_there_is_told(package: Path) -> None:
    assert pycuda_build.look(package, {"mem_allocate"}) == {"mem_allocate": None}


def test_an_empty_folder_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"must hold pycuda's sdist; see the top of benchmarks/pycuda_build.py"):
        pycuda_build.build(tmp_path)


def test_wheels_without_the_headers_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "pycuda-1.tar.gz", "w:gz"):
        pass
    with zipfile.ZipFile(tmp_path / "nvidia_cuda_runtime-1.whl", "w") as wheel:
        wheel.writestr("nvidia/cu13/include/cuda.h", "")
    with pytest.raises(SystemExit, match=r"must hold cuda.h, .*, but lack cudaProfiler.h, crt/host_defines.h"):
        pycuda_build.build(tmp_path)
