"""Training recipe on FER2013: each change of it against the plain one, at equal epochs, for nets of three sizes.

    python -m benchmarks.training_recipe --data fer2013.csv --teachers a.onnx=2 b.onnx [--nets 60k] [--epochs 12]
        [--variants alone clean bank] [--seeds 1] [--views 12] [--cache runs/recipe] [--ferplus fer2013new.csv]

A variant is a word for the teachers' part and changes of the recipe, joined by +:

    alone        labels alone                        bank       teachers answer the very views that students see
    softened     labels smoothed by 0.4              T2, a1     temperature 2, share of the teachers 1
    clean        teachers answer unchanged images    mixup, dropout, mild, medium, strong, lr2 (twice the rate)
    votes        calibrated votes of FER+ alone      bank+votes the bank's teachers and the votes (--ferplus)
    b64          batches of 64                       sgd        the recipe of large nets on labels alone
    branches     parallel branches of 3x3 convolutions, fused afterwards (`nas.training.branches`)
    auxiliary    a second classifier amid the net       crops      random crops in the place of shifts and zooms

All figures are accuracies on PublicTest in per cent, whose faces no net has seen (see `nas.data.leaks`). One standard
error is 0.8 points at 3,589 faces, and less for the difference of two nets, which share the faces and most mistakes;
gains on the first variant are paired over the faces.
Finished trainings and the teachers' answers are cached below --cache, so a second call resumes.
"""

import argparse
import itertools
import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.data.augment import MEDIUM, MILD, MIN_CROP, STRONG
from nas.data.base import FaceData, Labels
from nas.data.loading import load_data
from nas.distillation.base import Distillation
from nas.distillation.teacher_outputs import TeacherOutputs
from nas.distillation.teachers import VOTES, find_teachers
from nas.models.model_source import make_model
from nas.models.seeding import forked_rng
from nas.registry import load
from nas.results.run_folder import RunFolder
from nas.training.execution_format import ExecutionFormat
from nas.training.loop import predict, train
from nas.training.recipe import Recipe, recipe_for

NETS = {
    "60k": "resnet8:stem_stride=2,widths=(16,32,48)",
    "300k": "resnet10:stem_stride=2,widths=(24,48,64,96)",
    "1M": "resnet10:stem_stride=2,widths=(32,64,128,128)",
    "plain-58k": "plain_cnn:widths=(16,32,48),convs=(1,3,2),stem_stride=2,pool=False",
    "plain-945k": "plain_cnn:widths=(32,64,128,176),convs=(1,3,3,2),stem_stride=2,pool=False",
}
EXECUTION = ExecutionFormat(memory_format="channels_last", precision="bf16", threads=1)
STRENGTHS = {"mild": MILD, "medium": MEDIUM, "strong": STRONG}


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--ferplus", type=Path, help="fer2013new.csv, for the word votes")
    parser.add_argument("--teachers", nargs="*", default=[])
    parser.add_argument("--nets", nargs="*", default=["60k", "300k", "1M"], choices=NETS)
    parser.add_argument("--variants", nargs="*", default=["alone", "softened", "clean", "bank"])
    parser.add_argument("--epochs", type=float, default=12.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--views", type=int, default=12)
    parser.add_argument("--cache", type=Path, default=Path("runs/recipe"))
    args = parser.parse_args()
    data = load_data("fer2013", args.data, options={"ferplus": str(args.ferplus)} if args.ferplus else {})
    file = args.cache / "results.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    for seed in range(args.seeds):
        for net in args.nets:
            for variant in args.variants:
                key = {"net": net, "variant": variant, "seed": seed, "epochs": args.epochs}
                if any(key.items() <= row.items() for row in done):
                    continue
                figures, predicted = measure(data, args, net=net, variant=variant, seed=seed)
                row = key | figures
                np.save(predictions_file(row, args.cache), predicted.astype(np.uint8))
                print(row, flush=True)
                done.append(row)
                with file.open("a") as stream:
                    stream.write(json.dumps(row) + "\n")
    print_table([row for row in done if row["epochs"] == args.epochs], args, data)


def measure(
    data: FaceData, args: argparse.Namespace, *, net: str, variant: str, seed: int
) -> tuple[dict[str, float], Labels]:
    """Train one net; accuracies in per cent with seconds of processor time, and the classes that it predicts."""
    words = variant.split("+")
    with forked_rng(1000 + seed):
        module = make_model(NETS[net], input_shape=data.input_shape, classes=len(data.classes))
    n_params = sum(p.numel() for p in module.parameters())
    distillation = make_distillation(data, args, words)
    recipe = changed(recipe_for(n_params, epochs=args.epochs, is_distilled=distillation is not None), words)
    begin = time.process_time()
    curve = train(
        module, data.train, classes=len(data.classes), epochs=args.epochs, recipe=recipe, execution=EXECUTION,
        seed=seed, distillation=distillation,
    )  # fmt: skip
    seconds = time.process_time() - begin
    predicted = predict(module, data.val.images, execution=EXECUTION).argmax(1)
    return {
        "accuracy": 100 * float((predicted == data.val.labels).mean()), "train": 100 * curve.points[-1][2],
        "seconds": round(seconds), "weights": n_params,
    }, predicted  # fmt: skip


def predictions_file(row: dict[str, Any], cache: Path) -> Path:
    """File of the classes that a trained net predicts for the selection split."""
    return cache / f"{row['net']}-{row['variant']}-{row['seed']}-{row['epochs']:g}.npy"


def changed(recipe: Recipe, words: list[str]) -> Recipe:
    """The recipe with the changes that the words name."""
    for word in words[1:]:
        if word in STRENGTHS:
            recipe = replace(recipe, augmentation=STRENGTHS[word])
        elif word == "mixup":
            recipe = replace(recipe, mixup_alpha=0.2)
        elif word == "nomixup":
            recipe = replace(recipe, mixup_alpha=0.0)
        elif word == "branches":
            recipe = replace(recipe, branches=True)
        elif word == "auxiliary":
            recipe = replace(recipe, auxiliary_head=True)
        elif word == "crops":
            recipe = replace(recipe, augmentation=replace(recipe.augmentation, min_crop=MIN_CROP))
        elif word == "dropout":
            recipe = replace(recipe, head_dropout=0.2)
        elif word == "adamw":
            recipe = replace(recipe, optimizer="adamw", lr=4e-3, weight_decay=0.02)
        elif word == "sgd":
            recipe = replace(recipe, optimizer="sgd", lr=0.1, weight_decay=5e-4, mixup_alpha=0.2)
        elif match := re.fullmatch(r"b([0-9]+)", word):
            recipe = replace(recipe, batch_size=int(match[1]))
        elif match := re.fullmatch(r"lr([0-9.]+)", word):
            recipe = replace(recipe, lr=recipe.lr * float(match[1]))
        elif match := re.fullmatch(r"wd([0-9.]+)", word):
            recipe = replace(recipe, weight_decay=float(match[1]))
    return replace(recipe, label_smoothing=0.4) if words[0] == "softened" else recipe


def make_distillation(data: FaceData, args: argparse.Namespace, words: list[str]) -> Distillation | None:
    """The teachers as the words say; None for labels alone."""
    if words[0] not in ("clean", "bank", "votes"):
        return None
    teachers = [VOTES] if words[0] == "votes" else args.teachers + [VOTES] * ("votes" in words)
    settings = {word[0]: float(word[1:]) for word in words[1:] if re.fullmatch(r"[Ta][0-9.]+", word)}
    outputs = TeacherOutputs(
        sources=find_teachers(teachers, data), method=load("method", "logits"), data=data,
        folder=RunFolder(args.cache), n_views=args.views if words[0] == "bank" else 0,
        log=lambda line: print(f"\r{line}", end="", flush=True),
    )  # fmt: skip
    outputs.compute(lambda: False)
    return outputs.build_distillation(temperature=settings.get("T", 4.0), alpha=settings.get("a", 0.7))


def print_table(rows: list[dict[str, Any]], args: argparse.Namespace, data: FaceData) -> None:
    """One line for each variant, one column for each net; then the gains."""
    print(f"\nPublicTest, %, after {args.epochs:g} epochs; in brackets the augmented training faces")
    print(f"{'':28}" + "".join(f"{net:>18}" for net in args.nets))
    for variant in dict.fromkeys(row["variant"] for row in rows):
        cells = []
        for net in args.nets:
            chosen = [row for row in rows if row["variant"] == variant and row["net"] == net]
            mean = [np.mean([row[name] for row in chosen]) if chosen else np.nan for name in ("accuracy", "train")]
            cells.append(f"{mean[0]:10.2f} ({mean[1]:.1f})" if chosen else f"{'-':>18}")
        print(f"{variant:28}" + "".join(f"{cell:>18}" for cell in cells))
    print_gains(rows, args, data.val.labels)


def print_gains(rows: list[dict[str, Any]], args: argparse.Namespace, labels: Labels) -> None:
    """What each variant gains on the first one of the call, paired over faces and seeds, and its training time."""
    base = args.variants[0]
    print(f"\ngain on {base} in percentage points with the 95 % interval over faces, and processor time")
    for net, variant in itertools.product(args.nets, dict.fromkeys(args.variants[1:])):
        right: list[list[npt.NDArray[np.float64]]] = [[], []]
        seconds = [0.0, 0.0]
        for row in (row for row in rows if row["net"] == net and row["variant"] in (base, variant)):
            pair = {**row, "variant": base}, {**row, "variant": variant}
            if all(predictions_file(each, args.cache).exists() for each in pair):
                at = int(row["variant"] == variant)
                right[at].append(np.load(predictions_file(row, args.cache)) == labels)
                seconds[at] += row["seconds"]
        if right[0] and right[1]:
            gain, half_width = paired_gain(*(np.mean(each, axis=0) for each in right))
            print(f"{net:12}{variant:28}{100 * gain:+8.2f} +- {100 * half_width:.2f}{seconds[1] / seconds[0]:8.2f} x")


def paired_gain(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Mean of after - before, and half the width of its normal 95 % interval, over faces.

    With one seed this is the interval of McNemar's design: faces that both have right or wrong count for the width
    only through the mean.

    Args:
        before: [N] share of the seeds that are right about each face.
        after: the same of the other variant.
    """
    differences = after - before
    return float(differences.mean()), float(1.96 * differences.std() / np.sqrt(len(differences)))


if __name__ == "__main__":
    main()
