"""Hand-written nets against their published costs, and the fit of a board's constants against planted ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import jetson_profiles, roofline_fit
from benchmarks.published_nets import NETS
from hw_profiles.jetson import PROFILES
from nas.latency.predicted.roofline import predict_roofline


@pytest.mark.parametrize(
    ("name", "mmacs", "mparams", "within"),
    [  # torchvision's, timm's and the authors' figures
        ("alexnet", 714, 61.1, 0.01),
        ("densenet121", 2834, 7.98, 0.01),
        ("densenet201", 4291, 20.0, 0.01),
        ("mobilenetv2", 301, 3.50, 0.01),
        ("resnext50_32x4d", 4230, 25.0, 0.01),
        ("wide_resnet50_2", 11398, 68.9, 0.01),
        ("shufflenet_v2_x0_5", 40, 1.37, 0.02),
        ("shufflenet_v2_x2_0", 583, 7.39, 0.02),
        ("efficientnet-b0", 386, 5.29, 0.02),
        ("mixnet-s", 252, 4.13, 0.06),
        ("mixnet-l", 579, 7.33, 0.06),
        ("efficientformer-l1", 1300, 12.3, 0.05),
        ("vit-tiny", 1258, 5.72, 0.01),
        ("vit-base", 17582, 86.6, 0.01),
        ("mobilevit-s", 2030, 5.58, 0.02),
        ("segformer-b0", 8400, 3.8, 0.06),
        ("pidnet-s", 47600 / 8, 7.6, 0.01),
        ("yolox-s", 13400, 9.0, 0.01),
        ("yolox-l", 77800, 54.2, 0.01),
        ("yolov8n", 4350, 3.2, 0.02),
        ("yolov8x", 128900, 68.2, 0.02),
        ("yolo11n", 3250, 2.6, 0.02),
        ("yolo11x", 97450, 56.9, 0.02),
    ],
)
def test_nets_have_their_published_costs(name: str, mmacs: float, mparams: float, within: float) -> None:
    found = NETS[name]()
    assert found.macs / 1e6 == pytest.approx(mmacs, rel=within)
    assert found.params / 1e6 == pytest.approx(mparams, rel=max(within, 0.02))


def test_the_vectorised_roofline_equals_the_one_of_nas() -> None:
    profile = PROFILES["jetson-xavier-nx"]
    model = profile.latency
    assert model is not None
    values = [model.fixed_us, model.floor_us, *(model.efficiency[k] for k in (*roofline_fit.KINDS, "memory"))]
    nets = [NETS[name]() for name in ("resnet18", "mixnet-s", "yolo11n")]
    data = roofline_fit.samples([(net, profile, 1.0) for net in nets])
    assert roofline_fit.predict(data, np.log(values)) == pytest.approx(
        [predict_roofline(n, profile).latency_ms for n in nets]
    )


def test_a_fit_predicts_like_the_planted_constants() -> None:
    profile = PROFILES["jetson-orin-nano"]
    planted = np.log([40.0, 25.0, 0.3, 0.2, 0.02, 0.1, 0.4])
    names = ["resnet18", "resnet50", "mobilenetv2", "squeezenet1_0", "vgg11", "mixnet-s", "yolox-s", "alexnet"]
    data = roofline_fit.samples([(NETS[name](), profile, 1.0) for name in names])
    true = replace(data, published_us=roofline_fit.predict(data, planted) * 1e3)
    assert roofline_fit.predict(data, roofline_fit.fit(true)) == pytest.approx(true.published_us / 1e3, rel=0.1)


def test_a_table_is_read_and_evaluated(tmp_path: Path) -> None:
    lines = ["device,model,precision,batch,latency_ms,runtime,source_repo"]
    for name, word in (("resnet18", "ResNet18"), ("resnet50", "ResNet50"), ("mobilenetv3-large", "MobileNetV3-large"),
                       ("vgg11", "vgg11_bn"), ("vit-tiny", "ViT-tiny"), ("yolox-s", "YOLOX-s")):  # fmt: skip
        for device in ("nano", "tx2"):
            published = 1.2 * predict_roofline(NETS[name](), PROFILES[f"jetson-{device}"]).latency_ms
            lines.append(f"{device},{word},fp16,1,{published},tensorrt,somebody")
    lines += ["nano,UnheardOf,fp16,1,3.0,tensorrt,somebody", "nano,resnet18,int8,1,3.0,tensorrt,somebody"]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(lines))

    found, unknown = jetson_profiles.rows([table], None)
    result = jetson_profiles.study(found)

    assert unknown == {"UnheardOf"}
    assert len(found) == 12
    for board in ("jetson-nano", "jetson-tx2"):
        assert result[board]["shipped"]["all"]["median_error"] == pytest.approx(0.2, abs=1e-6)
        assert result[board]["shipped"]["all"]["spearman"] == pytest.approx(1)
        assert result[board]["without the model"]["all"]["spearman"] > 0.8
        assert result[board]["without the board"]["all"]["rows"] == 6


@pytest.mark.parametrize("text", ["device,model\nnano,resnet18\n", "", None])
def test_other_tables_are_refused_in_one_line(tmp_path: Path, text: str | None) -> None:
    table = tmp_path / "table.csv"
    if text is not None:
        table.write_text(text)
    with pytest.raises(SystemExit, match=r"must have rows with the columns device, model|must be a readable CSV file"):
        jetson_profiles.rows([table], None)


def test_a_table_of_one_row_has_no_figures(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text(",".join(jetson_profiles.COLUMNS) + "\nnano,resnet18,fp16,1,11,tensorrt,somebody\n")
    found, _ = jetson_profiles.rows([table], None)
    assert jetson_profiles.study(found)["jetson-nano"] == {"shipped": {}, "without the board": {}}


@pytest.mark.data
def test_profiles_rank_published_nets(shared_data: Path) -> None:
    found, _ = jetson_profiles.rows([shared_data / "jetson" / "jetson_latency.csv"], None)
    for board in dict.fromkeys(row.board for row in found):
        own = [row for row in found if row.board == board]
        guess = [predict_roofline(row.net, row.profile).latency_ms for row in own]
        assert jetson_profiles.figures([row.published_ms for row in own], guess)["spearman"] > 0.95
