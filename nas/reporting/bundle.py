"""Export bundle: one model of a run with everything needed to use and verify it elsewhere.

OUT/model.onnx       the file that was evaluated and measured (its SHA-256 is checked)
OUT/model_card.md    description, accuracy, latency, data, intended use and limits
OUT/golden.npz       one input and its output: `image` uint8 [1, C, H, W], `probabilities` float32 [1, K]
OUT/record.json      the full record
"""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from nas import registry
from nas.errors import ConfigError
from nas.files import write_atomic
from nas.reporting.model_card import render_model_card
from nas.results.compression_effect import (
    MAX_RECALL_LOSS,
    compression_ratio,
    find_baseline,
    large_recall_losses,
    size_ratio,
)
from nas.results.data_facts import read_data_facts
from nas.results.formatting import format_int8_speedup, format_settings
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.results.selection import find_record
from nas.runtimes.base import Runtime

GOLDEN_RUNTIME = "onnxruntime"


def export_model(folder: RunFolder, which: int | str | Record, out: Path) -> Path:
    """Write the model of a record and its documents into a folder, each file whole or not at all.

    Args:
        folder: the run.
        which: a record, a trial number, or the first digits of a key, as in `find_record`.
        out: the folder to write; created if it does not exist.

    Returns:
        The path of model.onnx.

    Raises:
        ConfigError: no such candidate, it has no file, or the file is not the one that was measured.
    """
    record = which if isinstance(which, Record) else find_record(folder.records(), which)
    source = folder.path / record.model
    if not record.model or not source.exists():
        raise ConfigError(
            f"trial {record.trial} has no model file ({record.reason or 'the file is missing'}); pick another"
        )
    content = source.read_bytes()
    if (digest := hashlib.sha256(content).hexdigest()) != record.sha256:
        raise ConfigError(
            f"{source} must have SHA-256 {record.sha256[:16]}..., but has {digest[:16]}...: "
            "it was changed after it was measured, so its figures no longer hold; search again"
        )
    image, probabilities = golden_pair(source, content)
    golden = io.BytesIO()
    np.savez_compressed(golden, image=image, probabilities=probabilities)
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "record.json", json.dumps(json.loads(record.to_json()), indent=2) + "\n")
    write_atomic(out / "golden.npz", golden.getvalue())
    write_atomic(out / "model_card.md", build_model_card(folder, record, shape=image.shape[1:]))
    return write_atomic(out / "model.onnx", content)


def golden_pair(path: Path, content: bytes) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """A fixed image [1, C, H, W] and the probabilities [1, K] that the file computes for it on this machine.

    Args:
        path: the ONNX file.
        content: its bytes, from which the shape of the input is read.
    """
    entry = onnx.load_model_from_string(content).graph.input[0]
    channels, height, width = (d.dim_value for d in entry.type.tensor_type.shape.dim[1:])
    image = golden_image(channels, height, width)
    runtime: Runtime = registry.load("runtime", GOLDEN_RUNTIME)
    session = runtime.load(path)
    try:
        return image, session.predict(image)
    finally:
        session.close()


def golden_image(channels: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Fixed test pattern uint8 [1, C, H, W]: (31 c + 7 y + 13 x + x y) mod 256, indices from 0."""
    c, y, x = np.mgrid[:channels, :height, :width]
    pattern: npt.NDArray[np.uint8] = ((31 * c + 7 * y + 13 * x + x * y) % 256).astype(np.uint8)
    return pattern[None]  # [1, C, H, W]


def build_model_card(folder: RunFolder, record: Record, *, shape: tuple[int, ...]) -> str:
    """The model card of a record, in Markdown; `shape` is (C, H, W) of the input."""
    base = find_baseline(folder.records())
    baseline = base if record.phase != "base" else None  # the uncompressed model is not compared with itself
    return render_model_card(
        json.loads(record.to_json()), read_data_facts(folder), folder.config.flat(), shape,
        compression=_describe_compression(record, baseline),
        baseline_recall=baseline.score.recall if baseline and baseline.score else None,
    )  # fmt: skip


def _describe_compression(record: Record, base: Record | None) -> dict[str, str]:
    """Compression of a model and its effect, title to text; entries without a value are left out."""
    weights, size = (compression_ratio(base, record), size_ratio(base, record)) if base else (None, None)
    losses = large_recall_losses(base, record) if base else []
    rows = {
        "file, packed by zlib": f"{record.packed_bytes:,} bytes" if record.packed_bytes else "",
        "against the uncompressed model": f"R {weights:.2f} of weights, {size:.2f} of bytes"
        if weights and size
        else "",
        "further compression": format_settings(record.candidate),
        "INT8 speedup": format_int8_speedup(record),
        "teacher": record.teacher,
        "notes": "; ".join(record.notes),
        f"classes that lost more than {100 * MAX_RECALL_LOSS:.0f} points": "; ".join(map(str, losses)),
    }
    # A bar would end the cell of the Markdown table.
    return {title: text.replace("|", "/") for title, text in rows.items() if text}
