"""The pipeline: what a candidate goes through, what is trained when, and that every figure is the file's."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import nas.pipeline
import nas.stopwatch
import nas.trainer
from nas import registry
from nas.candidate import Candidate, decode
from nas.compression import Compression
from nas.compressors._base import Context
from nas.data._base import FaceData
from nas.errors import ConfigError, ExportError, TrainError
from nas.execution import Execution
from nas.gain import Gain
from nas.measure import Measurement
from nas.pipeline import Draft, Evaluator
from nas.records import Record
from nas.targets import target
from nas.trainer import DRAFT_IMAGES, Cycle
from search_spaces._base import Value
from tests.fake_runs import a_run
from tests.tiny_search import Killed, Training, accuracy, after, make_quick, probabilities, session

SMALL: dict[str, Value] = {
    "stem_width": 8, "stem_stride": 2, "input_size": 40, "activation": "relu", "attention": "none",
    "stage1.depth": 1, "stage1.width": 16, "stage1.block": "dense", "stage1.down": "none",
    "stage2.depth": 1, "stage2.width": 32, "stage2.block": "residual", "stage2.down": "stride",
    "stage3.depth": 1, "stage3.width": 32, "stage3.block": "residual", "stage3.down": "none",
    "stage4.depth": 0, "stage4.width": 8, "stage4.block": "dense", "stage4.down": "none",
}  # fmt: skip
RUNGS = (0.25, 0.5, 1.0)
Make = Callable[..., Evaluator]


@pytest.fixture(autouse=True)
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Training]:
    return make_quick(monkeypatch)


def an_evaluator(place: Path, data: FaceData, **fields: Any) -> Evaluator:
    config = {"target": "jetson", "max_latency": None, "epochs": 2, "rungs": RUNGS, "threads": 1} | fields
    folder = a_run(place, records=[], **config)
    return Evaluator(
        config=folder.config, folder=folder, space=registry.load("space", "plain"), digest="d" * 64, data=data,
        profile=target(folder.config.target), host=target("cpu"), runtime=registry.load("runtime", "onnxruntime"),
        compression=Compression(
            members=[registry.load("compressor", name) for name in folder.config.compressors],
            profile=target(folder.config.target),
        ),
    )  # fmt: skip


@pytest.fixture
def make(tmp_path: Path, faces: FaceData) -> Callable[..., Evaluator]:
    """A builder of evaluators: `make("place", data=faces, **fields of the configuration)`."""
    return lambda place="run", data=faces, **fields: an_evaluator(tmp_path / place, data, **fields)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, faces: FaceData) -> Record:
    """The record of the small candidate when nothing happens on the way."""
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        return evaluate(an_evaluator(tmp_path_factory.mktemp("undisturbed"), faces))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, make_faces: Callable[..., FaceData]) -> Evaluator:
    """An evaluator that has trained the small candidate until it knows these faces; they have a test split too."""
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        objectives = ("accuracy", "latency", "size")  # a smaller file is a gain: 8 bits need not be faster
        evaluator = an_evaluator(
            tmp_path_factory.mktemp("trained"), make_faces(test=24), epochs=30, objectives=objectives
        )
        evaluator.folder.append(evaluate(evaluator))
        return evaluator


def small(**genes: Value) -> Candidate:
    picked = SMALL | {f"{gene.replace('_of_', '.')}": value for gene, value in genes.items()}
    return decode(registry.load("space", "plain"), picked, channel_multiple=8, precisions=(8, 16, 32))


def place_of(step: str) -> ModuleType:
    """The module that takes a step of the flow."""
    return next(m for m in (nas.trainer, nas.stopwatch, nas.pipeline) if hasattr(m, step))


def always(rung: int, accuracy: float, draft: Draft) -> bool:
    return True


def never(rung: int, accuracy: float, draft: Draft) -> bool:
    return False


def evaluate(evaluator: Evaluator, candidate: Candidate | None = None, **more: Any) -> Record:
    return evaluator.evaluate(candidate or small(), **({"trial": 0, "promote": always} | more))


def fields_of(record: Record) -> dict[str, Any]:
    """What two evaluations of one candidate must share: all but clocks and processes."""
    fields: dict[str, Any] = json.loads(record.to_json())
    return {k: v for k, v in fields.items() if k not in ("host", "seconds", "worker", "finished")}


@pytest.mark.parametrize("decomposition", ["tucker", "cp"])
def test_zeros_in_a_factorised_and_pruned_net_outlast_each_training(make: Make, decomposition: str) -> None:
    compressors = ("prune_structured", "low_rank", "prune_unstructured", "quantize")
    evaluator = make(target="cpu", compressors=compressors)
    genes = {"rank.stage2": 0.5, "rank.stage3": 0.5, "decomposition": decomposition, "sparsity.stage2": 0.25}
    wanted = {"zeros.stage2": 0.75, "zeros.stage3": 0.9, "zeros_scope": "layer"}
    candidate = evaluator.compression.decode(evaluator.space, SMALL | genes | wanted)
    draft = evaluator.draft(candidate)
    record = evaluate(evaluator, candidate)
    verified = evaluator.verify(record, epochs=1)[-1]
    assert [(r.status, r.reason) for r in (record, verified)] == [("complete", "")] * 2
    full = evaluator.draft(evaluator.compression.decode(evaluator.space, SMALL | wanted))
    assert record.params == verified.params == draft.costs.params < full.costs.params
    fresh_biases = record.nonzero_params - draft.costs.nonzero_params  # zero before any training
    assert 0 <= fresh_biases < 200
    assert record.nonzero_params == verified.nonzero_params < 0.6 * record.params


@pytest.mark.parametrize("bits", [32, 16, 8])
def test_every_figure_is_the_files(trained: Evaluator, trainings: list[Training], bits: int) -> None:
    evaluator, faces, candidate = trained, trained.data, small(bits_of_stage1=bits, bits_of_stage2=bits)
    weights = evaluator.folder.path / "checkpoints"
    (weights / f"{candidate.key}-3.pt").write_bytes((weights / f"{small().key}-3.pt").read_bytes())
    record = evaluate(evaluator, candidate, trial=7)
    assert trainings == []
    assert (record.status, record.reason, record.trial, record.key) == ("complete", "", 7, candidate.key)
    assert record.score is not None
    assert record.latency is not None
    assert record.host is not None

    file = evaluator.folder.path / record.model
    assert record.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert record.size_bytes == file.stat().st_size
    assert record.score.accuracy == pytest.approx(accuracy(file, faces))
    assert record.score.accuracy > 0.6, "these faces are learned in thirty steps"
    assert record.score.low <= record.score.accuracy <= record.score.high
    assert np.sum(record.score.confusion) == record.score.n == len(faces.val)
    shares = probabilities(file, faces.val.images)
    assert shares.shape == (48, 3)
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-3)
    assert record.parity["n"] == 48
    assert record.parity["agreement"] > 0.9
    assert (record.latency.kind, record.host.kind) == ("predicted", "measured")
    assert record.latency.low_ms <= record.latency.latency_ms <= record.latency.high_ms
    assert (record.rung, record.epochs) == (3, 30.0)
    assert record.accuracy_split == "val (val, synthetic faces)"
    assert record.test is None, "a candidate of the search never sees the test split"

    told = session(file).get_modelmeta().custom_metadata_map
    assert json.loads(told["labels"]) == ["angry", "happy", "sad"]
    assert Candidate.from_json(told["candidate"]) == candidate
    assert (told["key"], told["dataset"], told["dataset_digest"]) == (candidate.key, "spots", "d" * 64)
    assert json.loads(told["synthetic"]) is True
    assert float(told["trained_epochs"]) == 30.0


def test_a_local_target_is_measured(make: Callable[..., Evaluator]) -> None:
    record = evaluate(make(target="cpu"), promote=never)
    assert record.latency is not None
    assert record.latency == record.host
    assert (record.latency.kind, record.latency.runs) == ("measured", 20)


def test_drafts_leave_no_file_behind(make: Callable[..., Evaluator], monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = make()
    draft = evaluator.draft(small())
    assert draft.size_bytes > draft.costs.params > 0
    assert draft.host is None

    def fails(*_: Any, **__: Any) -> None:
        raise ExportError("no")

    monkeypatch.setattr(nas.pipeline, "costs", fails)
    with pytest.raises(ExportError, match="no"):
        evaluator.draft(small())
    assert list((evaluator.folder.path / "models").iterdir()) == []


@pytest.mark.parametrize(("limits", "built"), [({}, 2), ({"max_size": 1e3}, 1), ({"max_latency": 1e-4}, 1)])
def test_the_float_twin_of_what_breaks_a_limit_is_not_even_built(
    make: Make, monkeypatch: pytest.MonkeyPatch, limits: dict[str, float], built: int
) -> None:
    evaluator, graphs = make(target="cpu", **limits), []
    graph = nas.trainer.Trainer.graph

    def counted(*arguments: Any, **more: Any) -> Any:
        graphs.append(more)
        return graph(*arguments, **more)

    monkeypatch.setattr(nas.trainer.Trainer, "graph", counted)
    draft = evaluator.draft(small(bits_of_stage1=8))
    assert [more["shapes_only"] for more in graphs] == [True] * built
    assert (draft.gain is not None) == (built == 2)


def test_a_candidate_enters_the_front_where_no_member_is_as_good_in_everything(make: Make) -> None:
    evaluator = make()
    record = evaluate(evaluator)
    evaluator.folder.append(record)
    score, latency = record.score, record.latency
    assert score is not None
    assert latency is not None
    for share, enters in ((1.1, False), (0.9, True)):
        other = replace(latency, latency_ms=share * latency.latency_ms)
        assert evaluator._enters(record, score, other) == enters


@pytest.mark.parametrize(("limit", "objective"), [("max_latency", "latency"), ("max_size", "size")])
def test_what_breaks_a_cheap_constraint_is_never_trained(
    make: Callable[..., Evaluator], trainings: list[Training], limit: str, objective: str
) -> None:
    evaluator = make(**{limit: 0.01})
    record = evaluate(evaluator)
    value = record.objective(objective)
    assert value is not None
    assert record.status == "infeasible"
    assert record.violations == {limit: pytest.approx(value / 0.01 - 1)}
    assert record.reason.startswith(f"{limit} ")
    assert (record.score, record.model, record.epochs) == (None, "", 0.0)
    assert record.size_bytes is not None
    assert record.macs is not None
    assert trainings == []
    assert not list((evaluator.folder.path / "models").iterdir())
    assert not list((evaluator.folder.path / "checkpoints").iterdir())


def test_accuracy_is_judged_when_it_is_known(make: Callable[..., Evaluator], trainings: list[Training]) -> None:
    record = evaluate(make(min_accuracy=1.0, epochs=0.5))
    assert record.score is not None
    assert record.score.accuracy < 1
    assert record.status == "infeasible"
    assert record.violations == {"min_accuracy": pytest.approx(1 - record.score.accuracy)}
    assert len(trainings) == 3


def test_rungs_share_the_epochs_and_promotion_is_asked_between_them(
    make: Callable[..., Evaluator], trainings: list[Training]
) -> None:
    asked = []

    def promote(rung: int, accuracy: float, draft: Draft) -> bool:
        asked.append((rung, accuracy, draft.latency.latency_ms))
        return True

    evaluator = make()
    record = evaluate(evaluator, promote=promote)
    assert [t.epochs for t in trainings] == [0.5, 0.5, 1.0]
    assert len({t.seed for t in trainings}) == 3
    assert [rung for rung, _, _ in asked] == [1, 2]
    assert all(0 <= accuracy <= 1 for _, accuracy, _ in asked)
    assert {latency for _, _, latency in asked} == {record.objective("latency")}
    assert [p.name for p in (evaluator.folder.path / "checkpoints").glob("*.pt")] == [f"{record.key}-3.pt"]


def test_each_rung_goes_on_from_what_was_learned(make: Callable[..., Evaluator], trainings: list[Training]) -> None:
    evaluator = make()
    evaluate(evaluator, promote=never)
    kept = torch.load(evaluator.folder.path / "checkpoints" / f"{small().key}-1.pt", weights_only=True)
    evaluate(evaluator)
    first, second, _ = trainings
    assert all(torch.equal(kept[name], second.before[name]) for name in kept)
    assert not all(torch.equal(kept[name], first.before[name]) for name in kept)


def test_a_candidate_that_is_not_promoted_stops_there_and_is_finished(
    make: Callable[..., Evaluator], trainings: list[Training]
) -> None:
    evaluator = make()
    record = evaluate(evaluator, promote=lambda rung, *_: rung < 2)
    assert (record.status, record.rung, record.epochs) == ("complete", 2, 1.0)
    assert len(trainings) == 2
    assert (evaluator.folder.path / record.model).exists()
    assert (evaluator.folder.path / "checkpoints" / f"{record.key}-2.pt").exists(), "what it learned is kept"


def test_at_the_deadline_a_candidate_ends_with_its_rung(make: Callable[..., Evaluator]) -> None:
    record = evaluate(make(), deadline=lambda: True)
    assert (record.status, record.rung) == ("complete", 1)


def test_a_pruned_candidate_learns_wide_first_and_ships_slim(
    make: Callable[..., Evaluator], trainings: list[Training]
) -> None:
    candidate = small(sparsity_of_stage2=0.75)
    assert candidate.pruned["stage2"] < candidate.widths["stage2"]
    evaluator = make()
    record = evaluate(evaluator, candidate, promote=never)
    assert [t.epochs for t in trainings] == [0.25, 0.125, 0.125], "half in full, then two steps that share the rest"
    between = {**candidate.widths, "stage2": 16}
    sizes = [
        sum(p.numel() for p in evaluator.trainer.build(candidate, widths).parameters())
        for widths in (candidate.widths, between, candidate.pruned)
    ]
    assert [t.params for t in trainings] == sizes
    assert len({t.seed for t in trainings}) == 3, "each part sees the faces in another order"
    unpruned = evaluate(make("other"), promote=never)
    assert record.params is not None
    assert unpruned.params is not None
    assert record.params < unpruned.params
    assert record.key != unpruned.key


@pytest.mark.parametrize(
    ("name", "calls"),
    [("train", 0), ("train", 1), ("train", 2), ("predict", 1), ("export", 1), ("score", 0), ("measure", 0)],
)
def test_a_process_may_die_anywhere_and_the_record_is_the_same(
    make: Callable[..., Evaluator],
    undisturbed: Record,
    trainings: list[Training],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    calls: int,
) -> None:
    evaluator = make()
    with monkeypatch.context() as patch:
        place = place_of(name)
        patch.setattr(place, name, after(calls, getattr(place, name)))
        with pytest.raises(Killed):
            evaluate(evaluator)
    again = evaluate(evaluator)
    assert fields_of(again) == fields_of(undisturbed), "also the file is the same, byte for byte"
    assert len(trainings) == len(RUNGS), "no rung that was finished is trained again"


def test_promotion_is_asked_again_if_the_process_died_before_the_answer_counted(
    make: Callable[..., Evaluator], trainings: list[Training]
) -> None:
    asked = []

    def dies(rung: int, accuracy: float, draft: Draft) -> bool:
        asked.append((rung, accuracy))
        raise Killed

    def refuses(rung: int, accuracy: float, draft: Draft) -> bool:
        asked.append((rung, accuracy))
        return False

    evaluator = make()
    with pytest.raises(Killed):
        evaluate(evaluator, promote=dies)
    assert evaluate(evaluator, promote=refuses).rung == 1
    assert asked[0] == asked[1]
    assert len(trainings) == 1


def test_the_order_of_evaluation_changes_nothing(make: Callable[..., Evaluator]) -> None:
    one, other = small(), small(stem_width=16)
    forward, backward = make("forward"), make("backward")
    first = [evaluate(forward, c, promote=never) for c in (one, other)]
    second = [evaluate(backward, c, promote=never) for c in (other, one)]
    assert [r.sha256 for r in first] == [r.sha256 for r in reversed(second)]
    assert evaluate(make("another seed", seed=1), promote=never).sha256 != first[0].sha256


@pytest.mark.parametrize(
    ("step", "error", "reason"),
    [
        ("export", ExportError("the checker\nrefuses it"), "the checker refuses it"),
        ("train", TrainError("the loss must be finite"), "the loss must be finite"),
        ("score", RuntimeError("out of\n memory"), "RuntimeError: out of memory"),
    ],
)
def test_what_goes_wrong_is_in_the_record(
    make: Callable[..., Evaluator],
    undisturbed: Record,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    error: Exception,
    reason: str,
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise error

    evaluator = make()
    monkeypatch.setattr(place_of(step), step, fails)
    for record in (evaluate(evaluator), *evaluator.verify(undisturbed, epochs=1)):
        assert (record.status, record.reason) == ("failed", reason)
        assert record.score is None
        assert record.finished
    assert record.phase == "verified"


def test_what_a_user_did_wrong_is_raised(make: Callable[..., Evaluator], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise ConfigError("device cuda must be present")

    monkeypatch.setattr(nas.trainer, "train", fails)
    with pytest.raises(ConfigError, match="device cuda"):
        evaluate(make())


def test_verification_goes_on_from_the_search_and_reads_all_figures_anew(
    trained: Evaluator, trainings: list[Training]
) -> None:
    evaluator, found = trained, trained.folder.records()[0]
    kept = torch.load(evaluator.folder.path / "checkpoints" / f"{found.key}-3.pt", weights_only=True)
    (record,) = evaluator.verify(found, epochs=2)
    assert (record.phase, record.status, record.trial, record.rung) == ("verified", "complete", 0, 3)
    assert record.epochs == 30 + 2
    (training,) = trainings
    assert training.epochs == 2
    assert all(torch.equal(kept[name], training.before[name]) for name in kept)
    file = evaluator.folder.path / record.model
    assert record.model != found.model
    assert (evaluator.folder.path / found.model).exists(), "the search's own file stays"
    assert record.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert record.score is not None
    assert record.score.accuracy == pytest.approx(accuracy(file, evaluator.data))
    assert record.test is not None
    assert record.test.n == 24


def test_verification_without_weights_trains_all_epochs(
    make: Callable[..., Evaluator], trainings: list[Training]
) -> None:
    evaluator = make()
    found = evaluate(evaluator, promote=never)
    (evaluator.folder.path / "checkpoints" / f"{found.key}-1.pt").unlink()
    (record,) = evaluator.verify(found, epochs=1)
    assert record.epochs == trainings[-1].epochs == 1.5


def test_calibration_uses_training_images_from_the_whole_set(
    make: Callable[..., Evaluator], faces: FaceData, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator, seen = make(), []
    quantize = registry.load("compressor", "quantize")
    on_graph = type(quantize).on_graph

    def noting(self: Any, graph: Any, context: Context) -> Any:
        seen.append(context.images)
        assert context.profile.activation_signed, "as the target wants it"
        return on_graph(self, graph, context)

    monkeypatch.setattr(type(quantize), "on_graph", noting)
    evaluate(evaluator, promote=never)
    draft, final = seen
    assert (len(draft), len(final)) == (DRAFT_IMAGES, len(faces.train))
    train = {image.tobytes() for image in faces.train.images}
    assert all(image.tobytes() in train for image in (*draft, *final))
    assert (draft[0] == faces.train.images[0]).all()
    assert (draft[-1] == faces.train.images[-1]).all()


@pytest.mark.parametrize(("device", "kept", "again"), [("auto", "cpu", True), ("cpu", "cuda", False)])
def test_the_form_of_training_is_kept_unless_another_device_is_asked_for(
    make: Callable[..., Evaluator], monkeypatch: pytest.MonkeyPatch, device: str, kept: str, again: bool
) -> None:
    evaluator = make(device=device)
    file = evaluator.folder.path / "checkpoints" / f"{small().key}-execution.json"
    file.write_text(json.dumps(asdict(Execution(device=kept, memory_format="channels_last", threads=2))))
    seen = []
    train = nas.trainer.train

    def noting(*arguments: Any, execution: Execution, **more: Any) -> Any:
        seen.append(execution)
        return train(*arguments, execution=execution, **more)

    monkeypatch.setattr(nas.trainer, "train", noting)
    assert evaluate(evaluator, promote=never).status == "complete"
    assert seen == [Execution(memory_format="channels_last", threads=2) if again else Execution()]


@pytest.mark.parametrize(
    ("epochs", "had", "wanted"), [(5.0, 0.0, 1.0), (60.0, 4.0, 1.0), (2.0, 3.0, 1 / 3), (0.1, 9.0, 0.2)]
)
def test_a_short_cycle_after_a_long_one_learns_slower(epochs: float, had: float, wanted: float) -> None:
    assert Cycle(what="", stage=0, epochs=epochs, had=had).lr_scale == pytest.approx(wanted)


def test_a_rung_that_the_clock_ends_says_how_far_it_came_and_is_no_finished_rung(
    make: Callable[..., Evaluator], trainings: list[Training]
) -> None:
    evaluator = make()
    found = evaluate(evaluator, stop=lambda: True)
    assert (found.status, found.rung, len(trainings)) == ("complete", 1, 1)
    assert found.epochs < trainings[0].epochs
    assert evaluator.trainer.resume(found.candidate) == (None, 0)


def paying(own: Measurement, twin: Measurement) -> Gain:
    return Gain(speedup=2, low=1.9, high=2.1, twin_ms=2, own_ms=1, kind=own.kind)


def losing(own: Measurement, twin: Measurement) -> Gain:
    return Gain(speedup=1.01, low=0.8, high=1.2, twin_ms=1.01, own_ms=1, kind=own.kind)


def test_a_net_that_8_bits_make_no_faster_is_not_trained(
    make: Callable[..., Evaluator], trainings: list[Training], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nas.pipeline, "gain", losing)
    record = evaluate(make(target="cpu"), small(bits_of_stage2=8))
    assert (record.status, record.violations) == ("infeasible", {"no_gain": pytest.approx(0.25)})
    assert record.reason == "8 bits: no gain: 1 ms against 1.01 ms of its float twin, measured"
    assert not trainings


def test_a_net_that_8_bits_make_faster_goes_on(make: Callable[..., Evaluator], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nas.pipeline, "gain", paying)
    record = evaluate(make(), small(bits_of_stage2=8))
    assert record.status == "complete"
    assert record.gain == paying(record.latency, record.latency)  # type: ignore[arg-type]
    assert Record.from_json(record.to_json()).gain == record.gain


def test_nets_in_float_have_no_twin(make: Callable[..., Evaluator]) -> None:
    assert evaluate(make(), promote=never).gain is None


def test_verified_8_bit_nets_that_gain_nothing_lose_their_place_to_the_float_twin(
    make: Callable[..., Evaluator], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = make(qat=0)
    monkeypatch.setattr(nas.pipeline, "gain", paying)
    found = evaluate(evaluator, small(bits_of_stage2=8))
    monkeypatch.setattr(nas.pipeline, "gain", losing)
    twin, record = evaluator.verify(found, epochs=0.5)
    assert (record.status, twin.status) == ("infeasible", "complete")
    assert (record.key, twin.candidate) == (found.key, small(bits_of_stage2=16))
    assert twin.notes == (f"in the place of {found.key}, whose 8-bit units gain nothing",)
    assert record.before is not None
    assert twin.score is not None
    assert record.before.accuracy == twin.score.accuracy, "both are of the same weights in float"


def test_quantised_training_is_kept_where_it_is_better(
    make: Callable[..., Evaluator], trainings: list[Training], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = make(qat=0.5)
    monkeypatch.setattr(nas.pipeline, "gain", paying)
    found = evaluate(evaluator, small(bits_of_stage2=8))
    before = len(trainings)
    (record,) = evaluator.verify(found, epochs=1)
    assert [t.epochs for t in trainings[before:]] == [1, 1.5], "half of the three epochs that it had"
    (note,) = record.notes
    assert "8 bits" in note
    assert record.status == "complete"
