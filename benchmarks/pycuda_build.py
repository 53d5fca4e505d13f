"""Build of pycuda against CUDA's headers, driven by our code. It needs g++, but no GPU and no CUDA installation.

    pip download --no-deps -d FOLDER nvidia-cuda-runtime nvidia-cuda-crt nvidia-cuda-profiler-api
    pip download --no-deps --no-build-isolation --no-binary pycuda -d FOLDER pycuda
    python -m benchmarks.pycuda_build FOLDER

The headers are from NVIDIA's own wheels (5 MB; for CUDA 12: the same names with -cu12, and nvcc's wheel for crt's).
pycuda's setup.py builds it, without cuRAND and without optimisation, in 90 s on one core. There is no driver here, so
it is linked to a stub (tests/runtimes/stand_in_libcuda.c) with the symbols that it needs.

Printed are the names of pycuda.driver that `nas/runtimes/tensorrt/cuda.py` uses, with their Boost.Python signatures.
That module then drives the built pycuda through memory, copies, events and a graph. This proves that names and the
number and types of arguments are right; it proves nothing about a GPU. The exit status is 1 if a name is missing or a
call fails.
"""

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "nas" / "runtimes" / "tensorrt" / "cuda.py"
STAND_IN = ROOT / "tests" / "runtimes" / "stand_in_libcuda.c"
NEEDED = ("cuda.h", "cudaProfiler.h", "crt/host_defines.h")
CLASSES = ("Device", "Context", "Stream", "Event", "DeviceAllocation")
NOT_OF_PYCUDA = frozenset({"append", "clear"})
"""Methods of lists that the parsed class uses."""

_SETTINGS = """
USE_SHIPPED_BOOST, BOOST_COMPILER = True, "gcc43"
BOOST_INC_DIR = BOOST_LIB_DIR = BOOST_PYTHON_LIBNAME = BOOST_THREAD_LIBNAME = []
CUDA_ROOT = CUDA_PRETEND_VERSION = None
CUDA_TRACE = CUDA_ENABLE_GL = CUDA_ENABLE_CURAND = False
CUDA_INC_DIR, CUDADRV_LIB_DIR, CUDADRV_LIBNAME = [{include!r}], [{lib!r}], ["cuda"]
CUDART_LIB_DIR = CUDART_LIBNAME = CURAND_LIB_DIR = CURAND_LIBNAME = []
CXXFLAGS, LDFLAGS = ["-O0", "-w"], ["-L{lib}", "-Wl,--no-as-needed", "-lcuda"]
"""

_LOOK = """
import json, sys, pycuda.driver as driver
classes = [getattr(driver, name) for name in json.loads(sys.argv[2])]
def describe(holder, name):
    member = getattr(holder, name)
    kind = "a class" if isinstance(member, type) else "a property"
    return f"{holder.__name__}: {(member.__doc__ or kind).strip().splitlines()[0].rstrip(' :')}"
signatures = {
    name: "; ".join(describe(holder, name) for holder in (driver, *classes) if hasattr(holder, name)) or None
    for name in json.loads(sys.argv[1])
}
print(json.dumps(signatures))
"""

_DRIVE = """
import ctypes
import numpy as np
from nas.runtimes.tensorrt.cuda import open_cuda_device
device = open_cuda_device()
array = np.arange(12, dtype=np.float32).reshape(3, 4)
back = np.zeros_like(array)
address = device.allocate(array.nbytes)
device.upload(address, array)
device.download(back, address)
assert (back == array).all()
replay = device.capture_graph(lambda: None)
times = [device.time_ms(replay) for _ in range(5)]
assert all(0 <= ms < 1e3 for ms in times), times
assert ctypes.CDLL("libcuda.so.1").stand_in_launches() == 5
device.synchronize()
device.close()
print(f"{type(device).__name__} drove {device.name}: memory, copies, events and a graph, five launches")
"""


def main() -> int:
    """Build, print each name with its signature, drive; returns 1 if a name is missing or a call fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the downloads; the build goes into its subfolder `built`")
    package = build(parser.parse_args().folder)
    signatures = read_signatures(package, used_names(SOURCE))
    for name, signature in signatures.items():
        print(f"{name:24} {signature or 'MISSING'}")
    status, output = run_driver_test(package)
    print(output)
    return int(status != 0 or None in signatures.values())


def used_names(source: Path) -> set[str]:
    """Names of pycuda that the class on top of it uses."""
    (class_node,) = (
        n for n in ast.parse(source.read_text()).body if isinstance(n, ast.ClassDef) and n.name == "_PyCuda"
    )
    names = {n.attr for n in ast.walk(class_node) if isinstance(n, ast.Attribute) and not _is_own(n)}
    return names - NOT_OF_PYCUDA


def build(folder: Path) -> Path:
    """The folder of the built package, with the stub beside it; an existing build is used as it is.

    Raises:
        SystemExit: a download or a compiler is missing, or the build fails; the message ends with its log.
    """
    built, making = folder.resolve() / "built", folder.resolve() / "making"
    if built.exists():
        return built / "pycuda"
    (sdist,) = list(folder.glob("pycuda-*.tar.gz")) or _refuse(f"{folder} must hold pycuda's sdist")
    shutil.rmtree(making, ignore_errors=True)
    _unpack_headers(folder, making / "include")
    with tarfile.open(sdist) as archive:
        archive.extractall(making, filter="data")
    package = (making / sdist.name.removesuffix(".tar.gz")).rename(making / "pycuda")
    (package / "siteconf.py").write_text(_SETTINGS.format(include=str(making / "include"), lib=str(making)))
    _compile(making, "")
    _run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], package)
    extension = package / "pycuda" / f"_driver{sysconfig.get_config_var('EXT_SUFFIX')}"
    symbols = re.findall(r" U (cu\w+)", _run(["nm", "-D", str(extension)], making))
    stub_source = STAND_IN.read_text()
    missing = [name for name in symbols if not re.search(rf"\b{name}\(", stub_source)]
    _compile(making, stub_source + "".join(f"int {name}(void) {{ return 801; }}\n" for name in missing))
    (making / "libcuda.so").rename(making / "libcuda.so.1")
    making.rename(built)
    return built / "pycuda"


def read_signatures(package: Path, names: set[str]) -> dict[str, str | None]:
    """The signature of each name as the built package documents it; None if the name does not exist."""
    text = _run([sys.executable, "-c", _LOOK, json.dumps(sorted(names)), json.dumps(CLASSES)], package, package)
    signatures: dict[str, str | None] = json.loads(text)
    return signatures


def run_driver_test(package: Path) -> tuple[int, str]:
    """Exit status and output of a process in which our code drives the built package."""
    done = subprocess.run(
        [sys.executable, "-c", _DRIVE], cwd=ROOT, env=_environment(package), capture_output=True, text=True, check=False
    )
    return done.returncode, (done.stdout + done.stderr).strip()


def _unpack_headers(folder: Path, include: Path) -> None:
    for wheel in sorted(folder.glob("nvidia_cuda_*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                inner = name.partition("/include/")[2]
                if inner and not name.endswith("/") and ".." not in inner:
                    (include / inner).parent.mkdir(parents=True, exist_ok=True)
                    (include / inner).write_bytes(archive.read(name))
    if absent := [name for name in NEEDED if not (include / name).exists()]:
        _refuse(f"the wheels in {folder} must hold {', '.join(NEEDED)}, but lack {', '.join(absent)}")


def _compile(built: Path, source: str) -> None:
    (built / "libcuda.c").write_text(source)
    _run(["gcc", "-w", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", "libcuda.so", "libcuda.c"], built)


def _run(command: list[str], where: Path, package: Path | None = None) -> str:
    environment = _environment(package) if package else None
    try:
        done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        _refuse(f"{command[0]} must be installed")
    if done.returncode:
        _refuse(f"{' '.join(command)[:80]} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def _environment(package: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{package}:{ROOT}", "LD_LIBRARY_PATH": str(package.parent)}


def _refuse(reason: str) -> NoReturn:
    raise SystemExit(f"{reason}; see the top of benchmarks/pycuda_build.py for the downloads")


def _is_own(node: ast.Attribute) -> bool:
    """Whether an attribute belongs to the object itself, as in `self._stream`."""
    return isinstance(node.value, ast.Name) and node.value.id == "self"


if __name__ == "__main__":
    sys.exit(main())
