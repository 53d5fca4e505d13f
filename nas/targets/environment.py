"""What this machine offers the engine, and what to type where something is missing.

Packages are read from their metadata and only torch is imported, so a broken installation can still be looked at.
"""

import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from nas import registry
from nas.data.loading import default_cache_dir
from nas.errors import NasError

REQUIRED_PACKAGES = (
    "numpy",
    "onnx",
    "onnxruntime",
    "optuna",
    "pandas",
    "plotly",
    "pydantic",
    "rich",
    "torch",
    "typer",
)
"""What the package depends on, as in pyproject.toml."""

OPTIONAL_PACKAGES = {
    "optuna-dashboard": ("dashboard", "`nas dashboard`"),
    "pillow": ("images", "data sets that are image files"),
    "nni": ("nni", "NNI's pruners and quantisers"),
    "tensorly": ("lowrank", "low-rank convolutions"),
    "tensorrt": ("tensorrt", "engines on an NVIDIA device"),
    "pycuda": ("tensorrt", "engines on an NVIDIA device"),
}
"""Optional package to its extra and what it is for."""

CPU_FLAGS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512_bf16": "AVX-512 BF16",
    "amx_int8": "AMX INT8",
    "amx_bf16": "AMX BF16",
    "asimd": "NEON",
    "asimddp": "NEON dot product",
    "i8mm": "NEON INT8 matrices",
    "bf16": "NEON BF16",
}
"""What the kernel calls the instructions that decide the speed of small nets, and what people call them."""

INT8_FLAGS = frozenset({"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"})
"""Instructions that multiply bytes; without one of them INT8 is seldom faster than floats."""

MIN_FREE_GB = 2.0
"""Disk space below which a run may not end: caches of a data set and the files of a few hundred candidates."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the report.

    Attributes:
        name: what was looked at.
        value: what was found.
        ok: whether the main job, `nas search`, can go on with it.
        advice: what to do; empty where nothing needs doing. Also set where all is well but more is on offer.
    """

    name: str
    value: str
    is_ok: bool = True
    advice: str = ""


def check_environment(*, folder: Path = Path()) -> list[Finding]:
    """Look at Python, packages, processor, CUDA and runtimes, and whether `folder` and the cache can be written.

    Takes a few seconds where torch was not imported yet. Raises nothing: what fails becomes a finding.
    """
    return [
        _check_python(),
        *(_check_required_package(name) for name in REQUIRED_PACKAGES),
        *(_check_optional_package(name, extra, use) for name, (extra, use) in OPTIONAL_PACKAGES.items()),
        _check_cores(),
        _check_cpu(),
        _check_cuda(),
        *(_check_runtime(name) for name in registry.names("runtime")),
        _check_writable("run folder", folder.resolve()),
        _check_writable("cache", default_cache_dir()),
    ]


def _check_python() -> Finding:
    return Finding(
        name="python",
        value=f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        is_ok=sys.version_info >= (3, 11),
        advice="" if sys.version_info >= (3, 11) else "install Python 3.11 or newer and make the environment again",
    )


def _check_required_package(name: str) -> Finding:
    version = _installed_version(name)
    if version is None:
        return Finding(name=name, value="not installed", is_ok=False, advice=f"pip install -c constraints.txt {name}")
    return Finding(name=name, value=version)


def _check_optional_package(name: str, extra: str, use: str) -> Finding:
    version = _installed_version(name)
    if version is None:
        return Finding(name=name, value="not installed", advice=f"for {use}: pip install 'fer-nas[{extra}]'")
    return Finding(name=name, value=version)


def _installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _check_cores() -> Finding:
    there = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    return Finding(name="cores", value=f"{usable} usable of {there}")


def _check_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> Finding:
    """What the processor can do to small nets, from the kernel's list. Other systems than Linux have no such list."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return Finding(name="processor", value=f"{platform.processor() or platform.machine()}, instructions unknown")
    fields = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    flags = set(fields.get("flags", fields.get("features", "")).split())
    known = ", ".join(title for flag, title in CPU_FLAGS.items() if flag in flags)
    return Finding(
        name="processor",
        value=f"{fields.get('model name', platform.machine())}: {known or 'no vector instructions known to us'}",
        advice="" if flags & INT8_FLAGS else "no instructions for INT8: expect 8-bit files to be smaller, not faster",
    )


def _check_cuda() -> Finding:
    try:
        import torch
    except Exception as error:  # a broken installation fails in many ways, and is what we are here to describe
        return Finding(
            name="cuda", value=f"torch cannot be imported: {error}", is_ok=False, advice="install torch again"
        )
    if not torch.cuda.is_available():
        return Finding(name="cuda", value="no device, training runs on the processor")
    return Finding(name="cuda", value=f"{torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}")


def _check_runtime(name: str) -> Finding:
    try:
        runtime = registry.load("runtime", name)
        missing = runtime.missing()
        versions = {} if missing else runtime.versions()
    except (NasError, ImportError, OSError) as error:
        return Finding(name=f"runtime {name}", value="cannot be loaded", is_ok=False, advice=str(error))
    if missing:
        return Finding(name=f"runtime {name}", value="not usable here", is_ok=name != "onnxruntime", advice=missing)
    return Finding(name=f"runtime {name}", value=", ".join(f"{k} {v}" for k, v in versions.items()) or "usable")


def _check_writable(name: str, folder: Path) -> Finding:
    """Whether a file can be made in `folder`, or in the nearest folder above it that is there, and how much fits."""
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            free_gb = shutil.disk_usage(there).free / 1e9
    except OSError as error:
        return Finding(
            name=name,
            value=f"{folder} cannot be written ({error.strerror})",
            is_ok=False,
            advice="make it writable, or name another place: --runs for runs, $XDG_CACHE_HOME for the cache",
        )
    advice = "" if free_gb >= MIN_FREE_GB else f"free at least {MIN_FREE_GB:.0f} GB on this disk, or choose another"
    return Finding(name=name, value=f"{folder}, {free_gb:.0f} GB free", is_ok=not advice, advice=advice)
