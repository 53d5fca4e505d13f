import copy
import time

import pytest
import torch
from torch import nn

from nas.errors import ConfigError
from nas.training import execution_format as execution
from nas.training.execution_format import ExecutionFormat, choose_execution, on_device, step_clock


def net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 7),
    )


def test_timing_leaves_network_and_process_as_they_were() -> None:
    model = net().eval()
    kept = copy.deepcopy(model.state_dict())
    threads, rng = torch.get_num_threads(), torch.random.get_rng_state()
    chosen = choose_execution(model, input_shape=(1, 32, 32), batch_size=16, device="cpu", threads=1)
    assert chosen.device == "cpu"
    assert chosen.threads == 1
    assert all(torch.equal(v, kept[k]) for k, v in model.state_dict().items())
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), rng)


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        ({("contiguous", "bf16"): 0.50}, ("contiguous", "bf16")),
        ({("channels_last", "bf16"): 0.95}, ("contiguous", "fp32")),  # too small a speed-up for the rounding
        ({("channels_last", "fp32"): 0.95}, ("channels_last", "fp32")),
        ({("channels_last", "fp32"): 0.5, ("channels_last", "bf16"): 0.48}, ("channels_last", "fp32")),
    ],
)
def test_the_fastest_format_is_chosen_and_bf16_needs_a_clear_speedup(
    monkeypatch: pytest.MonkeyPatch, seconds: dict[tuple[str, str], float], wanted: tuple[str, str]
) -> None:
    monkeypatch.setattr(
        execution,
        "_min_step_seconds",
        lambda net, forms, shape: {f: seconds.get((f.memory_format, f.precision), 1.0) for f in forms},
    )
    chosen = choose_execution(net(), input_shape=(1, 32, 32), batch_size=16, device="cpu")
    assert (chosen.memory_format, chosen.precision) == wanted


def test_every_format_is_timed() -> None:
    forms = [
        ExecutionFormat(precision=p, memory_format=f) for p in ("fp32", "bf16") for f in ("contiguous", "channels_last")
    ]
    seconds = execution._min_step_seconds(net(), forms, (1, 32, 32))
    assert set(seconds) == set(forms)
    assert all(0 < s < 10 for s in seconds.values())


@pytest.mark.parametrize(("one", "many", "wanted"), [(1.0, 0.6, 2), (1.0, 0.95, 1), (1.0, 9.0, 1)])
def test_threads_need_a_clear_speedup(monkeypatch: pytest.MonkeyPatch, one: float, many: float, wanted: int) -> None:
    monkeypatch.setattr(execution, "_mean_wall_seconds", lambda *args: (one, many))
    chosen = choose_execution(net(), input_shape=(1, 32, 32), batch_size=16, device="cpu", threads=2)
    assert chosen.threads == wanted


def test_threads_are_timed_by_turns_with_the_wall_clock() -> None:
    before = torch.get_num_threads()
    try:
        seconds = execution._mean_wall_seconds(net(), ExecutionFormat(), (1, 2), (16, 1, 32, 32), 0.01)
    finally:
        torch.set_num_threads(before)
    assert all(0 < s < 10 for s in seconds)


@pytest.mark.parametrize(("many_s", "steps", "wanted"), [(3.1, 2, (1.0, 3.1)), (2.9, 4, (1.0, 2.9))])
def test_hopeless_threads_are_timed_for_one_turn(
    monkeypatch: pytest.MonkeyPatch, many_s: float, steps: int, wanted: tuple[float, float]
) -> None:
    made: list[int] = []

    def step(*_: object, **__: object) -> float:
        made.append(torch.get_num_threads())
        return many_s if made[-1] == 2 else 1.0

    monkeypatch.setattr(execution, "_timed_step", step)
    monkeypatch.setattr(execution, "_PROBE_SECONDS", 0.0)
    before = torch.get_num_threads()
    try:
        assert execution._mean_wall_seconds(net(), ExecutionFormat(), (1, 2), (16, 1, 32, 32), 0.01) == wanted
    finally:
        torch.set_num_threads(before)
    assert made == [1, 2] * (steps // 2)


def test_unknown_device() -> None:
    with pytest.raises(ConfigError, match="device must be auto, cpu or cuda, but got 'tpu'"):
        choose_execution(net(), input_shape=(1, 32, 32), batch_size=16, device="tpu")


def test_absent_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="device cuda must be present"):
        choose_execution(net(), input_shape=(1, 32, 32), batch_size=16, device="cuda")


@pytest.mark.gpu
def test_cuda_needs_no_measurement() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    chosen = choose_execution(net(), input_shape=(1, 32, 32), batch_size=16)
    assert (chosen.device, chosen.memory_format, chosen.precision) == ("cuda", "channels_last", "bf16")


def test_fast_depthwise_gradients_are_used_only_in_channels_last_and_bf16() -> None:
    deep = nn.Sequential(nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False))
    for memory_format in ("contiguous", "channels_last"):
        for precision in ("fp32", "bf16"):
            with on_device(deep, ExecutionFormat(memory_format=memory_format, precision=precision)):
                assert ("forward" in vars(deep[0])) == (memory_format == "channels_last" and precision == "bf16")
    assert not deep.training
    assert next(deep.parameters()).is_contiguous()


def test_the_clock_of_one_thread_stands_still_while_it_waits() -> None:
    clock = step_clock(1)
    begin = clock()
    time.sleep(0.2)
    assert clock() - begin < 0.1
    assert step_clock(2) is time.perf_counter
