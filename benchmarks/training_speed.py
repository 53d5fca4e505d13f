"""Images a second in training on one core, with and without `nas.training.cpu_kernels`, in alternating rounds.

    python -m benchmarks.training_speed [--rounds 3] [--nets dense 60k]

Modes: `plain` leaves out all of it but the work-around of the crash; `memory` keeps freed blocks; `all` adds gradients
of weights on small maps by im2col, and gradients of strided shortcuts in their memory format. Each measurement is a
process of its own, because the C library's settings cannot be taken back, and counts processor time. Images are noise.
"""

import argparse
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.training_recipe import EXECUTION, NETS
from nas.data.base import Split
from nas.models.model_source import make_model
from nas.models.seeding import forked_rng
from nas.registry import load
from nas.training import cpu_kernels, execution_format, loop
from nas.training.recipe import recipe_for

MODES = ("plain", "memory", "all")
BATCHES = 30
DENSE = {"stem_width": 8, "stem_stride": 2, "input_size": 40, "activation": "relu", "attention": "none"}
STAGES = ((96, "dense", "none"), (48, "dense", "stride"), (128, "dense", "stride"), (128, "residual", "none"))
"""The network of 417,000 weights of RESULTS' search on a CPU core."""


def main() -> None:
    """Run every mode of every net by turns, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nets", nargs="*", default=["dense", *NETS])
    parser.add_argument("--one", nargs=2, metavar=("NET", "MODE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(images_per_second(*args.one))
        return
    print("net      " + "".join(f"{mode:>10}" for mode in MODES) + "   images/s; in brackets against plain")
    for net in args.nets:
        found: dict[str, list[float]] = {mode: [] for mode in MODES}
        for _ in range(args.rounds):
            for mode in MODES:
                command = [sys.executable, "-m", "benchmarks.training_speed", "--one", net, mode]
                printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                found[mode].append(float(printed.split()[-1]))
        medians = {mode: statistics.median(values) for mode, values in found.items()}
        cells = [f"{value:.0f} ({value / medians['plain']:.2f})" for value in medians.values()]
        print(f"{net:9}" + "".join(f"{cell:>14}" for cell in cells), flush=True)


def images_per_second(name: str, mode: str) -> float:
    """Images a second of the second of two short trainings."""
    if mode == "plain":
        replace_in(loop, "keep_freed_memory", lambda: False)
    if mode != "all":
        replace_in(execution_format, "fast_small_map_backward", lambda _: nullcontext())
        replace_in(cpu_kernels, "_strided_1x1_forward", sliced)
    net = make_net(name)
    rng = np.random.default_rng(0)
    count = 128 * BATCHES
    images = rng.integers(0, 255, (count, 1, 48, 48), dtype=np.uint8)
    split = Split(images=images, labels=rng.integers(0, 7, count).astype(np.int64))
    recipe = recipe_for(sum(p.numel() for p in net.parameters()))
    seconds = 0.0
    for _ in range(2):
        begin = time.process_time()
        loop.train(net, split, classes=7, epochs=1, recipe=recipe, execution=EXECUTION, seed=0)
        seconds = time.process_time() - begin
    return count / seconds


def replace_in(module: ModuleType, name: str, value: object) -> None:
    """Put something in the place of a function of a module, in this process."""
    assert hasattr(module, name), name
    setattr(module, name, value)


def make_net(name: str) -> nn.Module:
    """A network of `benchmarks.training_recipe`, or the dense one."""
    with forked_rng(0):
        if name in NETS:
            return make_model(NETS[name], input_shape=(1, 48, 48), classes=7)
        space, genes = load("space", "plain"), dict(DENSE)
        for place, (width, block, down) in enumerate(STAGES, start=1):
            genes |= {f"stage{place}.width": width, f"stage{place}.block": block}
            genes |= {f"stage{place}.depth": 1, f"stage{place}.down": down}
        net: nn.Module = space.build(space.decode(genes), input_shape=(1, 48, 48), classes=7)
        return net


def sliced(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A strided 1x1 convolution on a slice, whose gradient is in the contiguous format."""
    rows, columns = conv.stride
    return functional.conv2d(x[:, :, ::rows, ::columns], weight, bias, groups=conv.groups)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
