"""Weights of a user-defined model: a checkpoint of any training script, matched to the names of a net.

Checkpoints differ in what surrounds the tensors, never in the tensors' own names:

- the state dict is the file itself, or an entry such as `state_dict`, `model` or `ema`, at any depth;
- wrappers put words in front of each name: `module.` (DataParallel), `_orig_mod.` (torch.compile) or `model.`
  (Lightning); a run of this package puts the unit in front, as in `stage1.features.0.weight`;
- tools add counters: `n_averaged` (weight averaging), `total_ops` and `total_params` (thop).

A word is taken off only if all names then are those of the net, so a net whose own child is called `module` keeps it.
"""

import argparse
import collections
import logging
import pathlib
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas.errors import ConfigError, MissingPackageError, one_line
from nas.files import GIT_LFS_POINTER, regular_file_fault

logger = logging.getLogger(__name__)

STATE_KEYS = (
    "state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params",
    "ema", "model_ema", "ema_state_dict", "state_dict_ema", "params_ema",
)  # fmt: skip
"""Keys under which training scripts store a state dict. Trained weights come before their moving averages."""
WRAPPERS = ("module", "_orig_mod", "model")
"""Words that wrappers put in front of names."""
INNER_WRAPPERS = ("module", "_orig_mod")
"""Words that wrappers of a part of a net put inside names, as in `features.module.0.weight`."""
_UNIT = re.compile(r"^(prepare|stem|stage\d+|head)\.")
COUNTERS = frozenset({"n_averaged", "total_ops", "total_params", "num_batches_tracked"})
"""Last words of entries that no result depends on in evaluation mode, and that tools and old versions add or omit."""
MAX_DEPTH = 4
"""Depth of nested entries, and number of wrappers, that are searched."""
_LISTED_KEYS = 8

State = dict[str, Tensor]


def load_weights(net: nn.Module, path: Path) -> None:
    """Load a checkpoint into a net. Only tensors and plain values are unpickled.

    Args:
        net: the net; its weights are overwritten.
        path: of a file written by `torch.save`, or of a `.safetensors` file.

    Raises:
        ConfigError: the file cannot be read, or its tensors have other names, shapes or kinds than the net's, or are
            not finite.
        MissingPackageError: the file is a `.safetensors` file, and safetensors is not installed.
    """
    content = _read_checkpoint(path)
    expected = net.state_dict()
    states = dict(_find_states(content))
    if not states:
        raise ConfigError(
            f"weights must be a state dict, but {path} holds a {type(content).__name__} of other objects than "
            f"tensors{_describe_keys(content)}; save it with torch.save(net.state_dict(), path)"
        )
    matches = {key: names for key, state in states.items() if (names := _match_names(state, expected)) is not None}
    if not matches:
        raise ConfigError(_describe_misfit(next(iter(states.values())), expected, content, path))
    key, names = next(iter(matches.items()))
    if len(matches) > 1:
        logger.warning("%s holds fitting weights under %s; those under %s are loaded", path, ", ".join(matches), key)
    state = {name: states[key][own] for name, own in names.items()}
    checked = {name: _check_tensor(name, tensor, expected[name], path) for name, tensor in state.items()}
    net.load_state_dict(expected | checked)


def _read_checkpoint(path: Path) -> Any:
    """Content of a file.

    Raises:
        ConfigError: it cannot be read.
        MissingPackageError: see `load_weights`.
    """
    if (fault := regular_file_fault(path)) is not None:
        raise ConfigError(f"cannot read weights: {path} {fault}; check the path")
    try:
        if path.stat().st_size == 0:
            raise ConfigError(f"weights must be a state dict, but {path} is empty (0 bytes); copy or save it again")
        with path.open("rb") as file:
            if file.read(len(GIT_LFS_POINTER)) == GIT_LFS_POINTER:
                raise ConfigError(f"weights must be a state dict, but {path} is a pointer of Git LFS; run git lfs pull")
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        with warnings.catch_warnings(), torch.serialization.safe_globals(_plain_values()):
            warnings.simplefilter("ignore")  # torch warns of archives that it refuses in the next step
            return torch.load(path, map_location="cpu", weights_only=True)
    except (ConfigError, MissingPackageError):
        raise
    except OSError as error:
        raise ConfigError(
            f"weights must be a state dict, but {path} cannot be read: {error.strerror or one_line(error)}; "
            "check the path, or copy the file again if it is cut off"
        ) from None
    except Exception as error:  # pickle and zip errors share no base
        raise ConfigError(
            f"weights must be a state dict that torch.load(weights_only=True) reads, but {path} is not: "
            f"{_reason(error)}; save it with torch.save(net.state_dict(), path)"
        ) from None


def _read_safetensors(path: Path) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise MissingPackageError(
            f"weights in {path} need safetensors, which is not installed; pip install safetensors"
        ) from None
    return load_file(path)


def _plain_values() -> list[Any]:
    """Types beside tensors that checkpoints often hold and that run no code: arguments, paths and NumPy's numbers."""
    scalar = np.array(0.0)[()].__reduce__()[0]
    dtypes = [type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "u1", "?")]
    return [
        argparse.Namespace, pathlib.PosixPath, collections.defaultdict, np.dtype, *dtypes,
        (scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"),
    ]  # fmt: skip


def _reason(error: Exception) -> str:
    """Why torch refuses a file; its advice to unpickle arbitrary code is left out."""
    text = one_line(error, max_length=5000)
    if match := re.search(r"GLOBAL ([\w.]+)", text):
        return f"it also holds an object of {match[1]}"
    if "TorchScript" in text:
        return "it is a TorchScript archive"
    return one_line(re.sub(r"\x1b\[\d+m|In PyTorch 2\.6.*", "", text))


def _find_states(content: Any, key: str = "the file itself", depth: int = 0) -> Iterator[tuple[str, State]]:
    """State dicts inside a file with the keys that lead to them, in the order of `STATE_KEYS`."""
    if not isinstance(content, Mapping) or depth > MAX_DEPTH:
        return
    entries = {str(name): value for name, value in content.items() if str(name).rpartition(".")[2] not in COUNTERS}
    # A state dict without entries says what is missing; a dict of other objects does not.
    if all(isinstance(value, Tensor) for value in entries.values()) and (entries or depth or not content):
        yield key, {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    for name in STATE_KEYS:
        inner = content.get(name)
        yield from _find_states(inner, name if not depth else f"{key}.{name}", depth + 1)


def _match_names(state: State, expected: Mapping[str, Tensor]) -> dict[str, str] | None:
    """Name in the file for each name of the net that the file has; None if the names do not fit."""
    return next((names for names in _unwrapped(state) if not _misfits(names, expected)), None)


def _misfits(names: dict[str, str], expected: Mapping[str, Tensor]) -> list[str]:
    """Names that only one side has, in order; counters aside. Removes the file's further counters from `names`."""
    counters = [name for name in names if name not in expected and name.rpartition(".")[2] in COUNTERS]
    missing = {name for name in expected if name not in names and not name.endswith("num_batches_tracked")}
    misfits = sorted(missing | (set(names) - set(expected) - set(counters)))
    if not misfits:
        for name in counters:
            del names[name]
    return misfits


def _unwrapped(state: State) -> Iterator[dict[str, str]]:
    """Ways to take wrappers' words off the names, as {new name: name in the file}; the unchanged names first."""
    level = [{name: name for name in state}]
    for _ in range(MAX_DEPTH):
        following: list[dict[str, str]] = []
        for names in level:
            yield dict(names)
            following += [{new.removeprefix(f"{w}."): own for new, own in names.items()} for w in WRAPPERS]
            following += [{new.replace(f".{w}.", "."): own for new, own in names.items()} for w in INNER_WRAPPERS]
            following.append({_UNIT.sub("", new): own for new, own in names.items()})
        # Where two names become one, a word was part of the net.
        level = [names for i, names in enumerate(following) if len(names) == len(state) and names not in following[:i]]


def _describe_misfit(state: State, expected: Mapping[str, Tensor], content: Any, path: Path) -> str:
    closest = min((_misfits(names, expected) for names in _unwrapped(state)), key=len)
    where = "the net only" if closest[0] in expected else "the file only"
    return (
        f"weights must be those of the net, but {closest[0]!r} is in {where} ({path}){_describe_keys(content)}; "
        "save them from the net that --model builds"
    )


def _describe_keys(content: Any) -> str:
    """The keys of a file as the end of a clause; empty for other files."""
    if not isinstance(content, Mapping) or not content:
        return ""
    keys = [one_line(repr(key), max_length=60) for key in content]
    rest = f" and {len(keys) - _LISTED_KEYS} more" if len(keys) > _LISTED_KEYS else ""
    return f"; the file has the keys {', '.join(keys[:_LISTED_KEYS])}{rest}"


def _check_tensor(name: str, tensor: Tensor, expected: Tensor, path: Path) -> Tensor:
    """The tensor in the type of the net's.

    Raises:
        ConfigError: its shape or kind differ, or a value is not finite in that type.
    """
    if expected.shape != tensor.shape:
        raise ConfigError(
            f"weights must be those of the net, but {name!r} is {list(expected.shape)} in the net and "
            f"{list(tensor.shape)} in {path}; save them from the net that --model builds"
        )
    if tensor.is_meta or tensor.is_quantized or (expected.is_floating_point() and not tensor.is_floating_point()):
        kind = "without values" if tensor.is_meta else f"of type {tensor.dtype}"
        raise ConfigError(
            f"weights must be real numbers, but {name!r} in {path} is {kind}; save the net before it is quantised"
        )
    cast = (
        tensor.detach().to_dense().to(expected.dtype) if tensor.layout != torch.strided else tensor.to(expected.dtype)
    )
    n_bad = int((~torch.isfinite(cast)).sum()) if expected.is_floating_point() else 0
    if n_bad:
        raise ConfigError(
            f"weights must be finite, but {name!r} in {path} has {n_bad} of {cast.numel()} values that are NaN or "
            f"infinite in {str(expected.dtype).removeprefix('torch.')}; use a checkpoint from before training diverged"
        )
    if name.endswith("running_var") and cast.numel() and cast.min() < 0:
        raise ConfigError(
            f"variances must be 0 or more, but {name!r} in {path} has {float(cast.min()):g}; use another checkpoint"
        )
    return cast
