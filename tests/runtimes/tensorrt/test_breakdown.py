"""Breakdown of a board's time: from summaries and layer names as NVIDIA's sources and users' logs show them."""

import pytest

from nas.errors import MeasureError
from nas.runtimes.base import LayerTiming
from nas.runtimes.tensorrt.breakdown import TimingSummary, explain_board, layer_kind, parse_summary

# In the form of sampleReporting.cpp; figures of TensorRT 10 on a desktop card (NVIDIA/TensorRT issue 4177).
STATISTICS = {
    "Latency": (5.38672, 13.3664, 7.60628, 7.16092),
    "Enqueue Time": (2.72876, 15.0201, 7.63062, 7.86694),
    "H2D Latency": (0.0065918, 0.0698242, 0.0122212, 0.00814819),
    "GPU Compute Time": (5.34595, 13.3388, 7.58404, 7.14139),
    "D2H Latency": (0.00390625, 0.110596, 0.0100141, 0.00439453),
}
SUMMARY = "[10/03/2024-10:47:59] [I] Throughput: 130.298 qps\n" + "".join(
    f"[10/03/2024-10:47:59] [I] {name}: min = {least} ms, max = {most} ms, mean = {mean} ms, median = {median} ms, "
    f"percentile(90%) = {most} ms, percentile(95%) = {most} ms, percentile(99%) = {most} ms\n"
    for name, (least, most, mean, median) in STATISTICS.items()
)
PLAIN = TimingSummary(h2d_ms=0.01, compute_ms=0.3, d2h_ms=0.02, latency_ms=0.33, enqueue_ms=0.1)


def layer(name: str, ms: float) -> LayerTiming:
    return LayerTiming(name=name, ms=ms)


def test_medians_of_the_summary_are_read() -> None:
    assert parse_summary(SUMMARY) == TimingSummary(
        h2d_ms=0.00814819, compute_ms=7.14139, d2h_ms=0.00439453, latency_ms=7.16092, enqueue_ms=7.86694
    )


def test_end_to_end_latency_of_version_8_2_is_not_taken_for_the_latency() -> None:
    more = "[05/09/2022-06:27:25] [I] End-to-End Host Latency: min = 1 ms, max = 1 ms, mean = 1 ms, median = 99 ms\n"
    assert parse_summary(SUMMARY + more).latency_ms == 7.16092


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "lacks 'H2D Latency'"),
        (SUMMARY.replace("D2H Latency", "Other"), "lacks 'D2H Latency'"),
        (SUMMARY.replace("7.14139", "1e"), "lacks a number"),
        (SUMMARY.replace("median = 7.14139", "median = 0"), "times of 0 ms or more"),
        (SUMMARY.replace("7.86694", "9e9"), "times of 0 ms or more"),
    ],
)
def test_a_summary_that_cannot_be_read_is_refused(text: str, line: str) -> None:
    with pytest.raises(MeasureError, match=line):
        parse_summary(text)


# Names as users' profiles show them: TensorRT 8.5 and 10 on Orin, 8.2 with DLA, 8.6 on a desktop card.
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Reformatting CopyNode for Input Tensor 0 to {ForeignNode[conv1/7x7_s2...loss3/classifier]}", "reformat"),
        ("Reformatting CopyNode for Output Tensor 0 to /head/Gemm", "reformat"),
        ("prob input reformatter 0", "reformat"),
        ("{ForeignNode[conv1/7x7_s2...loss3/classifier]}", "foreign"),
        ("[HostToDeviceCopy 0]", "copy"),
        ("data copy finish", "copy"),
        ("images to nvm", "copy"),
        ("head_3 from nvm", "copy"),
        ("/stem/conv/Conv + /stem/act/Relu", "kernel"),
        ("stage1.0.conv || stage1.1.conv", "kernel"),
    ],
)
def test_layers_are_sorted_by_their_names(name: str, kind: str) -> None:
    assert layer_kind(name) == kind


def test_parts_add_up_to_what_an_application_waits_for() -> None:
    layers = [layer("stem", 0.3), layer("head", 0.1), layer("Reformatting CopyNode for Input Tensor 0 to stem", 0.1)]
    found = explain_board(title="net on board", graph_ms=0.2, application=PLAIN, layers=layers, remarks=["clocks"])
    assert [(part.name, pytest.approx(part.ms)) for part in found.parts] == [
        ("copy to the GPU", 0.01), ("kernels", 0.16), ("reformats", 0.04), ("launch gaps", 0.1),
        ("copy from the GPU", 0.02),
    ]  # fmt: skip
    assert found.total_ms == pytest.approx(PLAIN.latency_ms)
    assert found.parts[1].detail == "2; longest stem"
    assert "1 reformats take 20%" in found.remarks[1]
    assert found.remarks[2] == "clocks"
    assert "left out: the camera" in found.remarks[-1]


def test_a_host_that_cannot_keep_up_is_named() -> None:
    busy = TimingSummary(h2d_ms=0, compute_ms=0.3, d2h_ms=0, latency_ms=0.3, enqueue_ms=0.29)
    (limit,) = [r for r in explain_board(title="", graph_ms=0.2, application=busy, layers=[]).remarks if "enqueue" in r]
    assert "the host needs 0.29 ms to enqueue what the GPU does in 0.3 ms: it is the limit" in limit
    calm = explain_board(title="", graph_ms=0.4, application=PLAIN, layers=[])
    assert not any("enqueue" in remark for remark in calm.remarks)
    assert [part.ms for part in calm.parts if part.name == "launch gaps"] == [0.0]  # never negative
