"""Mini-ResEmoteNet's recipe on any data set: a teacher, students distilled from it, and one table of all.

    python examples/mini_resemotenet.py --dataset fer2013 --data path/to/fer2013.csv --target cpu

The paper (https://arxiv.org/abs/2501.18538) distils three networks with 50, 75 and 87.5 % fewer channels, A, B and C,
from ResEmoteNet. Its teacher was trained on test images too, so expect lower accuracies than it reports. The teacher
has 80 million weights: train it on a GPU (--device cuda), or try the recipe with small networks: --teacher resnet18
--students resnet10,resnet8. The same command resumes an interrupted run.
"""

import argparse
import sys
from pathlib import Path

import nas
from nas.cli.render import terminal
from nas.cli.render.progress import ProgressDisplay
from nas.errors import NasError


def main() -> None:
    """Train the teacher, then the students with it and, with --compare, without it; show their table."""
    args = _parser().parse_args()
    shared = {
        "dataset": args.dataset, "data": args.data, "target": args.target, "runs": args.runs, "device": args.device,
        "threads": args.threads, "seed": args.seed, "final_epochs": args.epochs, "trials": 0, "verify": 0,
    }  # fmt: skip
    console = terminal.make_console()
    with ProgressDisplay(console) as display:
        teacher = nas.compress(args.teacher, on_status=display, name=f"{args.name}-teacher", **shared)
        runs = [teacher]
        distillation = {"teacher": (f"{teacher.folder.path}:base",), "distill": args.distill}
        distillation |= {"temperature": args.temperature, "alpha": args.alpha}
        for student in args.students.split(","):
            name = f"{args.name}-{student}"
            runs.append(nas.compress(student, on_status=display, name=name, **distillation, **shared))
            if args.compare:
                runs.append(nas.compress(student, on_status=display, name=f"{name}-alone", **shared))
    terminal.show_costs(console, [run.folder for run in runs])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="resemotenet", help="a published network, or package.module:function")
    parser.add_argument("--students", default="resemotenet_a,resemotenet_b,resemotenet_c", help="separated by commas")
    parser.add_argument("--dataset", default="synthetic")
    parser.add_argument("--data", type=Path, help="file or folder of the data set")
    parser.add_argument("--target", default="cpu", help="target device; `nas targets` lists them")
    parser.add_argument("--epochs", type=int, default=60, help="epochs of each network")
    parser.add_argument("--distill", default="logits", help="distillation method: logits, dkd, bounded, ...")
    parser.add_argument("--temperature", type=float, default=4.0)
    parser.add_argument("--alpha", type=float, default=0.7, help="share of the distillation term in the loss")
    parser.add_argument("--compare", action="store_true", help="also train each student without the teacher")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--name", default="mini-resemotenet", help="prefix of the names of the runs")
    return parser


if __name__ == "__main__":
    try:
        main()
    except NasError as error:
        sys.exit(f"mini_resemotenet: {error}")
