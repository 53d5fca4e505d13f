"""The classifier: what a file says about itself, what must be given, and probabilities in closed form."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from nas.errors import ConfigError
from nas.input_form import requested_form
from nas.onnx_export.input_rewrite import with_input_form
from nas.vision.classifier import FaceClassifier
from nas.vision.models import find_model
from tests.fake_models import a_classifier
from tests.fake_teachers import brightness_of_quadrants
from tests.vision.pictures import CLASSES, bright_quadrant, quadrant_net

FRONT = Path(__file__).resolve().parents[2] / "examples" / "fer2013-front"


def crops_of(*places: int) -> np.ndarray:
    return np.stack([bright_quadrant(place)[:, :, 0][None] for place in places])


def test_a_file_that_names_its_classes_labels_crops(tmp_path: Path) -> None:
    with FaceClassifier(quadrant_net(tmp_path / "net.onnx"), pixel_range="0..255") as net:
        rows = net.probabilities(crops_of(2, 0, 3))
        assert net.classes == CLASSES
        assert net.input_shape == (1, 32, 32)
        assert [net.classes[i] for i in rows.argmax(1)] == ["sad", "angry", "neutral"]
        assert rows.sum(1) == pytest.approx(1.0)
        assert net.probabilities(np.zeros((0, 1, 32, 32), np.uint8)).shape == (0, 4)
        assert net.notes == ()


@pytest.mark.parametrize("word", ["0..255", "0..1", "-1..1", "imagenet"])
def test_pixels_are_scaled_as_given_and_logits_get_a_softmax(tmp_path: Path, word: str) -> None:
    """ImageNet's normalisation of one channel is by the means of its three means and deviations."""
    net = quadrant_net(tmp_path / "net.onnx", softmax=False)
    white = {"0..255": 255.0, "0..1": 1.0, "-1..1": 1.0, "imagenet": (255 - 114.495) / 57.63}[word]
    black = {"0..255": 0.0, "0..1": 0.0, "-1..1": -1.0, "imagenet": -114.495 / 57.63}[word]
    with FaceClassifier(net, pixel_range=word) as classifier:
        row = classifier.probabilities(crops_of(1))[0]
    powers = np.exp(np.array([black, white, black, black]) - white)
    assert row == pytest.approx(powers / powers.sum(), abs=0.02)
    assert classifier.notes == ("the outputs of net.onnx are no probabilities, so a softmax follows",)


def test_an_own_export_needs_nothing_and_says_its_data_set() -> None:
    path = FRONT / "resnet-56k" / "model.onnx"
    with FaceClassifier(path) as net:
        assert net.classes == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
        assert net.dataset == "fer2013"
        golden = np.load(path.with_name("golden.npz"))
        assert net.probabilities(golden["image"]) == pytest.approx(golden["probabilities"], abs=1e-4)


def test_an_own_export_refuses_another_range() -> None:
    with pytest.raises(
        ConfigError, match=r"takes pixels 0..255, as every file of this package, but --pixels says 0..1"
    ):
        FaceClassifier(FRONT / "resnet-56k" / "model.onnx", pixel_range="0..1")


def test_a_foreign_file_must_get_its_range_and_a_known_one(tmp_path: Path) -> None:
    net = quadrant_net(tmp_path / "net.onnx")
    with pytest.raises(ConfigError, match=r"does not say which range of pixels it takes; give --pixels, one of 0..255"):
        FaceClassifier(net)
    with pytest.raises(ConfigError, match=r"--pixels must be one of 0..255, 0..1, -1..1, imagenet, but got '0-1'"):
        FaceClassifier(net, pixel_range="0-1")


def test_a_file_without_names_must_get_them_and_given_ones_win_with_a_note(tmp_path: Path) -> None:
    bare = quadrant_net(tmp_path / "bare.onnx", labels=None)
    with pytest.raises(ConfigError, match="does not name its classes; give them with --classes a,b,c"):
        FaceClassifier(bare, pixel_range="0..255")
    with FaceClassifier(bare, pixel_range="0..255", classes=("Happiness", "sad", "x", "y")) as net:
        assert net.classes == ("happy", "sad", "x", "y")
    named = quadrant_net(tmp_path / "named.onnx")
    with FaceClassifier(named, pixel_range="0..255", classes=("a", "b", "c", "d")) as net:
        assert "the file's own names are angry, happy, sad, neutral" in net.notes[0]


@pytest.mark.parametrize(
    ("classes", "fault"),
    [
        (("a", "b"), "must have one output for each of the 2 classes a, b, but has 4"),
        (("a", "a", "b", "c"), "must be two or more different names, but are a, a, b, c"),
        (("a",), "must be two or more different names"),
        (("a", "", "b", "c"), "must be two or more different names"),
    ],
)
def test_wrong_names_are_refused(tmp_path: Path, classes: tuple[str, ...], fault: str) -> None:
    net = quadrant_net(tmp_path / "net.onnx", labels=None)
    with pytest.raises(ConfigError, match=fault):
        FaceClassifier(net, pixel_range="0..255", classes=classes)


def test_of_several_outputs_the_one_with_a_number_for_each_class_is_taken(tmp_path: Path) -> None:
    path = quadrant_net(tmp_path / "net.onnx")
    model = onnx.load(path)
    model.graph.output.insert(0, onnx.helper.make_tensor_value_info("maps", onnx.TensorProto.FLOAT, None))
    onnx.save(model, path)
    with FaceClassifier(path, pixel_range="0..255") as net:
        assert net.probabilities(crops_of(1)).argmax(1).tolist() == [1]


@pytest.mark.parametrize(("batch", "last"), [(1, False), (4, True)])
def test_fixed_batches_and_channels_last_are_taken(tmp_path: Path, batch: int, last: bool) -> None:
    path = brightness_of_quadrants(
        tmp_path / "net.onnx", labels=CLASSES, batch=batch, channels_last=last, shape=(3, 32, 32), softmax=True
    )
    with FaceClassifier(path, pixel_range="0..255") as net:
        assert net.probabilities(np.repeat(crops_of(3, 1, 0), 3, axis=1)).argmax(1).tolist() == [3, 1, 0]


def test_what_is_no_model_is_one_line_about_a_model(tmp_path: Path) -> None:
    text = tmp_path / "text.onnx"
    text.write_text("no net")
    flat = tmp_path / "flat.onnx"
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])], "g",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 4])], [onnx.helper.make_tensor_value_info("y", 1, [1, 4])],
    )  # fmt: skip
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), flat)
    for path, fault in (
        (tmp_path / "none.onnx", "does not exist"),
        (text, "must be an ONNX file"),
        (flat, "has 2 axes"),
    ):
        with pytest.raises(ConfigError, match=fault) as error:
            FaceClassifier(path, pixel_range="0..255", classes=("a", "b"))
        assert "teacher" not in str(error.value)
        assert "training images" not in str(error.value)


def test_outputs_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = quadrant_net(tmp_path / "net.onnx")
    model = onnx.load(path)
    (kernel,) = (w for w in model.graph.initializer if w.name == "kernel")
    kernel.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(kernel) * np.float32("nan"), "kernel"))
    onnx.save(model, path)
    with pytest.raises(ConfigError, match=r"model .* must give a finite row .*NaN or infinity"):
        FaceClassifier(path, pixel_range="0..255")


@pytest.mark.parametrize(
    "words", [["uint8"], ["nhwc", "rgb"], ["any-size"], ["uint8", "nhwc", "rgb", "any-size"]], ids=",".join
)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 64, 64)], ids=str)
def test_a_file_of_another_input_form_labels_as_the_plain_one(
    tmp_path: Path, words: list[str], shape: tuple[int, int, int]
) -> None:
    """Crops are the network's, in size and colour, so that both files see the same pixels."""
    plain = a_classifier(tmp_path / "plain.onnx", shape=shape)
    model = with_input_form(onnx.load(plain), requested_form(words, shape))
    exported = tmp_path / "exported"
    exported.mkdir()
    onnx.save(model, exported / "model.onnx")
    found = find_model(exported, pick_file=lambda run: run)
    crops = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    with FaceClassifier(plain) as expected, FaceClassifier(found) as net:
        assert net.classes == expected.classes
        assert net.input_shape == expected.input_shape == shape
        assert net.probabilities(crops) == pytest.approx(expected.probabilities(crops), abs=1e-6)
