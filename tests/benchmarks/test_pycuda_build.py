"""pycuda built against CUDA's headers and driven by our code on a stub of the driver, if the downloads are present."""

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
    names = pycuda_build.used_names(pycuda_build.SOURCE)
    assert {"Device", "retain_primary_context", "mem_alloc", "memcpy_htod_async", "time_till", "handle"} <= names
    assert not {"append", "cudaMalloc", "_driver"} & names


@pytest.mark.data
def test_every_name_exists_with_its_signature_in_the_built_package(package: Path) -> None:
    signatures = pycuda_build.read_signatures(package, pycuda_build.used_names(pycuda_build.SOURCE))
    assert None not in signatures.values()
    assert "(object)dest, (object)src [, (object)stream=None]" in str(signatures["memcpy_htod_async"])
    assert str(signatures["mem_alloc"]) == "pycuda.driver: mem_alloc( (int)arg1) -> DeviceAllocation"
    assert str(signatures["time_till"]) == "Event: time_till( (Event)arg1, (Event)arg2) -> float"
    assert "Stream: a property" in str(signatures["handle"])


@pytest.mark.data
def test_our_code_drives_the_built_package(package: Path) -> None:
    status, output = pycuda_build.run_driver_test(package)
    assert (status, output) == (0, "_PyCuda drove stand-in GPU: memory, copies, events and a graph, five launches")


@pytest.mark.data
def test_a_missing_name_has_no_signature(package: Path) -> None:
    assert pycuda_build.read_signatures(package, {"mem_allocate"}) == {"mem_allocate": None}


def test_an_empty_folder_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"must hold pycuda's sdist; see the top of benchmarks/pycuda_build.py"):
        pycuda_build.build(tmp_path)


def test_wheels_without_the_headers_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "pycuda-1.tar.gz", "w:gz"):
        pass
    with zipfile.ZipFile(tmp_path / "nvidia_cuda_runtime-1.whl", "w") as wheel:
        wheel.writestr("nvidia/cu13/include/cuda.h", "")
    with pytest.raises(SystemExit, match=r"must hold cuda.h, .*, but lack cudaProfiler.h, crt/host_defines.h"):
        pycuda_build.build(tmp_path)
