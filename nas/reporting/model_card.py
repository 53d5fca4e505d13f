"""Model card as Markdown (Mitchell et al., "Model Cards for Model Reporting", FAT* 2019), from plain mappings."""

from collections.abc import Mapping, Sequence
from typing import Any

from nas.input_form import InputForm
from nas.results.data_facts import is_synthetic

ETHICS = (
    (
        "The model predicts the expression that annotators would name for a cropped face. It does not know what a "
        "person feels: the classes are contested, and on FER2013 people agree with its labels in about 65 % of cases."
    ),
    (
        "In the European Union, inferring emotions at work and in education is prohibited (AI Act, Article 5(1)(f); "
        "medical and safety uses excepted), other emotion recognition counts as high-risk, and people must be informed."
    ),
    "Do not use it for decisions about people, such as hiring, proctoring, policing, credit or insurance.",
    "Most face data sets are licensed for research only. A model trained on one inherits those terms.",
)
"""Limits and legal notes that accompany every model and report, a sentence or two each."""


def render_model_card(
    record: Mapping[str, Any], data: Mapping[str, Any], config: Mapping[str, Any], shape: Sequence[int], *,
    compression: Mapping[str, str] | None = None, baseline_recall: Mapping[str, float] | None = None,
    input_form: InputForm | None = None, input_lines: Sequence[str] = (),
) -> str:  # fmt: skip
    """The card as Markdown.

    Args:
        record: `nas.results.record.Record` as a mapping.
        data: facts of the data set, as in data.json.
        config: the flat fields of `nas.config.SearchConfig`.
        shape: (C, H, W) of the input.
        compression: compression and its effect, title to text.
        baseline_recall: recall by class, 0..1, of the uncompressed model on the same split.
        input_form: of a file that takes another input than the measured one.
        input_lines: digest and parity of such a file.
    """
    parts = (
        f"# Facial-expression model {record['key']}",
        "\n".join(
            (_summary(record, data, config), *(f"| {k} | {words} |" for k, words in (compression or {}).items()))
        ),
        "## Input and output\n\n" + _interface(record, data, shape, input_form),
        "## Accuracy\n\n" + _accuracy(record, data, config, baseline_recall or {}),
        "## Latency\n\n" + "\n".join(_latency(record)),
        "## Data and training\n\n" + _training(record, data, config),
        "## Limits and ethics\n\n" + "\n".join(f"- {line}" for line in ETHICS),
        "## Check it\n\n" + _verification(record, input_form, input_lines),
    )
    return "\n\n".join(parts) + "\n"


def _summary(r: Mapping[str, Any], data: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    warning = ""
    if is_synthetic(data, config["dataset"]):
        warning = " **These faces are synthetic, drawn by code: the accuracy says nothing about real faces.**"
    pruned = {s: f"{w} to {r['candidate']['pruned'][s]}" for s, w in r["candidate"]["widths"].items()}
    widths = ", ".join(f"{s} {w}" for s, w in pruned.items())
    space = r["candidate"]["space"]
    origin = f"The model `{space}`" if config.get("model") else f"Found by a search of the space `{space}`"
    if config.get("model") and r["phase"] != "base":
        origin += ", compressed by a search"
    return (
        f"{origin} for the target `{config['target']}` "
        f"on the data set `{data.get('name', config['dataset'])}`.{warning}\n\n"
        f"| | |\n|---|---|\n| stored weights | {r['params']:,} ({r['nonzero_params']:,} not zero) |\n"
        f"| multiply-accumulates | {r['macs']:,} |\n| file | {r['size_bytes']:,} bytes |\n"
        f"| channels (before to after pruning) | {widths} |\n"
        f"| bits | {', '.join(f'{u} {b}' for u, b in r['candidate']['bits'].items())} |"
    )


def _interface(
    r: Mapping[str, Any], data: Mapping[str, Any], shape: Sequence[int], input_form: InputForm | None
) -> str:
    labels = data.get("classes") or list((r.get("score") or {}).get("recall", {}))
    taken = f"float32 [N, {', '.join(map(str, shape))}], a cropped face, raw pixel values 0..255"
    if input_form is not None:
        taken = f"{input_form.describe()}, a cropped face"
    return (
        f"- `image`: {taken}. Resizing and normalisation are inside the file.\n"
        f"- `probabilities`: float32 [N, {len(labels)}], in this order: {', '.join(labels)}. "
        "The names are in the file's metadata as `labels`, too.\n"
    ).rstrip()


def _accuracy(
    r: Mapping[str, Any], data: Mapping[str, Any], config: Mapping[str, Any], baseline_recall: Mapping[str, float]
) -> str:
    score = r.get("score")
    if not score:
        return "Not evaluated."
    split = r["accuracy_split"]
    split += " (synthetic faces)" if is_synthetic(data, config["dataset"]) and "synthetic" not in split else ""
    recall = "\n".join(
        f"| {name} | {share:.1%} |{f' {baseline_recall[name]:.1%} |' if name in baseline_recall else ''}"
        for name, share in score["recall"].items()
    )
    head = "| class | recall | uncompressed |\n|---|---|---|" if baseline_recall else "| class | recall |\n|---|---|"
    selected = "The candidate was selected on this split, so the figure is somewhat optimistic. "
    if r["phase"] == "base":  # the uncompressed model is the only one, so nothing was selected
        selected = ""
    return (
        f"{score['accuracy']:.2%} (95 % interval {score['low']:.2%} to {score['high']:.2%}) of {score['n']:,} faces "
        f"of the split {split}, computed from this file in ONNX Runtime. Balanced accuracy "
        f"{score['balanced_accuracy']:.2%}, macro-F1 {score['macro_f1']:.3f}. "
        f"{selected}{_test_accuracy(r.get('test'))}\n\n{head}\n{recall}"
    )


def _test_accuracy(test: Mapping[str, Any] | None) -> str:
    if not test:
        return "There is no figure on held-out test data."
    interval = f"{test['low']:.2%} to {test['high']:.2%}"
    return f"On the test split, evaluated once: {test['accuracy']:.2%} ({interval}) of {test['n']:,} faces."


def _latency(r: Mapping[str, Any]) -> list[str]:
    lines = [f"- on the target: {describe_latency(r['latency'])}"] if r.get("latency") else []
    return lines + ([f"- on the search host: {describe_latency(r['host'])}"] if r.get("host") else [])


def describe_latency(m: Mapping[str, Any]) -> str:
    """A latency and its provenance as one phrase; `m` is `Latency.to_dict()`."""
    digits = "#.4g" if m["kind"] == "measured" else "#.3g"
    value = f"{m['latency_ms']:{digits}} ms [{m['low_ms']:{digits}}, {m['high_ms']:{digits}}] {m['kind']}"
    value += f" for {m['batch']} images at once" if m.get("batch", 1) > 1 else ""
    versions = ", ".join(f"{k} {v}" for k, v in m["versions"].items())
    notes = f"; {'; '.join(m['notes'])}" if m["notes"] else ""
    if m["kind"] == "predicted":
        return f"{value} for {m['device']} ({m['runtime']}; {versions}){notes}"
    tail = f"median of {m['runs']} runs"
    if "tensorrt" not in m["versions"]:  # the thread count is that of ONNX Runtime on the CPU
        tail += f", {m['threads']} thread{'s' if m['threads'] != 1 else ''}"
    tail += f", 5th percentile {m['p5_ms']:#.4g} ms" if m.get("p5_ms") else ""
    tail += f", drift {m['drift']:+.1%}" if m.get("drift") is not None else ""
    tail += f", {m['energy_mj']:.3g} mJ above idle" if m.get("energy_mj") is not None else ""
    tail += f", in a process of {m['resident_bytes'] / 1e6:.0f} MB" if m.get("resident_bytes") else ""
    return f"{value} on {m['device']}, {tail} ({versions or m['runtime']}){notes}"


def _training(r: Mapping[str, Any], data: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{data[s]:,} {s}" for s in ("train", "val", "test") if isinstance(data.get(s), int))
    facts = [
        f"data set {data.get('name', config['dataset'])}{f' ({counts})' if counts else ''}",
        *([f"digest {data['digest']}"] if data.get("digest") else []),
        *data.get("notes", ()),
        f"{r['epochs']:.1f} passes over the training set ({r['phase']} phase), seed {config['seed']}",
        f"finished {r['finished'] or 'at an unknown time'}",
    ]
    return "\n".join(f"- {fact}" for fact in facts)


def _verification(r: Mapping[str, Any], input_form: InputForm | None, input_lines: Sequence[str]) -> str:
    parity, dtype = r.get("parity") or {}, input_form.dtype if input_form else "float32"
    agreed = (
        f" PyTorch and ONNX Runtime differed by at most {parity['max_difference']:.2g} in probability on "
        f"{parity['n']:.0f} faces and predicted the same class for {parity['agreement']:.1%} of them."
        if {"max_difference", "n", "agreement"} <= set(parity)
        else ""
    )
    rewritten = "".join(f"{line}\n\n" for line in input_lines)
    return (
        f"{rewritten}SHA-256 of {'the measured file' if input_lines else 'model.onnx'}: `{r['sha256']}`.{agreed}\n\n"
        "golden.npz holds one `image` and the `probabilities` that the file computed for it; another machine should "
        "agree to within 0.001:\n\n"
        "```python\nimport numpy as np, onnxruntime as ort\n"
        'pair = np.load("golden.npz")\n'
        'got = ort.InferenceSession("model.onnx").run(None, {"image": pair["image"].astype("' + dtype + '")})[0]\n'
        'print(abs(got - pair["probabilities"]).max())\n```'
    )
