import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from nas.data.augment import Augmentation
from nas.data.base import Split
from nas.errors import ConfigError, StepPausedError, TrainError
from nas.training import loop as training
from nas.training.execution_format import ExecutionFormat
from nas.training.learning_curve import LearningCurve
from nas.training.loop import one_cycle_factor, predict, train
from nas.training.recipe import Recipe
from nas.training.training_run import head_dropout
from nas.training.training_state import TrainingState

PLAIN = ExecutionFormat(threads=1)
QUICK = Recipe(lr=2e-2, batch_size=32, augmentation=Augmentation(shift=0.1, brightness=0.05))


class Scaled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x - 127.5) / 64


def net(seed: int = 0, classes: int = 3) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            Scaled(),
            nn.Conv2d(1, 8, 3, stride=2, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, classes),
        )


def branchable_net() -> nn.Sequential:
    """The same with padding in the convolution that has a batch norm."""
    module = net()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module[1] = nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False)
    return module


def stripes(n: int = 192, seed: int = 0) -> Split:
    """Vertical stripes, horizontal stripes, and none, with noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    wave = 60 * np.sin(np.arange(32) * 1.5)
    pattern = np.stack([np.tile(wave, (32, 1)), np.tile(wave, (32, 1)).T, np.zeros((32, 32))])
    images = np.clip(128 + pattern[labels] + rng.normal(0, 25, (n, 32, 32)), 0, 255).astype(np.uint8)
    return Split(images=images[:, None], labels=labels)


def go(module: nn.Module, split: Split, **changes: object) -> LearningCurve:
    settings: dict[str, object] = {"classes": 3, "epochs": 1, "recipe": QUICK, "execution": PLAIN, "seed": 0}
    return train(module, split, **{**settings, **changes})  # type: ignore[arg-type]


def accuracy(module: nn.Module, split: Split) -> float:
    return float((predict(module, split.images, execution=PLAIN).argmax(1) == split.labels).mean())


@pytest.mark.parametrize(
    "recipe",
    [QUICK, replace(QUICK, optimizer="sgd", lr=0.2, mixup_alpha=0.2)],
    ids=["adamw", "sgd-mixup"],
)
def test_training_generalises(recipe: Recipe) -> None:
    module = net()
    before = accuracy(module, stripes(seed=9))
    curve = go(module, stripes(), epochs=12, recipe=recipe)
    assert before < 0.6
    assert accuracy(module, stripes(seed=9)) > 0.95
    assert len(curve.points) == 12
    assert curve.points[-1][1] < curve.points[0][1]
    assert curve.points[-1][0] == curve.epochs == 12


def test_same_seed_same_weights() -> None:
    states = []
    for seed in (3, 3, 4):
        module = nn.Sequential(net(), nn.Dropout(0.1))
        go(module, stripes(), epochs=2, seed=seed)
        states.append(torch.cat([v.flatten().float() for v in module.state_dict().values()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_the_state_of_process_and_network_is_restored() -> None:
    threads, rng = torch.get_num_threads(), torch.random.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    module = nn.Sequential(net(), nn.Dropout(0.1)).train()
    go(module, stripes(), execution=ExecutionFormat(threads=2, memory_format="channels_last"))
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), rng)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # type: ignore[index]  # noqa: NPY002
    assert not module.training
    for p in module.parameters():
        assert p.is_contiguous()
        assert (p.dtype, p.device.type, p.grad) == (torch.float32, "cpu", None)


def test_a_second_call_continues_from_the_weights() -> None:
    module = net()
    go(module, stripes(), epochs=12)
    curve = go(module, stripes(), epochs=1, lr_scale=0.1, seed=1)
    assert curve.points[0][2] > 0.9
    assert accuracy(module, stripes(seed=9)) > 0.95


def test_fractions_of_an_epoch() -> None:
    assert go(net(), stripes(), epochs=0.5).epochs == 0.5
    curve = go(net(), stripes(), epochs=2.5)
    assert [round(p[0], 6) for p in curve.points] == [1, 2, 2.5]
    assert go(net(), stripes(), epochs=1e-6).epochs == pytest.approx(32 / 192)  # one step at least


def test_a_split_smaller_than_a_batch() -> None:
    assert go(net(), stripes(20), epochs=3).epochs == 3


def test_read_only_images() -> None:
    read_only, writeable = stripes(), stripes()
    read_only.images.flags.writeable = False
    predictions = []
    for split in (read_only, writeable):
        module = net()
        go(module, split)
        predictions.append(predict(module, split.images, execution=PLAIN))
    np.testing.assert_array_equal(*predictions)
    np.testing.assert_array_equal(writeable.images, read_only.images, "training wrote into its images")


def test_channels_last_means_the_same() -> None:
    still = replace(QUICK, augmentation=Augmentation(), lr=1e-3)
    a, b, c = net(), net(), net()
    go(a, stripes(), recipe=still)
    go(b, stripes(), recipe=still, execution=ExecutionFormat(memory_format="channels_last"))
    go(c, stripes(), recipe=still, execution=ExecutionFormat(memory_format="channels_last", precision="bf16"))
    for x, y, z in zip(a.parameters(), b.parameters(), c.parameters(), strict=True):
        assert torch.allclose(x, y, atol=1e-3)
        assert torch.allclose(x, z, atol=2e-2)


def test_soft_labels_are_used_only_when_requested() -> None:
    split = stripes()
    turned = np.eye(3, dtype=np.float32)[(split.labels + 1) % 3]
    split = Split(images=split.images, labels=split.labels, soft_labels=turned)
    hard, soft = net(), net()
    go(hard, split, epochs=8)
    go(soft, split, epochs=8, soft_labels=True)
    assert accuracy(hard, split) > 0.9
    assert accuracy(soft, split) < 0.1


def test_should_stop_ends_the_training() -> None:
    calls = iter(range(100))
    curve = go(net(), stripes(), epochs=5, should_stop=lambda: next(calls) >= 3)
    assert curve.epochs == pytest.approx(3 * 32 / 192)
    assert len(curve.points) == 1


def test_progress_and_the_parts_of_a_step_are_reported() -> None:
    reports: list[tuple[float, float]] = []
    phases: list[str] = []
    go(
        net(),
        stripes(),
        epochs=3,
        on_progress=lambda epoch, loss: reports.append((epoch, loss)),
        on_phase_end=phases.append,
    )
    assert reports[-1][0] == 3
    assert all(loss > 0 for _, loss in reports)
    assert phases == ["gather", "augment", "forward", "backward", "optimizer", "average"] * 18


def test_a_loss_that_is_not_finite() -> None:
    module = net()
    next(module.parameters()).data.fill_(float("nan"))
    threads = torch.get_num_threads()
    with pytest.raises(
        TrainError, match=r"the loss must be finite, but got nan in epoch 0\.17; lower the learning rate"
    ):
        go(module, stripes(), execution=ExecutionFormat(threads=2))
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("epochs", [0, -1, float("nan")])
def test_epochs_must_be_positive(epochs: float) -> None:
    with pytest.raises(ConfigError, match="epochs must be positive"):
        go(net(), stripes(), epochs=epochs)


def test_an_empty_split_and_missing_soft_labels() -> None:
    with pytest.raises(ConfigError, match="at least one face"):
        go(net(), stripes(0))
    with pytest.raises(ConfigError, match="soft labels must come with the data set"):
        go(net(), stripes(), soft_labels=True)


def test_predict_is_the_softmax_of_the_logits_for_any_batch_size() -> None:
    module, images = net().train(), stripes(50).images
    twin = net().eval()(torch.from_numpy(images).float()).softmax(1).detach().numpy()
    for batch in (7, 512):
        out = predict(module, images, execution=replace(PLAIN, precision="bf16"), batch_size=batch)
        assert out.dtype == np.float32
        assert np.allclose(out, twin, atol=1e-6)
        assert np.allclose(out.sum(1), 1, atol=1e-6)


@given(st.floats(0, 1), st.floats(0, 0.9))
def test_one_cycle_rises_then_falls(progress: float, warmup: float) -> None:
    rate = one_cycle_factor(progress, warmup)
    assert 0 <= rate <= 1
    later = one_cycle_factor(min(1.0, progress + 1e-3), warmup)
    assert later >= rate if progress + 1e-3 < warmup else progress < warmup or later <= rate


def test_one_cycle_at_its_marks() -> None:
    assert [one_cycle_factor(p, 0.2) for p in (0, 0.1, 0.2, 0.6, 1)] == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_targets_are_smoothed() -> None:
    split = Split(images=np.zeros((2, 1, 4, 4), np.uint8), labels=np.array([0, 2]))
    out = training._soft_targets(split, 4, 0.2, use_soft_labels=False)
    assert np.allclose(out.numpy(), [[0.85, 0.05, 0.05, 0.05], [0.05, 0.05, 0.85, 0.05]])


def weights(module: nn.Module) -> Tensor:
    return torch.cat([v.flatten().double() for v in module.state_dict().values()])


@pytest.mark.parametrize(("word", "with_options"), [("adamw", False), ("sgd", False), ("adamw", True)])
def test_a_training_that_is_paused_again_and_again_ends_with_the_same_weights(
    tmp_path: Path, word: str, with_options: bool
) -> None:
    recipe = replace(QUICK, optimizer=word, mixup_alpha=0.2, head_dropout=0.3, branches=with_options)
    recipe = replace(recipe, auxiliary_head=with_options)
    undisturbed, paused = (nn.Sequential(branchable_net(), nn.Dropout(0.1)) for _ in range(2))
    first = go(undisturbed, stripes(), epochs=3, recipe=recipe)
    chance, pauses = random.Random(0), 0
    while True:
        state = TrainingState(path=tmp_path / "state.pt", should_pause=lambda: chance.random() < 0.3)
        paused = nn.Sequential(
            branchable_net(), nn.Dropout(0.1)
        )  # another process begins with the weights of the first call
        try:
            curve = go(paused, stripes(), epochs=3, recipe=recipe, state=state)
        except StepPausedError:
            pauses += 1
            continue
        break
    assert pauses >= 2
    assert torch.equal(weights(undisturbed), weights(paused))
    assert curve.points == first.points
    assert curve.seconds > curve.seconds_before > 0


def test_branches_learn_and_leave_a_plain_network() -> None:
    plain, branched = branchable_net(), branchable_net()
    go(plain, stripes(), epochs=4)

    go(branched, stripes(), epochs=4, recipe=replace(QUICK, branches=True))

    assert plain.state_dict().keys() == branched.state_dict().keys()
    assert not torch.equal(plain[1].weight, branched[1].weight)
    assert accuracy(branched, stripes(seed=1)) > 0.8


@pytest.mark.parametrize(
    "changes",
    [{"branches": True}, {"auxiliary_head": True}, {"augmentation": replace(QUICK.augmentation, min_crop=0.8)}],
)
def test_a_state_without_an_option_is_not_gone_on_with_by_a_training_with_it(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    path, steps = tmp_path / "state.pt", iter([False] * 3 + [True])
    with pytest.raises(StepPausedError):
        go(branchable_net(), stripes(), state=TrainingState(path=path, should_pause=lambda: next(steps)))
    recipe, alone, beside = replace(QUICK, **changes), branchable_net(), branchable_net()
    go(alone, stripes(), recipe=recipe)
    go(beside, stripes(), recipe=recipe, state=TrainingState(path=path, should_pause=lambda: False))
    assert torch.equal(weights(alone), weights(beside))


def test_a_state_of_another_training_is_not_gone_on_with(tmp_path: Path) -> None:
    path, steps = tmp_path / "state.pt", iter([False] * 3 + [True])
    with pytest.raises(StepPausedError):
        go(net(), stripes(), state=TrainingState(path=path, should_pause=lambda: next(steps)))
    alone, beside = net(), net()
    go(alone, stripes(), seed=1)
    go(beside, stripes(), seed=1, state=TrainingState(path=path, should_pause=lambda: False))
    assert torch.equal(weights(alone), weights(beside))


def test_dropout_before_the_head_acts_in_training_only() -> None:
    module = net().train()
    images = torch.from_numpy(stripes().images[:4]).float()
    with head_dropout(module, 0.5):
        torch.manual_seed(0)
        assert not torch.equal(module(images), module(images))
        module.eval()
        within = module(images)
    assert torch.equal(within, module(images))
    assert not module[-1]._forward_pre_hooks
