"""A synthetic problem of the shape of a real search: 60 genes, interactions, inactive genes, noisy accuracy.

Three stages have up to 12 layers each. The genes are the operation of each layer (36, of which a stage's depth
activates some); depth, width, kernel, expansion, sparsity and bits of each stage; bits of stem and head; input size,
activation, attention and stem. Accuracy saturates with capacity. It depends on each operation, on pairs of neighbouring
operations, on pairs of distant genes and on the compression, and is observed with the noise of one training and one
validation on FER2013. Latency is exact: a sum over layers of work, in steps of eight channels, and a launch cost. All
effects are drawn from a seed, so that results can be averaged over problems of the same kind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from nas.pareto import hypervolume, non_dominated

FloatArray = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
STAGES, LAYERS = 3, 12
OPERATIONS = ("conv", "separable", "dilated", "mbconv", "pool", "skip", "residual")
OPERATION_COST = np.array([9.0, 1.6, 1.6, 2.5, 0.15, 0.02, 9.5])
ACCURACY_NOISE_STD = 0.009
"""Standard deviation of an observed accuracy: 0.8 % for 3,589 images at 65 %, and 0.4 % between seeds."""
MAXIMIZE = (True, False)

SPACE: dict[str, BaseDistribution] = {
    **{f"op.{s}.{i}": CategoricalDistribution(OPERATIONS) for s in range(STAGES) for i in range(LAYERS)},
    **{f"depth.{s}": IntDistribution(2, LAYERS) for s in range(STAGES)},
    **{f"width.{s}": IntDistribution(8, 64, step=8) for s in range(STAGES)},
    **{f"kernel.{s}": CategoricalDistribution((3, 5, 7)) for s in range(STAGES)},
    **{f"expansion.{s}": CategoricalDistribution((1, 2, 4)) for s in range(STAGES)},
    **{f"sparsity.{s}": FloatDistribution(0.0, 0.75, step=0.25) for s in range(STAGES)},
    **{f"bits.{s}": CategoricalDistribution((8, 16, 32)) for s in ("stem", "0", "1", "2", "head")},
    "size": CategoricalDistribution((32, 40, 48, 64)),
    "activation": CategoricalDistribution(("relu", "hswish", "gelu")),
    "attention": CategoricalDistribution(("none", "se", "eca")),
    "stem": CategoricalDistribution(("conv", "two", "pool")),
}
_OPTIONS: dict[str, list[Any]] = {
    n: list(d.choices) if isinstance(d, CategoricalDistribution)
    else np.arange(d.low, d.high + 1e-9, d.step).tolist()  # type: ignore[attr-defined]
    for n, d in SPACE.items()
}  # fmt: skip
_COLUMN = {n: i for i, n in enumerate(SPACE)}
_SIZES = np.array([len(o) for o in _OPTIONS.values()])


@dataclass(frozen=True)
class SyntheticProblem:
    """One drawn problem; see the module.

    Attributes:
        seed: of the effects.
        ref_point: lowest accuracy and median latency of 4,000 random points.
        max_hypervolume: hypervolume of the best front that a long noise-free evolution found.
    """

    seed: int
    ref_point: tuple[float, float]
    max_hypervolume: float

    @classmethod
    def draw(cls, seed: int) -> "SyntheticProblem":
        """The problem of a seed; a search for its front takes some seconds."""
        rng = np.random.default_rng([seed, 7])
        codes = rng.integers(0, _SIZES, size=(4000, len(_SIZES)))
        values = evaluate(codes, seed)
        reference = (float(values[:, 0].min()), float(np.median(values[:, 1])))
        for _ in range(400):  # 400 generations of 250 offspring: 100,000 evaluations
            keep = non_dominated(values, MAXIMIZE)
            codes, values = codes[keep], values[keep]
            children = _offspring(codes, 250, rng)
            codes, values = np.concatenate([codes, children]), np.concatenate([values, evaluate(children, seed)])
        return cls(seed, reference, hypervolume(values, reference, MAXIMIZE))

    def values(self, picks: Sequence[Mapping[str, Any]]) -> FloatArray:
        """Accuracy 0..1 without noise and latency in ms of configurations, [n, 2]."""
        return evaluate(np.array([_encode(p) for p in picks]).reshape(len(picks), -1), self.seed)

    def hypervolume_share(self, values: FloatArray) -> float:
        """Hypervolume of values [n, 2] as a share of `max_hypervolume`."""
        return hypervolume(values, self.ref_point, MAXIMIZE) / self.max_hypervolume

    def sampler_context(self) -> dict[str, Any]:
        """Keyword arguments of `ScreenedSampler`: latency and features, known before training."""

        def cheap(picks: Sequence[Mapping[str, Any]]) -> FloatArray:
            return np.stack([np.full(len(picks), np.nan), self.values(picks)[:, 1]], axis=1)

        return {"known_objectives": cheap, "features": configuration_features}


def evaluate(codes: Codes, seed: int) -> FloatArray:
    """Accuracy and latency [n, 2], without noise, of codes [n, 60].

    Args:
        codes: index of each gene's option, in the order of `SPACE`.
        seed: of the effects.
    """
    rng = np.random.default_rng(seed)
    # order of all draws below defines the problem of a seed: it must not change
    quality = np.array([1.0, 0.8, 0.7, 1.0, 0.15, 0.0, 1.1]) + rng.normal(0, 0.15, (STAGES, LAYERS, 7))
    after = rng.normal(0, 0.25, (STAGES, 7, 7))
    pairs = rng.choice(len(_SIZES), size=(40, 2))
    pair_effects = rng.normal(0, 0.006, (40, 11, 11))
    single = [rng.normal(0, 0.004, size=n) for n in _SIZES]
    get = _getter(codes)
    accuracy, latency = np.zeros(len(codes)), np.full(len(codes), 0.05)
    area = (get("size") / 48) ** 2
    capacity, loss = np.zeros(len(codes)), np.zeros(len(codes))
    for s in range(STAGES):
        depth, width = get(f"depth.{s}"), get(f"width.{s}")
        sparsity, bits = get(f"sparsity.{s}"), get(f"bits.{s}")
        # hardware computes whole blocks of eight channels, so latency is a step function of the width
        channels = 8 * np.maximum(1, np.round(width * (1 - sparsity) / 8))
        kernel, expansion = get(f"kernel.{s}"), get(f"expansion.{s}")
        speed = np.select([bits == 8, bits == 16], [0.45, 0.7], 1.0)
        before = np.full(len(codes), 5)  # a stage begins as if after a skip
        for i in range(LAYERS):
            on = i < depth
            op = codes[:, _COLUMN[f"op.{s}.{i}"]]
            scale = np.where(op == 3, expansion, 1.0) * np.where(op < 4, (kernel / 3) ** np.where(op == 0, 2, 0.5), 1.0)
            work = OPERATION_COST[op] * scale * channels**2 * area / 4**s
            # a launch costs 0.012 ms; work costs 2.2e-5 ms a unit in FP32, and a skip costs nothing
            latency += on * (np.where(op == 5, 0.0, 0.012) + work * speed * 2.2e-5 * 4**0.5)
            gain = (quality[s, i, op] + after[s, before, op]) * np.log2(1 + channels / 8) / (1 + 0.15 * i)
            capacity += (
                on * gain * np.where(op == 3, 0.8 + 0.1 * expansion, 1.0) * np.where(op < 4, 1 + 0.05 * (kernel - 3), 1)
            )
            before = np.where(on, op, before)
        loss += 0.02 * sparsity**2 + np.where(bits == 8, 0.004, 0.0)
    loss += np.where(get("bits.stem") == 8, 0.006, 0) + np.where(get("bits.head") == 8, 0.001, 0)
    latency *= np.where(codes[:, _COLUMN["attention"]] > 0, 1.12, 1.0)
    latency += np.where(codes[:, _COLUMN["stem"]] == 1, 0.08, 0.03) * area
    accuracy = 0.30 + 0.42 * (1 - np.exp(-np.maximum(capacity, 0) * area**0.3 / 14)) - loss
    accuracy += sum(e[codes[:, i]] for i, e in enumerate(single) if i >= STAGES * LAYERS)
    accuracy += sum(e[codes[:, a] % 11, codes[:, b] % 11] for (a, b), e in zip(pairs, pair_effects, strict=True))
    return np.stack([accuracy, latency], axis=1)


def configuration_features(picks: Sequence[Mapping[str, Any]]) -> FloatArray:
    """Features [n, 17] of configurations.

    They are the number of active operations of each kind (7), the remaining channels, the work and the number of active
    convolutions of each stage (3 each), and the total depth.
    """
    codes = np.array([_encode(p) for p in picks]).reshape(len(picks), -1)
    get = _getter(codes)
    live = np.stack([(np.arange(LAYERS)[None] < get(f"depth.{s}")[:, None]) for s in range(STAGES)], axis=1)
    ops = codes[:, : STAGES * LAYERS].reshape(-1, STAGES, LAYERS)
    counts = [((ops == o) & live).sum(axis=(1, 2)) for o in range(7)]
    channels = [get(f"width.{s}") * (1 - get(f"sparsity.{s}")) for s in range(STAGES)]
    work = [((OPERATION_COST[ops[:, s]] * live[:, s]).sum(axis=1) * channels[s] ** 2) ** 0.25 for s in range(STAGES)]
    convolutions = [((ops[:, s] < 4) & live[:, s]).sum(axis=1) for s in range(STAGES)]
    return np.stack([*counts, *channels, *work, *convolutions, live.sum(axis=(1, 2))], axis=1).astype(np.float64)


_INDEX = [(n, {v: i for i, v in enumerate(o)}) for n, o in _OPTIONS.items()]


def _encode(configuration: Mapping[str, Any]) -> list[int]:
    return [index[configuration[n]] for n, index in _INDEX]


def _getter(codes: Codes) -> Any:
    return lambda name: np.array(_OPTIONS[name], dtype=np.float64)[codes[:, _COLUMN[name]]]


def _offspring(codes: Codes, n: int, rng: np.random.Generator) -> Codes:
    first, second = codes[rng.integers(len(codes), size=n)], codes[rng.integers(len(codes), size=n)]
    children = np.where((rng.random(n) < 0.5)[:, None] & (rng.random(first.shape) < 0.5), second, first)
    changed = rng.random(children.shape) < 1.5 / len(_SIZES)
    return np.where(changed, rng.integers(0, _SIZES, size=children.shape), children)
