"""Names of TensorRT that our code uses, looked up in the published bindings. It needs no GPU and no TensorRT.

    pip download --no-deps tensorrt-cu12-bindings==10.3.0 tensorrt-cu13-bindings==11.4.0.106 -d wheels
    python -m benchmarks.tensorrt_names wheels/*.whl

The bindings are a shared object that cannot be imported without TensorRT's own library, but it holds the names that it
defines as zero-terminated strings. The names that `nas/runtimes/tensorrt/engine.py` uses of `trt` and of its objects
are read from the source with ast. A linker may share the ends of strings, so a short name can be found by chance; a
name that is not found is certainly missing. The exit status is 1 if one is.
"""

import argparse
import ast
import sys
import zipfile
from pathlib import Path

ENGINE = Path(__file__).resolve().parents[1] / "nas" / "runtimes" / "tensorrt" / "engine.py"
OBJECTS = frozenset(
    {"trt", "builder", "network", "parser", "config", "profile", "runtime", "engine", "_engine", "context", "_context",
     "inspector", "flags", "_trt"}
)  # fmt: skip
"""Variables and attributes of the source that hold TensorRT objects."""
CALLED_ON_A_CALL = frozenset({"desc", "serialize", "execute_async_v3", "get_tensor_shape"})
GUARDED = {
    "STRONGLY_TYPED": "10.0 and later, checked with hasattr",
    "EXPLICIT_BATCH": "before 11, used if STRONGLY_TYPED is missing",
    "FP16": "before 11, used if networks are weakly typed",
    "INT8": "before 11, used if networks are weakly typed",
}
"""Names that some versions lack, and why that is no error."""
NOT_OF_THE_BINDINGS = frozenset({"__version__", "nptype"})
"""Names defined in the package's Python files."""


def main() -> int:
    """Print one row per wheel; returns 1 if a name is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", nargs="+", type=Path)
    wheels = parser.parse_args().wheels
    names, status = used_names(ENGINE), 0
    print(f"{len(names)} names: {' '.join(sorted(names))}\n")
    for wheel in wheels:
        not_found = missing_names(wheel, names)
        errors = sorted(not_found - GUARDED.keys())
        status |= bool(errors)
        guarded = "".join(f"\n    {name}: {GUARDED[name]}" for name in sorted(not_found & GUARDED.keys()))
        print(f"{wheel.name}: {'missing ' + ' '.join(errors) if errors else 'all there'}{guarded}")
    return status


def used_names(source: Path) -> set[str]:
    """Names of TensorRT that the source uses."""
    names = {flag for flag in GUARDED if flag in source.read_text()}
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Attribute) and (_is_of_tensorrt(node.value) or node.attr in CALLED_ON_A_CALL):
            names.add(node.attr)
    return {name for name in names if name not in OBJECTS} - NOT_OF_THE_BINDINGS - {"name"}


def missing_names(wheel: Path, names: set[str]) -> set[str]:
    """The names that no shared object of the wheel holds."""
    with zipfile.ZipFile(wheel) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist() if ".so" in name)
    if not content:
        raise SystemExit(f"{wheel} must hold the bindings' shared object, but has none; take tensorrt-*-bindings")
    return {name for name in names if name.encode() + b"\0" not in content}


def _is_of_tensorrt(node: ast.expr) -> bool:
    """Whether an expression is a TensorRT object or one of its enumerations (`trt.MemoryPoolType`)."""
    inner = node.value if isinstance(node, ast.Attribute) else node
    return _root(node) in OBJECTS or _root(inner) in {"trt", "_trt"}


def _root(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        return "context" if isinstance(node.func, ast.Attribute) and node.func.attr == "_open" else ""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


if __name__ == "__main__":
    sys.exit(main())
