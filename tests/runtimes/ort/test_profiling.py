"""Matching of profiled nodes with those of the graph."""

from onnx import helper

from nas.runtimes.ort.profiling import _match_graph_nodes


def test_nameless_nodes_are_matched_in_order_and_once() -> None:
    first, second = (helper.make_node("Gemm", [word], [f"{word}_out"]) for word in ("a", "b"))
    named = helper.make_node("Conv", ["x"], ["y"], name="conv")
    executed = [("Gemm_3", "Gemm"), ("conv", "Conv"), ("Gemm_7", "Gemm"), ("Gemm_9", "Gemm"), ("Add_1", "Add")]
    assert _match_graph_nodes(executed, [first, named, second]) == [first, named, second, None, None]
