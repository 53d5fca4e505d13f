"""Placement on a DLA: from logs in the forms that users of Xavier and Orin published."""

import pytest

from nas.errors import MeasureError
from nas.runtimes.tensorrt.dla import DlaPlacement, parse_placement
from nas.runtimes.tensorrt.trtexec import (
    ModelFormat,
    TrtexecInfo,
    build_and_time_command,
    time_application_command,
    time_engine_command,
    time_layers_command,
)

PLAIN = ModelFormat(dynamic_shape="image:1x1x48x48", has_float16=False, has_qdq=False)
DLA = TrtexecInfo(path="/t", version=(8, 5, 2), dla_core=1)

# TensorRT 8.5 on Orin (NVIDIA-AI-IOT/jetson_dla_tutorial, shortened and renamed).
ORIN = """\
[03/31/2022-14:34:54] [W] [TRT] Layer 'norm' (PLUGIN_V2): Unsupported on DLA. Switching this layer's device type to GPU.
[03/31/2022-14:34:54] [I] [TRT] ---------- Layers Running on DLA ----------
[03/31/2022-14:34:54] [I] [TRT] [DlaLayer] {ForeignNode[Conv_0]}
[03/31/2022-14:34:54] [I] [TRT] [DlaLayer] {ForeignNode[Relu_10...Conv_11]}
[03/31/2022-14:34:54] [I] [TRT] ---------- Layers Running on GPU ----------
[03/31/2022-14:34:54] [I] [TRT] [GpuLayer] SHUFFLE: Reshape_2 + (Unnamed Layer* 7) [Shuffle]
[03/31/2022-14:34:54] [I] [TRT] [GpuLayer] PLUGIN_V2: norm
"""
# TensorRT 5 to 8.2 on Xavier (lewes6369/TensorRT-Yolov3 issue 86, marcoslucianops/DeepStream-Yolo issue 27).
XAVIER = """\
WARNING: Default DLA is enabled but layer layer74-act is not running on DLA, falling back to GPU.
WARNING: [TRT]: Default DLA is enabled but layer leaky_1 is not supported on DLA, falling back to GPU.
WARNING: [TRT]: Default DLA is enabled but layer leaky_1 is not supported on DLA, falling back to GPU.
WARNING: [TRT]: DLA supports only 8 subgraphs per DLA core. Switching to GPU for layer conv_6
"""


def test_layers_are_listed_by_place_and_warnings_are_not_counted_twice() -> None:
    assert parse_placement(ORIN) == DlaPlacement(
        on_dla=("{ForeignNode[Conv_0]}", "{ForeignNode[Relu_10...Conv_11]}"),
        on_gpu=("SHUFFLE: Reshape_2 + (Unnamed Layer* 7) [Shuffle]", "PLUGIN_V2: norm"),
    )


def test_an_engine_without_gpu_layers_has_no_fallback() -> None:
    found = parse_placement("[I] [TRT] [DlaLayer] {ForeignNode[(Unnamed Layer* 0) [ElementWise]]},\n[I] [TRT]\n")
    assert found == DlaPlacement(on_dla=("{ForeignNode[(Unnamed Layer* 0) [ElementWise]]}",), on_gpu=())
    assert found.describe(0) == "DLA core 0: no layer fell back to the GPU"


def test_older_versions_only_warn_of_each_layer() -> None:
    assert parse_placement(XAVIER).on_gpu == ("layer74-act", "leaky_1", "conv_6")


def test_a_note_names_the_first_layers() -> None:
    many = DlaPlacement(on_dla=(), on_gpu=("a", "b" * 80, "c", "d", "e"))
    assert many.describe(1) == f"DLA core 1: 5 layers fell back to the GPU (a, {'b' * 57}..., c and 2 more)"


@pytest.mark.parametrize("text", ["", "&&&& RUNNING\n[I] === Performance summary ===\n", "\x1b[2J[GpuLayer"])
def test_a_log_that_tells_nothing_is_refused(text: str) -> None:
    with pytest.raises(MeasureError, match="its log names none; has this board a DLA"):
        parse_placement(text)


def test_a_log_cannot_control_a_terminal() -> None:
    (name,) = parse_placement("[GpuLayer] SOFTMAX: a\x1b[31m\n").on_gpu
    assert name == "SOFTMAX: a?[31m"


def test_every_command_names_the_core_and_only_the_build_allows_the_gpu() -> None:
    build = build_and_time_command(
        DLA, PLAIN, model_file="m", engine_file="e", times_file="t", timing_cache_file="c", duration_s=1
    )
    assert {"--useDLACore=1", "--allowGPUFallback", "--fp16"} <= set(build)
    others = (
        time_engine_command(DLA, PLAIN, engine_file="e", times_file="t", duration_s=1),
        time_layers_command(DLA, PLAIN, engine_file="e", profile_file="p"),
        time_application_command(DLA, PLAIN, engine_file="e"),
    )
    for command in others:
        assert "--useDLACore=1" in command
        assert not {"--allowGPUFallback", "--fp16"} & set(command)


@pytest.mark.parametrize("version", [(8, 2, 5), (10, 3, 0), (11, 4, 0)])
def test_without_a_core_no_command_changes(version: tuple[int, int, int]) -> None:
    tool = TrtexecInfo(path="/t", version=version)
    command = time_engine_command(tool, PLAIN, engine_file="e", times_file="t", duration_s=1)
    assert not any("DLA" in word for word in command)


def test_networks_of_a_dla_are_weakly_typed() -> None:
    assert not TrtexecInfo(path="/t", version=(10, 3, 0), help_text="--stronglyTyped", dla_core=0).has_strong_typing
