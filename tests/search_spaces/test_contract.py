"""Contract of search spaces, run over every member of the family."""

import json
import time
from itertools import pairwise
from math import inf

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from nas import registry
from search_spaces._base import Architecture, Choice, DisconnectedError, SearchSpace, Value
from search_spaces._work import WORKLOAD_FIELDS

SPACES = [registry.load("space", name) for name in registry.names("space")]
MULTIPLES = (1, 4, 8, 16, 32, 64)

pytestmark = pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
some = settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
many = settings(some, max_examples=150)


def picks(space: SearchSpace, *, multiple: int = 8) -> st.SearchStrategy[dict[str, Value]]:
    choices = space.choices(channel_multiple=multiple)
    return st.fixed_dictionaries({choice.name: st.sampled_from(choice.options) for choice in choices})


def decoded(space: SearchSpace, configuration: dict[str, Value]) -> Architecture:
    try:
        return space.decode(configuration)
    except DisconnectedError:
        assume(False)
        raise


def narrow(space: SearchSpace, data: st.DataObject) -> dict[str, Value]:
    """A configuration with numbers at the small end, whose network runs fast."""
    configuration = data.draw(picks(space))
    for choice in space.choices(channel_multiple=8):
        if "width" in choice.name:
            configuration[choice.name] = data.draw(st.sampled_from(choice.options[:2]))
    return configuration | {"stem_stride": 2}


def test_a_member_is_named_after_its_file(space: SearchSpace) -> None:
    assert registry.load("space", space.name) is space
    assert len(set(space.stages)) == len(space.stages)


@pytest.mark.parametrize("multiple", MULTIPLES)
def test_choices_are_distinct_of_one_type_and_on_the_grid(space: SearchSpace, multiple: int) -> None:
    choices = space.choices(channel_multiple=multiple)
    assert len({choice.name for choice in choices}) == len(choices)
    for choice in choices:
        assert len({type(option) for option in choice.options}) == 1, choice
        if not isinstance(choice.options[0], str):
            assert all(a < b for a, b in pairwise(choice.options)), choice
        if "width" in choice.name:
            assert all(isinstance(w, int) and w > 0 and w % multiple == 0 for w in choice.options), choice


@given(data=st.data())
@many
def test_decode_is_total_repeatable_and_survives_json(space: SearchSpace, data: st.DataObject) -> None:
    configuration = data.draw(picks(space))
    architecture = decoded(space, configuration)
    assert space.decode(dict(reversed(configuration.items()))) == architecture
    assert json.loads(json.dumps(architecture, allow_nan=False)) == architecture


@given(data=st.data())
@many
def test_decode_leaves_the_configuration_and_widths_follow_the_stages(space: SearchSpace, data: st.DataObject) -> None:
    configuration = data.draw(picks(space))
    before = dict(configuration)
    widths = space.widths(decoded(space, configuration))
    assert configuration == before
    assert widths
    assert list(widths) == [stage for stage in space.stages if stage in widths]
    assert all(width % 8 == 0 for width in widths.values())


def test_decode_names_a_missing_gene(space: SearchSpace) -> None:
    configuration = _first(space.choices(channel_multiple=8))
    for name in configuration:
        rest = {key: value for key, value in configuration.items() if key != name}
        with pytest.raises(KeyError, match=name.replace(".", r"\.")):
            space.decode(rest)


def _first(choices: tuple[Choice, ...]) -> dict[str, Value]:
    """The configuration of last options, which disconnects nothing."""
    return {choice.name: choice.options[-1] for choice in choices}


@given(data=st.data(), size=st.sampled_from([32, 45, 48, 112]), channels=st.sampled_from([1, 3]))
@some
def test_networks_accept_any_size_and_channels(
    space: SearchSpace, data: st.DataObject, size: int, channels: int
) -> None:
    architecture = decoded(space, narrow(space, data))
    classes = data.draw(st.integers(1, 11))
    net = space.build(architecture, input_shape=(channels, size, size), classes=classes).eval()
    images = torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(0)) * 255
    with torch.no_grad():
        logits = net(images)
        assert logits.shape == (2, classes)
        assert logits.isfinite().all()
        assert torch.allclose(net(images[1:]), logits[1:], atol=1e-4)  # independent of the other images of the batch


@given(data=st.data())
@some
def test_gradients_reach_every_parameter(space: SearchSpace, data: st.DataObject) -> None:
    net = space.build(decoded(space, narrow(space, data)), input_shape=(1, 48, 48), classes=7).train()
    net(torch.rand(4, 1, 48, 48) * 255).square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


@given(data=st.data())
@some
def test_a_traced_network_consists_of_named_leaf_modules(space: SearchSpace, data: st.DataObject) -> None:
    architecture = decoded(space, narrow(space, data))
    net = space.build(architecture, input_shape=(1, 32, 32), classes=7).eval()
    units = ["prepare", "stem", *space.widths(architecture), "head"]
    assert [name for name, _ in net.named_children()] == units
    traced = torch.fx.symbolic_trace(net)
    ops = [node.op for node in traced.graph.nodes]
    assert ops == ["placeholder", *["call_module"] * (len(ops) - 2), "output"]
    order = [str(node.target).split(".")[0] for node in traced.graph.nodes if node.op == "call_module"]
    assert sorted(order, key=units.index) == order
    assert set(order) == set(units)
    image = torch.rand(2, 1, 32, 32) * 255
    with torch.no_grad():
        assert torch.equal(traced(image), net(image))


@given(data=st.data())
@some
def test_every_module_of_a_network_is_used(space: SearchSpace, data: st.DataObject) -> None:
    net = space.build(decoded(space, narrow(space, data)), input_shape=(1, 32, 32), classes=7)
    called = {node.target for node in torch.fx.symbolic_trace(net).graph.nodes if node.op == "call_module"}
    leaves = {name for name, module in net.named_modules() if not list(module.children())}
    assert leaves == called


@given(data=st.data())
@some
def test_a_pruned_network_has_the_same_modules_and_narrower_stages(space: SearchSpace, data: st.DataObject) -> None:
    architecture = decoded(space, narrow(space, data))
    widths = space.widths(architecture)
    cut = data.draw(st.sets(st.sampled_from(list(widths)), min_size=1))
    slim_widths = {stage: width // 2 for stage, width in widths.items() if stage in cut}
    wide = space.build(architecture, input_shape=(1, 48, 48), classes=7)
    slim = space.build(architecture, input_shape=(1, 48, 48), classes=7, widths=slim_widths).eval()
    assert [(n, type(m)) for n, m in slim.named_modules()] == [(n, type(m)) for n, m in wide.named_modules()]
    shapes, slim_shapes = ({n: p.shape for n, p in net.state_dict().items()} for net in (wide, slim))
    assert slim_shapes.keys() == shapes.keys()
    assert all(a <= b for n in shapes for a, b in zip(slim_shapes[n], shapes[n], strict=True))
    assert sum(s.numel() for s in slim_shapes.values()) < sum(s.numel() for s in shapes.values())
    assert {n: s for n, s in slim_shapes.items() if n.startswith("stem")} == {
        n: s for n, s in shapes.items() if n.startswith("stem")
    }
    with torch.no_grad():
        assert slim(torch.rand(1, 1, 48, 48)).shape == (1, 7)


def test_the_widest_network_is_built_quickly(space: SearchSpace) -> None:
    architecture = space.decode(_first(space.choices(channel_multiple=8)))
    best = inf
    for _ in range(5):
        start = time.perf_counter()
        space.build(architecture, input_shape=(1, 48, 48), classes=7)
        best = min(best, time.perf_counter() - start)
    assert best < 1.0  # 0.1 s on an idle core; the bound leaves room for a loaded one


@given(data=st.data(), size=st.sampled_from([32, 45, 48, 112]), channels=st.sampled_from([1, 3]))
@settings(some, max_examples=40)
def test_the_counted_workload_is_that_of_the_built_network(
    space: SearchSpace, data: st.DataObject, size: int, channels: int
) -> None:
    architecture = decoded(space, data.draw(picks(space)))
    widths = space.widths(architecture)
    kept = {stage: data.draw(st.sampled_from([width, max(8, width // 2)])) for stage, width in widths.items()}
    asked = {"input_shape": (channels, size, size), "classes": 7, "widths": kept}
    assert space.workload(architecture, **asked) == SearchSpace.workload(space, architecture, **asked)
    assert len(space.count_operations(architecture)) == len(space.operations)


@given(data=st.data())
@some
def test_counted_weights_are_those_of_the_built_network(space: SearchSpace, data: st.DataObject) -> None:
    architecture = decoded(space, narrow(space, data))
    net = space.build(architecture, input_shape=(1, 48, 48), classes=7)
    convolutions = sum(p.numel() for n, p in net.named_parameters() if p.dim() > 1)
    works = space.workload(architecture, input_shape=(1, 48, 48), classes=7)
    assert sum(work[WORKLOAD_FIELDS.index("weights")] for work in works.values()) == convolutions
