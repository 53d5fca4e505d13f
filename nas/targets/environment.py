"""Environment check: Python, packages, processor, CUDA and runtimes of this machine, and advice where one is missing.

Which packages are needed is read from the metadata of the installed distribution, and only torch is imported: so a
broken installation can be examined too.
"""

import os
import platform
import re
import shutil
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from nas import registry
from nas.data.loading import default_cache_dir
from nas.errors import NasError
from nas.runtimes.base import Finding

DISTRIBUTION = "fer-nas"

EXTRA_PURPOSES = {
    "dashboard": "`nas dashboard`",
    "dlib": "the face detector dlib",
    "images": "data sets that are image files",
    "models": "networks of timm and torchvision",
    "nni": "NNI's pruners and quantisers",
    "lowrank": "low-rank convolutions",
    "postgres": "a study on a PostgreSQL server",
    "ray": "workers on a cluster",
    "tensorrt": "engines on an NVIDIA device",
    "vision": "`nas predict` and `nas data crop`",
}
"""Purpose of each extra that a user may want. Extras that are not listed are for developers and are not checked."""

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
"""Instruction sets that decide the speed of small networks: the kernel's flag to the usual name."""

INT8_FLAGS = frozenset({"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"})
"""Instruction sets that multiply bytes; without one of them INT8 is seldom faster than FP32."""

MIN_FREE_GB = 2.0
"""Disk space that a run may need: the cache of a data set and the files of a few hundred candidates."""


def check_environment(*, folder: Path = Path()) -> list[Finding]:
    """Check Python, packages, processor, CUDA and runtimes, and whether `folder` and the cache can be written.

    Takes a few seconds where torch was not imported before. Raises nothing: a failure becomes a finding, whose `is_ok`
    says whether `nas search` can run in spite of it.

    Args:
        folder: where runs would be written.
    """
    return [
        _check_python(),
        *_check_packages(),
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


def _check_packages() -> list[Finding]:
    """A finding for each package that the distribution requires, then for each one of the extras."""
    try:
        requirements = [_parse_requirement(text) for text in metadata.requires(DISTRIBUTION) or ()]
    except metadata.PackageNotFoundError:
        return [
            Finding(
                name=DISTRIBUTION,
                value="not installed, so the packages it requires are unknown",
                advice="pip install -c constraints.txt -e .",
            )
        ]
    required = [name for name, extra in requirements if not extra]
    optional = [(name, extra) for wanted in EXTRA_PURPOSES for name, extra in requirements if extra == wanted]
    return [
        *(_check_required_package(name) for name in required),
        *(_check_optional_package(name, extra) for name, extra in optional),
    ]


def _parse_requirement(text: str) -> tuple[str, str]:
    """Package and extra of a requirement such as `pillow>=11.0; extra == "images"`; no extra is the empty string."""
    package = re.match(r"[A-Za-z0-9._-]+", text)
    extra = re.search(r"""extra\s*==\s*['"]([^'"]+)['"]""", text)
    return package[0] if package else text, extra[1] if extra else ""


def _check_required_package(name: str) -> Finding:
    version = _installed_version(name)
    if version is None:
        return Finding(name=name, value="not installed", is_ok=False, advice=f"pip install -c constraints.txt {name}")
    return Finding(name=name, value=version)


def _check_optional_package(name: str, extra: str) -> Finding:
    version = _installed_version(name)
    if version is None:
        advice = f"for {EXTRA_PURPOSES[extra]}: pip install '{DISTRIBUTION}[{extra}]'"
        return Finding(name=name, value="not installed", advice=advice)
    return Finding(name=name, value=version)


def _installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _check_cores() -> Finding:
    n_cores = os.cpu_count() or 1
    n_usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else n_cores
    return Finding(name="cores", value=f"{n_usable} usable of {n_cores}")


def _check_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> Finding:
    """The processor's vector instructions, from the kernel's list; systems other than Linux have no such list."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return Finding(name="processor", value=f"{platform.processor() or platform.machine()}, instructions unknown")
    fields = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    flags = set(fields.get("flags", fields.get("features", "")).split())
    known = ", ".join(title for flag, title in CPU_FLAGS.items() if flag in flags)
    return Finding(
        name="processor",
        value=f"{fields.get('model name', platform.machine())}: {known or 'no known vector instructions'}",
        advice="" if flags & INT8_FLAGS else "no instructions for INT8: INT8 files will be smaller, but hardly faster",
    )


def _check_cuda() -> Finding:
    try:
        import torch
    except Exception as error:  # a broken installation fails in many ways, and each is to become a finding
        return Finding(
            name="cuda", value=f"torch cannot be imported: {error}", is_ok=False, advice="install torch again"
        )
    if not torch.cuda.is_available():
        return Finding(name="cuda", value="no device, training runs on the CPU")
    return Finding(name="cuda", value=f"{torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}")


def _check_runtime(name: str) -> Finding:
    try:
        runtime = registry.load("runtime", name)
        reason = runtime.unavailable_reason()
        versions = {} if reason else runtime.versions()
    except (NasError, ImportError, OSError) as error:
        return Finding(name=f"runtime {name}", value="cannot be loaded", is_ok=False, advice=str(error))
    if reason:
        return Finding(name=f"runtime {name}", value="not usable here", is_ok=name != "onnxruntime", advice=reason)
    return Finding(name=f"runtime {name}", value=", ".join(f"{k} {v}" for k, v in versions.items()) or "usable")


def _check_writable(name: str, folder: Path) -> Finding:
    """Whether `folder`, or the nearest existing folder above it, can be written, and its free space."""
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            free_gb = shutil.disk_usage(existing).free / 1e9
    except OSError as error:
        return Finding(
            name=name,
            value=f"{folder} cannot be written ({error.strerror})",
            is_ok=False,
            advice="make it writable, or name another place: --runs for runs, $XDG_CACHE_HOME for the cache",
        )
    advice = "" if free_gb >= MIN_FREE_GB else f"free at least {MIN_FREE_GB:.0f} GB on this disk, or choose another"
    return Finding(name=name, value=f"{folder}, {free_gb:.0f} GB free", is_ok=not advice, advice=advice)
