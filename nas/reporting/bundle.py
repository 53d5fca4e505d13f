"""Export bundle: one model of a run with everything needed to use and verify it elsewhere.

OUT/model.onnx       the file that was evaluated and measured (its SHA-256 is checked), or its rewrite to another input
OUT/model_card.md    description, accuracy, latency, data, intended use and limits
OUT/golden.npz       one input and its output: `image` uint8 as the file takes it, `probabilities` float32 [1, K]
OUT/record.json      the full record; of a rewritten file, also its digest and parity, under `export`
OUT/...              what the target needs beside it (`nas.reporting.device_files`)
"""

import hashlib
import io
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hw_profiles._base import HardwareProfile
from nas import registry
from nas.errors import ConfigError
from nas.files import write_atomic
from nas.input_form import InputForm, requested_form
from nas.onnx_export.input_rewrite import network_shape, with_input_form
from nas.reporting.device_files import ALL_FILES, ExportedModel, device_files, labels_of
from nas.reporting.input_parity import InputParity, check_input_parity
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
from nas.runtimes.onnx_input import read_onnx_input, read_onnx_model

GOLDEN_RUNTIME = "onnxruntime"
BUNDLE_FILES = frozenset({"model.onnx", "model_card.md", "golden.npz", "record.json", *ALL_FILES})
"""Every file that an export may write."""
ENGINE_FILES = frozenset({"model.engine", "model.engine.txt"})
"""What build_engine.sh makes of a model; an engine of an overwritten one is removed."""


def export_model(
    folder: RunFolder,
    which: int | str | Record,
    out: Path,
    *,
    profile: HardwareProfile | None = None,
    input_words: Sequence[str] = (),
    force: bool = False,
) -> Path:
    """Write the model of a record and its documents into a folder, each file whole or not at all.

    Args:
        folder: the run.
        which: a record, a trial number, or the first digits of a key, as in `find_record`.
        out: the folder to write; created if it does not exist.
        profile: of the target that the device files are for; None writes none.
        input_words: of `nas.input_form.WORDS`: how the file takes pictures; empty leaves it as it was measured.
        force: whether files of an earlier export may be overwritten.

    Returns:
        The path of model.onnx.

    Raises:
        ConfigError: no such candidate, it has no file, the file is not the one that was measured, the folder holds an
            export, or an input word is unknown.
        ExportError: the file cannot take the input form.
        ParityError: the rewritten file does not compute what the measured one does.
        MissingPackageError: pillow, which parity needs, is not installed.
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
    if not force:
        _refuse_overwriting(out)
    with tempfile.TemporaryDirectory() as temporary:
        model, rewrite = source, None
        if input_words:
            model, rewrite = _rewrite_input(source, input_words, Path(temporary))
        files = _documents(folder, record, model, rewrite)
        if profile is not None:
            files |= _device_files(folder, record, model, profile, rewrite)
        files["model.onnx"] = model.read_bytes()  # last, so that no reader finds it without its documents
    out.mkdir(parents=True, exist_ok=True)
    for stale in (BUNDLE_FILES | ENGINE_FILES) - files.keys():
        (out / stale).unlink(missing_ok=True)
    for name, text in files.items():
        write_atomic(out / name, text)
    if "build_engine.sh" in files:
        (out / "build_engine.sh").chmod(0o755)
    return out / "model.onnx"


@dataclass(frozen=True, kw_only=True)
class InputRewrite:
    """A measured file rewritten to another input form.

    Attributes:
        form: how it takes pictures.
        sha256: of the rewritten file.
        parity: with the measured one.
    """

    form: InputForm
    sha256: str
    parity: InputParity


def _rewrite_input(source: Path, words: Sequence[str], folder: Path) -> tuple[Path, InputRewrite]:
    """The file with another input form, in `folder`, proved to compute what `source` does."""
    plain = read_onnx_model(source)
    try:
        form = requested_form(words, network_shape(plain))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    content = with_input_form(plain, form).SerializeToString(deterministic=True)
    path = folder / "model.onnx"
    path.write_bytes(content)
    parity = check_input_parity(source, path, form)
    return path, InputRewrite(form=form, sha256=hashlib.sha256(content).hexdigest(), parity=parity)


def _refuse_overwriting(out: Path) -> None:
    held = sorted(name for name in BUNDLE_FILES if (out / name).exists())
    if held:
        raise ConfigError(
            f"{out} must not hold an export yet, but has {', '.join(held[:3])}{' and more' if len(held) > 3 else ''}; "
            "overwrite it with --force, or name another folder with --out"
        )


def _documents(folder: RunFolder, record: Record, model: Path, rewrite: InputRewrite | None) -> dict[str, str | bytes]:
    """Name to content of the record, the golden pair and the model card."""
    image, probabilities = golden_pair(model)
    golden = io.BytesIO()
    np.savez_compressed(golden, image=image, probabilities=probabilities)
    stored = json.loads(record.to_json())
    if rewrite is not None:
        stored["export"] = {
            "input": list(rewrite.form.words), "sha256": rewrite.sha256, "parity": rewrite.parity.to_dict()
        }  # fmt: skip
    shape = read_onnx_input(folder.path / record.model).image_dims
    card = build_model_card(folder, record, shape=shape, rewrite=rewrite)
    return {
        "record.json": json.dumps(stored, indent=2) + "\n",
        "golden.npz": golden.getvalue(),
        "model_card.md": card,
    }


def _device_files(
    folder: RunFolder, record: Record, model: Path, profile: HardwareProfile, rewrite: InputRewrite | None
) -> dict[str, str]:
    labels = labels_of(model) or list(read_data_facts(folder).get("classes") or [])
    if not labels and record.score is not None:
        labels = list(record.score.recall)
    exported = ExportedModel(
        path=model, key=record.key, bits=record.candidate.bits, labels=labels,
        parity=rewrite.parity if rewrite else None,
    )  # fmt: skip
    return device_files(exported, profile)


def golden_pair(path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """A fixed image, as the file takes it, and the probabilities [1, K] that the file computes for it on this machine.

    A file of any size gets one that must be shrunk along one axis and enlarged along the other.

    Args:
        path: the ONNX file.
    """
    entry = read_onnx_input(path)
    if entry.stated_form is not None:
        form = entry.stated_form
        _, height, width = form.network
        image = golden_image(form.channels, *(form.size or (2 * height + 3, max(16, width - 5))))
        image = form.to_input(image).astype(np.uint8)
    else:
        channels, height, width = entry.dims[1:]
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


def build_model_card(
    folder: RunFolder, record: Record, *, shape: tuple[int, ...], rewrite: InputRewrite | None = None
) -> str:
    """The model card of a record, in Markdown.

    Args:
        folder: the run.
        record: of the model.
        shape: (C, H, W) of the network's input.
        rewrite: of a file that takes another input form than the measured one.
    """
    base = find_baseline(folder.records())
    baseline = base if record.phase != "base" else None  # the uncompressed model is not compared with itself
    return render_model_card(
        json.loads(record.to_json()), read_data_facts(folder), folder.config.flat(), shape,
        compression=_describe_compression(record, baseline),
        baseline_recall=baseline.score.recall if baseline and baseline.score else None,
        input_form=rewrite.form if rewrite else None, input_lines=_describe_rewrite(rewrite) if rewrite else (),
    )  # fmt: skip


def _describe_rewrite(rewrite: InputRewrite) -> tuple[str, ...]:
    """Provenance of a rewritten file, a sentence a line."""
    parity = rewrite.parity
    provenance = (
        f"SHA-256 of model.onnx: `{rewrite.sha256}`. It is the measured file, rewritten to take another input; all "
        "figures of this card are of the measured one, and its latency does not hold the conversion of pictures."
    )
    proof = (
        f"Parity of the two on {parity.n_images} pictures of {len(parity.sizes)} sizes in ONNX Runtime "
        f"{parity.versions['onnxruntime']}: {parity.differing_pixels:,} of {parity.n_pixels:,} pixels that the network "
        f"sees differ from the package's own conversion by Pillow, probabilities differ by at most "
        f"{parity.max_difference:.2g}, and {parity.agreement:.1%} of the classes agree."
    )
    return provenance, proof


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
