"""Kinds of input that a user hands over, by name: small valid files of each, and the functions that read them."""

import random
from collections.abc import Sequence
from functools import cache

from benchmarks._fuzz_base import Kind
from benchmarks._fuzz_data import configs, pictures, read_picture, read_table, reread_config, tables
from benchmarks._fuzz_devices import change_device_output, device_outputs, profiles, read_device_outputs, read_profiles
from benchmarks._fuzz_models import (
    arrays,
    change_array,
    change_checkpoint,
    change_onnx,
    checkpoints,
    onnx_files,
    read_array,
    read_checkpoint,
    read_onnx,
)
from benchmarks._fuzz_mutation import Files
from benchmarks._fuzz_runs import read_run, runs


def make_input(kind: Kind, seed: int, index: int) -> tuple[Files, random.Random]:
    """Input number `index` of a seed, and the generator that its reading goes on with."""
    rng = random.Random(f"{seed}/{kind.name}/{index}")
    seeds = _seeds(kind.name)
    return kind.change(dict(rng.choice(seeds)), rng), rng


@cache
def _seeds(name: str) -> Sequence[Files]:
    return KINDS[name].seeds()


KINDS = {
    kind.name: kind
    for kind in (
        Kind(name="config", seeds=configs, read=reread_config),
        Kind(name="table", seeds=tables, read=read_table),
        Kind(name="picture", seeds=pictures, read=read_picture),
        Kind(name="onnx", seeds=onnx_files, read=read_onnx, change=change_onnx),
        Kind(name="checkpoint", seeds=checkpoints, read=read_checkpoint, change=change_checkpoint),
        Kind(name="array", seeds=arrays, read=read_array, change=change_array),
        Kind(name="trtexec", seeds=device_outputs, read=read_device_outputs, change=change_device_output),
        Kind(name="profile", seeds=profiles, read=read_profiles),
        Kind(name="run", seeds=runs, read=read_run),
    )
}
"""Kinds by name."""
