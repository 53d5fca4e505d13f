"""Shares of an epoch's time, and the gain of the chosen execution format, on nets drawn from the search spaces.

    python -m benchmarks.training --nets 3 --threads 1 --json training.json

`learning` is the share of forward pass, backward pass and optimiser; the claim is at least 90 %. `gain` is the speed-up
over contiguous FP32, torch's default. Faces are noise, since their content does not affect the time. With one thread,
time is the thread's processor time, so that a busy machine changes little.
"""

import argparse
import copy
import json
import random
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nas import registry
from nas.data.base import Split
from nas.training.execution_format import ExecutionFormat, choose_execution, step_clock
from nas.training.loop import train
from nas.training.recipe import recipe_for
from search_spaces._base import DisconnectedError, SearchSpace

SHAPE, CLASSES = (1, 48, 48), 7
LEARNING = ("forward", "backward", "optimizer")
SECONDS = 5.0


class Phases:
    """The time in each phase, without the first step, which includes setup."""

    def __init__(self, threads: int) -> None:
        self._clock = step_clock(threads)
        self.seconds: dict[str, float] = defaultdict(float)
        self.steps = 0
        self._last = 0.0
        self._begin = time.perf_counter()

    def end(self, name: str) -> None:
        """Record the end of a phase; "average" ends a step."""
        now = self._clock()
        if self.steps:
            self.seconds[name] += now - self._last
        self._last = now
        self.steps += name == "average"

    def enough(self) -> bool:
        """Whether at least two steps are counted and the net's time is used up."""
        return self.steps > 2 and time.perf_counter() - self._begin > SECONDS

    def step_seconds(self) -> float:
        """Mean seconds of a counted step."""
        return sum(self.seconds.values()) / (self.steps - 1)


def draw(space: SearchSpace, rng: random.Random) -> nn.Module:
    """A random connected net of the space."""
    while True:
        configuration = {choice.name: rng.choice(choice.options) for choice in space.choices(channel_multiple=8)}
        try:
            return space.build(space.decode(configuration), input_shape=SHAPE, classes=CLASSES)
        except DisconnectedError:
            continue


def measure(net: nn.Module, *, images: int, threads: int) -> dict[str, Any]:
    """One net's row of the table."""
    params = sum(p.numel() for p in net.parameters())
    recipe = recipe_for(params)
    begin = time.perf_counter()
    chosen = choose_execution(net, input_shape=SHAPE, batch_size=recipe.batch_size, device="cpu", threads=threads)
    choosing = time.perf_counter() - begin
    rng = np.random.default_rng(0)
    split = Split(
        images=rng.integers(0, 256, (images, *SHAPE), dtype=np.uint8), labels=rng.integers(0, CLASSES, images)
    )
    runs: dict[ExecutionFormat, Phases] = {}
    for execution in (ExecutionFormat(threads=threads), chosen):
        runs[execution] = phases = Phases(threads)
        settings: dict[str, Any] = {
            "classes": CLASSES,
            "epochs": 1,
            "recipe": recipe,
            "execution": execution,
            "seed": 0,
        }
        train(copy.deepcopy(net), split, **settings, on_phase_end=phases.end, should_stop=phases.enough)
    step = runs[chosen].step_seconds()
    shares = {name: seconds / (step * (runs[chosen].steps - 1)) for name, seconds in runs[chosen].seconds.items()}
    return {
        "params": params,
        "form": f"{chosen.memory_format} {chosen.precision}",
        "images_per_second": min(recipe.batch_size, images) / step,
        "gain": runs[ExecutionFormat(threads=threads)].step_seconds() / step,
        "learning": sum(shares[name] for name in LEARNING),
        "shares": shares,
        "choosing_seconds": choosing,
    }


def main() -> None:
    """Measure, print the table, and write the JSON file if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", type=int, default=3, help="number of nets per space")
    parser.add_argument("--images", type=int, default=1024, help="number of faces, at least three batches")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    args = parser.parse_args()
    rng, rows = random.Random(args.seed), []
    names = ("gather", "augment", *LEARNING, "average")
    print(f"{'space':8}{'params':>9}  {'form':19}{'img/s':>7}{'gain':>6}{'learning':>10}", *(f"{n:>10}" for n in names))
    torch.manual_seed(args.seed)
    for space in registry.names("space"):
        for _ in range(args.nets):
            row = {
                "space": space,
                **measure(draw(registry.load("space", space), rng), images=args.images, threads=args.threads),
            }
            rows.append(row)
            shares = (f"{row['shares'][name]:>10.1%}" for name in names)
            print(
                f"{space:8}{row['params']:>9,}  {row['form']:19}{row['images_per_second']:>7.0f}{row['gain']:>6.2f}"
                f"{row['learning']:>10.1%}",
                *shares,
                flush=True,
            )
    print(f"learning: at least {min(row['learning'] for row in rows):.1%} of a step, {args.threads} thread(s)")
    if args.json:
        args.json.write_text(json.dumps({"threads": args.threads, "torch": torch.__version__, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
