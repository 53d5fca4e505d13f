"""yunet: boxes of a net in its form with outputs in closed form, and what it says where its file is missing."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nas.errors import ConfigError, MissingPackageError
from nas.vision.base import Box
from nas.vision.detectors import yunet
from nas.vision.detectors.yunet import DETECTOR, GET_LINE
from tests.vision.pictures import quadrant_net

SIDE = 320


def bright_cells(path: Path) -> Path:
    """A net in the form of YuNet's: a cell of 8, 16 or 32 pixels is a face of its own size if all of it is white.

    As OpenCV decodes them, a cell in row r and column c of stride s has its centre at (s c, s r).
    """
    nodes, outputs = [], []
    weights = {
        "grey": np.full((1, 3, 1, 1), 1 / 3 / 255), "none4": np.zeros((4, 3, 1, 1)), "none10": np.zeros((10, 3, 1, 1))
    }  # fmt: skip
    for stride in (8, 16, 32):
        pooled = f"pooled_{stride}"
        nodes.append(
            helper.make_node("AveragePool", ["input"], [pooled], kernel_shape=[stride] * 2, strides=[stride] * 2)
        )
        cells = (SIDE // stride) ** 2
        for name, weight, depth in (
            ("cls", "grey", 1),
            ("obj", "grey", 1),
            ("bbox", "none4", 4),
            ("kps", "none10", 10),
        ):
            maps, rows, out = f"{name}_maps_{stride}", f"{name}_rows_{stride}", f"{name}_{stride}"
            weights[f"{out}_shape"] = np.array([1, cells, depth])
            nodes += [
                helper.make_node("Conv", [pooled, weight], [maps]),
                helper.make_node("Transpose", [maps], [rows], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [rows, f"{out}_shape"], [out]),
            ]
            outputs.append(helper.make_tensor_value_info(out, TensorProto.FLOAT, [1, cells, depth]))
    order = {name: i for i, name in enumerate(("cls", "obj", "bbox", "kps"))}
    outputs.sort(key=lambda o: (order[o.name.split("_")[0]], int(o.name.split("_")[1])))
    graph = helper.make_graph(
        nodes, "cells", [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, SIDE, SIDE])], outputs,
        [
            numpy_helper.from_array(w.astype(np.int64 if name.endswith("_shape") else np.float32), name)
            for name, w in weights.items()
        ],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), path)
    return path


def test_boxes_are_those_of_the_outputs(tmp_path: Path) -> None:
    detect = DETECTOR.load(model=bright_cells(tmp_path / "cells.onnx"), min_face=30)
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    picture[32:64, 96:128] = 255
    assert detect(picture) == [Box(x=80, y=16, width=32, height=32, score=pytest.approx(1.0, abs=1e-3))]
    assert DETECTOR.load(model=tmp_path / "cells.onnx", min_face=40)(picture) == []


def test_the_error_says_how_to_get_the_file(tmp_path: Path) -> None:
    for path, fault in ((None, "needs its file"), (tmp_path / "none.onnx", "none.onnx does not exist")):
        with pytest.raises(ConfigError, match=fault) as error:
            DETECTOR.load(model=path)
        assert GET_LINE in str(error.value)
        assert "\n" not in str(error.value)


def test_another_net_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"net.onnx is another one"):
        DETECTOR.load(model=quadrant_net(tmp_path / "net.onnx"))
    text = tmp_path / "text.onnx"
    text.write_text("no net")
    with pytest.raises(ConfigError, match=r"text.onnx is another one"):
        DETECTOR.load(model=text)


def test_an_old_opencv_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yunet, "import_cv2", lambda: SimpleNamespace(__version__="4.5.0"))
    with pytest.raises(MissingPackageError, match=r"needs OpenCV 4.8 or newer, but this is 4.5.0"):
        DETECTOR.load()
