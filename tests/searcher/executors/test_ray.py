"""The executor ray: how a cluster is divided; and, where Ray is installed, what it makes of deaths and devices."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from nas import registry
from nas.config import RunFields
from nas.errors import ConfigError, MissingPackageError
from nas.evaluation.evaluator import Evaluator
from nas.pipeline import Step
from nas.searcher.executor import Executor, Outcome, Task
from nas.searcher.executors.ray import Plan, plan_workers
from nas.targets.catalog import load_target
from tests.conftest import learnable_faces
from tests.tiny_evaluator import an_evaluator
from tests.worker_steps import end, sleep

PATIENCE_S = 240.0


@pytest.mark.parametrize(
    ("nodes", "options", "plan"),
    [
        ([{"CPU": 8.0}, {"CPU": 4.0}, {"memory": 1.0}], {}, Plan(n_workers=3, threads=4, gpus=0)),
        ([{"CPU": 8.0}, {"CPU": 5.0}], {"threads": 2}, Plan(n_workers=6, threads=2, gpus=0)),
        ([{"CPU": 8.0}, {"CPU": 4.0}], {"workers": 2}, Plan(n_workers=2, threads=6, gpus=0)),
        ([{"CPU": 8.0}, {"CPU": 4.0}], {"workers": 100}, Plan(n_workers=100, threads=1, gpus=0)),
        ([], {}, Plan(n_workers=1, threads=1, gpus=0)),
        ([{"CPU": 2.0}], {"threads": 4}, Plan(n_workers=1, threads=4, gpus=0)),
        ([{"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0}], {"threads": 2}, Plan(n_workers=2, threads=2, gpus=1)),
        ([{"CPU": 8.0, "GPU": 2.0}], {"threads": 1, "workers": 5}, Plan(n_workers=5, threads=1, gpus=0.3333)),
        ([{"CPU": 8.0, "GPU": 2.0}], {"threads": 1, "device": "cpu"}, Plan(n_workers=8, threads=1, gpus=0)),
        ([{"CPU": 8.0}], {"threads": 1, "device": "cuda"}, Plan(n_workers=1, threads=1, gpus=1)),
    ],
)
def test_cluster_is_divided_among_workers(nodes: list[dict[str, float]], options: dict[str, Any], plan: Plan) -> None:
    assert plan_workers(nodes, RunFields(**options)) == plan


def test_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        MissingPackageError, match=r"needs ray, which is not installed; type: pip install 'fer-nas\[ray"
    ):
        registry.load("executor", "ray")(RunFields(), lambda *_: None)


def test_address_without_the_executor_is_refused() -> None:
    with pytest.raises(ValueError, match="address is for the executor ray, but got executor processes; add --executor"):
        RunFields(address="auto")


def wait(executor: Executor) -> Outcome:
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        if (outcome := executor.wait(1.0)) is not None:
            return outcome
    raise AssertionError("no outcome")


def a_task(function: Callable[..., Any], *, measures: bool = False, **arguments: Any) -> Task:
    step = Step(name="a step", function=function, arguments=arguments, measures=measures)
    return Task(name=f"a task {arguments}", step=step)


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> Evaluator:
    return an_evaluator(tmp_path_factory.mktemp("run"), learnable_faces(train=24, val=8))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head with two CPUs and one board."""
    pytest.importorskip("ray", reason="needs ray: pip install 'fer-nas[ray]'")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "resources": {"jetson": 1}})
    yield made
    made.shutdown()


LOG: list[str] = []


@pytest.fixture
def executor(cluster: Any, evaluator: Evaluator) -> Iterator[Executor]:
    options = RunFields(threads=1, executor="ray", address=cluster.address)
    made: Executor = registry.load("executor", "ray")(options, lambda _, line: LOG.append(line))
    made.configure(evaluator)
    yield made
    made.close()


def test_signals_are_told_and_a_device_is_held_by_one_step_at_a_time(executor: Executor) -> None:
    assert executor.n_workers == 2
    for number, cause, is_crash in ((signal.SIGSEGV, "SIGSEGV", True), (signal.SIGKILL, "SIGKILL", False)):
        executor.submit(a_task(end, number=number))
        death = wait(executor).death
        assert death is not None
        assert (death.cause, death.is_crash) == (cause, is_crash)
    for _ in range(2):
        executor.submit(a_task(sleep, measures=True, seconds=1.0))
    spans = sorted(_value(wait(executor)) for _ in range(2))
    assert spans[0][1] <= spans[1][0]


def test_step_on_a_lost_node_was_interrupted_and_the_others_go_on(cluster: Any, executor: Executor) -> None:
    node = cluster.add_node(num_cpus=1)
    LOG.clear()
    for _ in range(3):
        executor.submit(a_task(sleep, seconds=15.0))
    end_s = time.monotonic() + PATIENCE_S
    while len(LOG) < 3 and time.monotonic() < end_s:
        assert executor.wait(0.5) is None
    cluster.remove_node(node, allow_graceful=False)
    outcomes = [wait(executor) for _ in range(3)]
    deaths = [outcome.death for outcome in outcomes if outcome.death is not None]
    assert [death.is_crash for death in deaths] == [False]
    assert sum(outcome.result is not None for outcome in outcomes) == 2
    executor.submit(a_task(sleep, seconds=0.0))
    assert wait(executor).result is not None


def test_host_is_timed_on_the_drivers_node_only(cluster: Any, executor: Executor, evaluator: Evaluator) -> None:
    host = replace(evaluator, profile=load_target("cpu"))
    config = host.config.model_copy(update={"search": host.config.search.model_copy(update={"target": "cpu"})})
    executor.configure(replace(host, config=config))
    other = cluster.add_node(num_cpus=4)
    for _ in range(3):  # the driver's node has two CPUs
        executor.submit(a_task(sleep, measures=True, seconds=2.0))
    spans = sorted(_value(wait(executor)) for _ in range(3))
    assert spans[2][0] >= min(end for _, end in spans[:2])
    cluster.remove_node(other)


def test_no_worker_is_left_after_the_end(executor: Executor) -> None:
    executor.submit(a_task(sleep, seconds=120.0))
    LOG.clear()
    while not LOG:
        assert executor.wait(0.5) is None
    executor.close()
    process, end_s = int(LOG[0].split()[-1]), time.monotonic() + 60.0
    while (is_alive := Path(f"/proc/{process}").exists()) and time.monotonic() < end_s:
        time.sleep(0.1)
    assert not is_alive


def test_address_without_a_cluster_is_one_line(evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="needs ray: pip install 'fer-nas[ray]'")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", Mock(side_effect=ConnectionError("Could not find any\nrunning Ray instance.")))
    executor = registry.load("executor", "ray")(RunFields(executor="ray", address="auto"), lambda *_: None)
    with pytest.raises(ConfigError) as caught:
        executor.configure(evaluator)
    assert str(caught.value) == (
        "address must be that of a Ray cluster, but with 'auto': Could not find any running Ray instance; "
        "to start one: ray start --head"
    )


def _value(outcome: Outcome) -> tuple[float, float]:
    assert outcome.result is not None
    value: tuple[float, float] = outcome.result.value
    return value
