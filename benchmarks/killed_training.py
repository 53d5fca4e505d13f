"""A training that is killed at random again and again ends with the weights of an undisturbed one.

    python -m benchmarks.killed_training [--kills 10] [--epochs 12] [--folder runs/killed]

Trains one network twice by `nas train` in plain execution, which repeats to the bit: once undisturbed, once with the
driver and its worker killed by SIGKILL (executor inline: both are one process) after 6 to 16 seconds, until it is done.
The state goes to the run folder every two seconds here instead of every two minutes, so that each life gets somewhere.
"""

import argparse
import hashlib
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch

MODEL = "resnet8:stem_stride=2,widths=(16,32,48)"
SEGMENT_S = 2.0
PROGRAM = f"""
import sys
import nas.searcher.worker
nas.searcher.worker.SEGMENT_S = {SEGMENT_S}
from nas.cli.main import main
main()
"""


def main() -> None:
    """Train twice, and compare; exit status 1 where the weights differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--epochs", type=float, default=12.0)
    parser.add_argument("--folder", type=Path, default=Path("runs/killed"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    shutil.rmtree(args.folder, ignore_errors=True)
    digests, chance = [], random.Random(args.seed)
    for name, kills in (("undisturbed", 0), ("killed", args.kills)):
        begin, lives = time.monotonic(), 0
        while True:
            lives += 1
            process = subprocess.Popen(command(args, name), stdout=subprocess.DEVNULL)
            try:
                status = process.wait(timeout=chance.uniform(6, 16) if lives <= kills else None)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                continue
            if status:
                raise SystemExit(f"the training must end with status 0, but ended with {status}")
            break
        digests.append(digest(args.folder / name / "base" / "weights.pt"))
        print(
            f"{name:12} {lives - 1:3} kills, {time.monotonic() - begin:6.1f} s, weights {digests[-1][:16]}", flush=True
        )
    same = digests[0] == digests[1]
    print("the weights are equal to the bit" if same else "THE WEIGHTS DIFFER")
    sys.exit(not same)


def command(args: argparse.Namespace, name: str) -> list[str]:
    """The command line of the training, in a process whose pauses are short."""
    words = ["train", "--model", MODEL, "--dataset", "synthetic", "--target", "jetson", "--epochs", str(args.epochs)]
    words += ["--execution", "plain", "--threads", "1", "--executor", "inline"]
    return [sys.executable, "-c", PROGRAM, *words, "--runs", str(args.folder), "--name", name]


def digest(path: Path) -> str:
    """Digest of all weights of a state dict."""
    state = torch.load(path, weights_only=True)
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in state.values())).hexdigest()


if __name__ == "__main__":
    main()
