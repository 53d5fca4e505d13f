"""Models by the words of the command line: an ONNX file, an exported folder, a run, or a net of the reference front."""

from collections.abc import Callable
from pathlib import Path

from nas.errors import ConfigError
from nas.registry import near

REFERENCE_FRONT = Path("examples") / "fer2013-front"
"""Folder of the networks that come with the project's repository, in a checkout."""
FILES = ("model-int8.onnx", "model.onnx")
"""Files of a reference network; the INT8 one is the faster one at the same accuracy."""


def find_model(word: str | Path, *, pick_file: Callable[[Path], Path]) -> Path:
    """The ONNX file that a word names.

    Args:
        word: an ONNX file, the folder of an exported model, a run folder, or a reference network such as resnet-56k.
        pick_file: gives the file of the picked member of a run folder.

    Raises:
        ConfigError: nothing has this name; the message lists the reference networks that are here.
    """
    path = Path(word)
    if (path / "config.toml").is_file():
        return pick_file(path)
    if path.is_dir():
        if (found := _model_in(path)) is None:
            raise ConfigError(
                f"model {path} must be an ONNX file, a run or an exported folder, but holds no model.onnx; check the "
                "path"
            )
        return found
    if path.exists():
        return path
    known = reference_models()
    if (reference := known.get(str(word))) is not None:
        return reference
    if known:
        hint = f"or one of {', '.join(known)}{near(str(word), known)}"
    else:
        hint = f"or a network in {REFERENCE_FRONT} of the project's repository, given by its path: no checkout is here"
    raise ConfigError(f"model {word} does not exist; give an ONNX file, a run folder, an exported folder, {hint}")


def reference_models() -> dict[str, Path]:
    """Files of the reference networks by name; empty outside of a checkout.

    They are looked for in the checkout that this package is in, then in the current folder.
    """
    for root in (Path(__file__).resolve().parents[2], Path.cwd()):
        folders = sorted((root / REFERENCE_FRONT).glob("*/"))
        models = {folder.name: file for folder in folders if (file := _model_in(folder)) is not None}
        if models:
            return models
    return {}


def _model_in(folder: Path) -> Path | None:
    return next((folder / name for name in FILES if (folder / name).is_file()), None)
