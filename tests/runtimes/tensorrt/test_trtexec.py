"""Commands for trtexec and parsers of its output, version by version, without any trtexec."""

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, load, numpy_helper, save

from nas.errors import MeasureError
from nas.input_form import WORDS, requested_form
from nas.onnx_export.input_rewrite import with_input_form
from nas.runtimes.reference_network import reference_path
from nas.runtimes.tensorrt import trtexec as _trtexec
from nas.runtimes.tensorrt.trtexec import (
    ModelFormat,
    TrtexecInfo,
    build_and_time_command,
    parse_layers,
    parse_throughput,
    parse_times,
    parse_version,
    read_model_format,
)
from tests.fake_models import a_classifier

PLAIN = ModelFormat(dynamic_shape="image:1x1x48x48", has_float16=False, has_qdq=False)
MIXED = ModelFormat(dynamic_shape="", has_float16=True, has_qdq=True)
OLD_ONLY = {"--useCudaGraph", "--useSpinWait", "--noDataTransfers"}
REMOVED_IN_11 = {"--fp16", "--int8", "--best", "--workspace"}


def flags(version: tuple[int, int, int], form: ModelFormat, help: str = "") -> set[str]:
    tool = TrtexecInfo(path="/trtexec", version=version, help_text=help)
    words = build_and_time_command(
        tool, form, model_file="m", engine_file="e", times_file="t", timing_cache_file="c", duration_s=2
    )
    assert words[0] == "/trtexec"
    return set(words[1:])


def names(words: set[str]) -> set[str]:
    return {word.partition("=")[0] for word in words}


@pytest.mark.parametrize(
    ("banner", "version"),
    [("v8205", (8, 2, 5)), ("v8502", (8, 5, 2)), ("v8601", (8, 6, 1)), ("v100300", (10, 3, 0)),
     ("v101602", (10, 16, 2)), ("v110400", (11, 4, 0)), ("v11.1.0.106", (11, 1, 0))],
)  # fmt: skip
def test_the_version_is_parsed_from_the_banner(banner: str, version: tuple[int, int, int]) -> None:
    assert parse_version(f"&&&& RUNNING TensorRT.trtexec [TensorRT {banner}] [b1] # trtexec --help\n") == version


def test_a_version_that_is_too_old_is_refused() -> None:
    with pytest.raises(MeasureError, match=r"must be 8\.2 or newer, but the board has 7\.1\.3"):
        parse_version("&&&& RUNNING TensorRT.trtexec [TensorRT v7103] # trtexec")


@pytest.mark.parametrize("banner", ["v" + "9" * 5000, "v10." + "3" * 5000, "v-1", "v", "v10.x"])
def test_a_version_that_is_no_number_is_refused(banner: str) -> None:
    with pytest.raises(MeasureError, match="must begin with a line that names its version") as caught:
        parse_version(f"&&&& RUNNING TensorRT.trtexec [TensorRT {banner}] # trtexec")
    assert len(str(caught.value)) < 400


def test_types_come_from_the_file_where_networks_are_strongly_typed() -> None:
    assert "--stronglyTyped" in flags((10, 3, 0), MIXED)
    assert "--stronglyTyped" in flags((8, 6, 2), MIXED, help="--stronglyTyped")
    assert not {"--fp16", "--int8"} & flags((10, 3, 0), MIXED)


@pytest.mark.parametrize("version", [(8, 2, 5), (8, 5, 2), (8, 6, 2)])
def test_without_strong_typing_only_types_of_the_file_are_allowed(version: tuple[int, int, int]) -> None:
    assert {"--fp16", "--int8"} <= flags(version, MIXED, help="--fp16")
    assert not {"--fp16", "--int8", "--stronglyTyped"} & flags(version, PLAIN, help="--fp16")


def test_flags_that_11_removed_are_not_passed_to_it() -> None:
    assert not (REMOVED_IN_11 | OLD_ONLY | {"--stronglyTyped"}) & names(flags((11, 4, 0), MIXED))


@pytest.mark.parametrize("version", [(8, 2, 5), (8, 5, 2), (8, 6, 2), (10, 3, 0)])
def test_older_versions_get_the_defaults_of_11_as_flags(version: tuple[int, int, int]) -> None:
    assert flags(version, PLAIN) >= OLD_ONLY


def test_workspace_and_level_follow_the_version() -> None:
    assert "--workspace=256" in flags((8, 2, 5), PLAIN)
    assert "--memPoolSize=workspace:256" in flags((8, 5, 2), PLAIN)
    assert "--builderOptimizationLevel" not in names(flags((8, 5, 2), PLAIN))
    assert "--builderOptimizationLevel=3" in flags((8, 6, 2), PLAIN)


def test_an_open_batch_gets_its_shape() -> None:
    assert read_model_format(reference_path()) == PLAIN
    assert "--shapes=image:1x1x48x48" in flags((8, 2, 5), PLAIN)
    assert "--shapes" not in names(flags((8, 2, 5), MIXED))


def a_file(path: Path, name: str = "image", batch: int | str = "N") -> Path:
    grid = [numpy_helper.from_array(np.float32(1), "scale"), numpy_helper.from_array(np.int8(0), "zero")]
    nodes = [
        helper.make_node("QuantizeLinear", [name, "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("Cast", ["d"], ["half"], to=TensorProto.FLOAT16),
    ]
    image = helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 1, 8, 8])
    output = helper.make_tensor_value_info("half", TensorProto.FLOAT16, [batch, 1, 8, 8])
    graph = helper.make_graph(nodes, "g", [image], [output], grid)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    save(model, path)
    return path


def test_qdq_nodes_and_fp16_tensors_are_found(tmp_path: Path) -> None:
    assert read_model_format(a_file(tmp_path / "m.onnx", batch=1)) == MIXED


@pytest.mark.parametrize("batch", [8, 1000])
def test_a_fixed_batch_of_several_images_is_refused(tmp_path: Path, batch: int) -> None:
    with pytest.raises(
        MeasureError, match=rf"one image at a time, but has \[{batch}, 1, 8, 8\], {batch} images at once"
    ):
        read_model_format(a_file(tmp_path / "m.onnx", batch=batch))


def test_weights_among_the_inputs_are_no_inputs(tmp_path: Path) -> None:
    model = load(a_file(tmp_path / "m.onnx"))
    model.graph.input.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, []))
    save(model, tmp_path / "m.onnx")
    assert read_model_format(tmp_path / "m.onnx").dynamic_shape == "image:1x1x8x8"


def test_weights_outside_the_file_are_refused(tmp_path: Path) -> None:
    model = load(a_file(tmp_path / "m.onnx"))
    save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    with pytest.raises(MeasureError, match=r"must hold its weights itself, but they are in m\.data"):
        read_model_format(tmp_path / "m.onnx")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").touch()
    with pytest.raises(MeasureError, match=r"must be an ONNX file with an input: it is empty"):
        read_model_format(tmp_path / "m.onnx")


@pytest.mark.parametrize("name", ["image:1x1,other", "--best", "a b", "x;y", "$(z)"])
def test_an_input_whose_name_is_unsafe_in_flags_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(MeasureError, match="input must have a name of letters"):
        read_model_format(a_file(tmp_path / "m.onnx", name=name))


def test_a_file_that_is_no_onnx_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"not a model")
    with pytest.raises(MeasureError, match="must be an ONNX file") as caught:
        read_model_format(tmp_path / "m.onnx")
    assert "\n" not in str(caught.value)


def test_durations_are_read_instead_of_differences_of_stamps() -> None:
    entry = {"startComputeMs": 1234.56, "endComputeMs": 1234.65, "computeMs": 0.0931, "latencyMs": 0.1}
    assert parse_times(json.dumps([entry, entry])).tolist() == [0.0931, 0.0931]


@pytest.mark.parametrize("text", ["", "[]", "{}", "[1, 2]", '[{"computeMs": "x"}]', '[{"ms": 1}]', "null", "[" * 5])
def test_malformed_times_are_refused(text: str) -> None:
    with pytest.raises(MeasureError, match="trtexec must"):
        parse_times(text)


@pytest.mark.parametrize(
    "text",
    [
        f'[{{"computeMs": {"9" * 5000}}}, {{"computeMs": 1}}]', f'[{{"computeMs": {"9" * 400}}}, {{"computeMs": 1}}]',
        '[{"computeMs": true}, {"computeMs": 1}]', '[{"computeMs": "1"}, {"computeMs": 1}]', "[" * 100_000,
        '[{"computeMs": ' + "[" * 100_000,
    ],
    ids=["5000 digits", "400 digits", "boolean", "text", "deep list", "deep value"],
)  # fmt: skip
def test_times_that_are_no_numbers_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(MeasureError, match="trtexec must write a list of runs") as caught:
        parse_times(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    with pytest.raises(MeasureError, match="trtexec must write a list of layers"):
        parse_layers(text.replace('"computeMs"', '"name": "a", "medianMs"'))


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), 1e300])
def test_impossible_times_of_layers_are_refused(value: float) -> None:
    layers = [{"name": "a", "averageMs": 0.2}, {"name": "b", "averageMs": 0.1, "medianMs": value}]
    with pytest.raises(MeasureError, match="must time each layer at 0 ms or more"):
        parse_layers(json.dumps(layers))


@pytest.mark.parametrize(
    ("text", "throughput"),
    [
        ("[I] Throughput: 1234.5 qps", 1234.5), ("[I] Throughput: 1.2e+03 qps", 1200.0), ("nothing", None),
        ("Throughput: - qps", None), ("Throughput: -5 qps", None), ("Throughput: 0 qps", None),
        ("Throughput: 1.2.3 qps", None), (f"Throughput: {'9' * 5000} qps", None), ("Throughput: nan qps", None),
    ],
)  # fmt: skip
def test_throughput_is_a_positive_number_or_none(text: str, throughput: float | None) -> None:
    assert parse_throughput(text) == throughput


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), 1e300])
def test_impossible_times_are_refused(value: float) -> None:
    with pytest.raises(MeasureError, match="each above 0 ms"):
        parse_times(json.dumps([{"computeMs": 0.1}, {"computeMs": value}]))


def test_layers_have_medians_or_means() -> None:
    entries = [{"count": 2}, {"name": "a || b", "averageMs": 0.2, "medianMs": 0.1}, {"name": "c", "averageMs": 0.3}]
    assert [(layer.name, layer.ms) for layer in parse_layers(json.dumps(entries))] == [("a || b", 0.1), ("c", 0.3)]


@pytest.mark.parametrize("text", ["", '[{"name": "a"}]', "[1]", '{"name": 1}', '[{"name": "a "b" c"}]'])
def test_malformed_layers_are_refused(text: str) -> None:
    with pytest.raises(MeasureError, match="must write a list of layers"):
        parse_layers(text)


def test_the_first_error_is_the_reason_and_the_tail_is_short_and_printable() -> None:
    log = "\n".join(
        [*(f"[I] {i}" for i in range(50)), "[11/21/2025-10:00:00] [E] [TRT] boom\x1b[2J", "[E] later", "&&&& FAILED"]
    )
    assert _trtexec.first_error(log) == "boom?[2J"
    assert len(_trtexec.log_tail(log)) == 20
    assert all(line.isprintable() for line in _trtexec.log_tail(log))
    assert _trtexec.first_error("") == "it wrote nothing"


def test_weak_typing_is_noted() -> None:
    tool = TrtexecInfo(path="/t", version=(8, 2, 5), help_text="--fp16")
    assert _trtexec.build_notes(tool, MIXED) == (
        "weakly typed: TensorRT 8.2.5 chose each layer's type among FP32 and FP16 and INT8",
    )
    assert _trtexec.build_notes(TrtexecInfo(path="/t", version=(11, 4, 0)), MIXED) == ()


def test_a_file_of_any_size_is_timed_at_the_size_of_its_network(tmp_path: Path) -> None:
    form = requested_form(WORDS, (1, 8, 6))
    save(with_input_form(load(a_classifier(tmp_path / "m.onnx", shape=(1, 8, 6))), form), tmp_path / "m.onnx")
    assert read_model_format(tmp_path / "m.onnx").dynamic_shape == "image:1x8x6x3"


def test_an_engine_is_built_without_timing_by_the_flag_of_its_version() -> None:
    assert [_trtexec.build_only_flag(v) for v in ((8, 5, 2), (8, 6, 0), (11, 0, 0))] == [
        "--buildOnly", "--skipInference", "--skipInference",
    ]  # fmt: skip
