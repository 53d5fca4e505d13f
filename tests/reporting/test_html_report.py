"""HTML report: one file without network access, and the provenance of every figure."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from nas.errors import ConfigError
from nas.reporting import plots
from nas.reporting.html_report import write_report
from nas.results.published_baseline import add_baselines
from tests.fake_baselines import some_baseline
from tests.fake_runs import CLASSES, a_run, a_search, some_latency, some_record


class Reader(HTMLParser):
    """Collects what a browser would load, and the text outside scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self._skip = 0

    def handle_starttag(self, tag, attrs) -> None:
        self.loaded += [v for k, v in attrs if k in {"src", "href", "srcset"}]
        self._skip += tag in {"script", "style"}
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag
        self._skip -= tag in {"script", "style"}

    def handle_data(self, data) -> None:
        if not self._skip:
            self.words.append(data)


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text())
    assert not reader.open
    return reader


def test_the_report_is_one_file_that_loads_nothing(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    path = write_report([folder], folder.path / "report.html")
    assert read(path).loaded == []
    assert "plotly.js v" in path.read_text()[:20_000]


def test_figures_are_shown_with_their_provenance(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    folder.write("importance.json", json.dumps({"accuracy": {"depth": 0.7}, "latency": {"depth": 0.9}}))
    words = " ".join(read(write_report([folder], folder.path / "report.html")).words)
    for said in (
        "Synthetic faces.",
        "Predicted latency.",
        "Verified front",
        "Dropped from the front",
        "trial 2 is +2.0 points of accuracy",
        f"nas export {folder.path} --trial 2",
        "Recall by class",
        "Confusion",
        "what a person feels",
        "prohibited",
        *CLASSES,
    ):
        assert said in words
    assert "Too few candidates" not in words


def test_a_measured_front_is_not_called_predicted(tmp_path: Path) -> None:
    records = [some_record(1, 0.5, 1.0, latency=some_latency(1.0, kind="measured", device="cpu"), host=None)]
    folder = a_run(tmp_path, records=records, target="cpu")
    folder.write("data.json", json.dumps({"name": "fer2013", "synthetic": False, "digest": "ab" * 32}))
    words = " ".join(read(write_report([folder], folder.path / "report.html")).words)
    assert "Predicted latency." not in words
    assert "Synthetic faces." not in words
    assert "measured" in words
    assert "Not verified yet" in words
    assert "Too few candidates" in words


def test_a_run_without_candidates_gives_a_report(tmp_path: Path) -> None:
    folder = a_run(tmp_path, records=[])
    words = " ".join(read(write_report([folder], folder.path / "report.html")).words)
    assert "No candidate is complete yet." in words


def test_outside_text_is_escaped(tmp_path: Path) -> None:
    nasty = "<script>alert(1)</script>"
    folder = a_run(tmp_path, records=[some_record(1, 0.5, 1.0, latency=some_latency(1.0, device=nasty))])
    folder.write("data.json", json.dumps({"name": nasty, "classes": [nasty, "b", "c"], "notes": [nasty]}))
    html = write_report([folder], folder.path / "report.html").read_text()
    assert nasty not in html
    assert "&lt;script&gt;alert(1)" in html


def test_several_runs_share_a_plot_and_an_axis(tmp_path: Path) -> None:
    one, two = a_run(tmp_path, name="one"), a_run(tmp_path, name="two", records=a_search()[:4])
    html = write_report([one, two], tmp_path / "both.html").read_text()
    assert "2 runs side by side" in html
    for name in ("one", "two"):
        assert re.search(rf'"name":\s*"search front, {name}"', html)


def test_runs_on_different_data_are_not_compared(tmp_path: Path) -> None:
    one, two = a_run(tmp_path, name="one"), a_run(tmp_path, name="two")
    one.write("data.json", json.dumps({"name": "a", "digest": "11"}))
    two.write("data.json", json.dumps({"name": "a", "digest": "22"}))
    with pytest.raises(ConfigError, match="must be on the same data"):
        write_report([one, two], tmp_path / "both.html")
    with pytest.raises(ConfigError, match="at least one run"):
        write_report([], tmp_path / "none.html")


def test_a_compression_shows_the_uncompressed_model_first_and_warns_of_lost_recall(tmp_path: Path) -> None:
    base = some_record(-1, 0.9, 6.0, phase="base", key_of=99, params=90_000, nonzero_params=90_000)
    folder = a_run(tmp_path / "runs", records=[base, *a_search()], model="resnet8")
    html = write_report([folder], folder.path / "report.html").read_text()
    text = re.sub(r"<[^>]+>", " ", html[html.index("<main>") :])
    assert "Recall lost to compression" in text
    assert re.search(r"uncompressed\s+90%\s+90%\s+90%", text)
    assert re.search(r"Trial 2\s*: angry -10.0 points \(90% to 80% of 100 faces\)", text)
    assert re.search(r"export\s+base\s+not compressed\s+90.0%", text)
    assert re.search(r"R [0-9.]+ of weights, [0-9.]+ of bytes", text)
    assert "nas export" in text
    assert "--trial base" in text


def test_a_search_of_architectures_has_no_compression_section(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "runs")
    assert "Recall lost to compression" not in write_report([folder], folder.path / "report.html").read_text()


def test_no_value_is_escaped_twice_and_no_markup_is_shown_as_text(tmp_path: Path) -> None:
    note = "a & b <c>"
    folder = a_run(tmp_path, records=[some_record(1, 0.5, 1.0, notes=(note,)), *a_search()[1:]])
    folder.write("data.json", json.dumps({"name": note, "classes": CLASSES, "notes": [note], "val_name": note}))
    folder.write("environment.json", json.dumps({note: note}))
    html = write_report([folder], folder.path / "report.html").read_text()
    words = " ".join(read(folder.path / "report.html").words)
    assert "&amp;amp;" not in html
    assert "&amp;lt;" not in html
    assert words.count(note) >= 5
    assert not re.search(r"</?(b|small|td|li|span|section|ul)>", words)


def test_a_long_search_is_drawn_thinned_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.reporting.front_section.MAX_CLOUD_POINTS", 10)
    behind = [some_record(i, 0.1 + 0.001 * i, 9.0) for i in range(3, 40)]
    folder = a_run(tmp_path, records=[*(some_record(i, 0.5 + 0.1 * i, 1.0 + i) for i in range(3)), *behind])
    text = write_report([folder], folder.path / "report.html").read_text()
    assert "dominated (10 of 37)" in text
    drawn = {int(trial) for trial in re.findall(r"trial (\d+)\\u003c", text)}
    assert {0, 1, 2, 3, 39} <= drawn, "the front, and both ends of the cloud"
    assert len(drawn) == 3 + 10


def test_a_long_step_curve_keeps_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    curve = {"run": [0.0, 0.0, 0.5, 0.5, 0.5, 0.75, 0.75]}
    assert '"x":[1,2,3,4,5,6,7]' in plots.step_plot(curve, x="candidates", y="share", name="curve")
    monkeypatch.setattr(plots, "MAX_EQUAL_STEPS", 6)
    assert '"x":[1,3,6,7],"y":[0.0,0.5,0.75,0.75]' in plots.step_plot(curve, x="candidates", y="share", name="curve")


def test_published_baselines_are_rows_and_points_that_are_marked_as_no_members(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    add_baselines(folder, [some_baseline(0.6, 3.0), some_baseline(0.6, 0.5, name="<fast>", params=None, macs=None)])
    html = write_report([folder], folder.path / "report.html").read_text()
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html[html.index("<main>") :]))
    assert re.search(r'"name":\s*"published"', html)
    assert re.search(r"mini published baseline not a member 60.0% .* 3 ms predicted 1.8 to 4.5; Jetson Orin Nano", text)
    assert "58,423 weights" in text
    assert "Trial 1 beats mini in both accuracy and latency: +5.0 percentage points" in text
    assert "No member of the front beats &lt;fast&gt; (60.0%, 0.5 ms predicted) in both accuracy and latency." in text
    assert "mini.onnx gets pixels scaled to -1..1" in text
    assert text.count("nas export") == 3  # one for each member
    assert re.search(r"published mini 60% 60% 60%", text)
    assert "published mini, 60.0%" in text
    assert "Crosses are published baselines" in text
    read(folder.path / "report.html")


def test_a_run_of_one_model_is_shown_beside_published_baselines(tmp_path: Path) -> None:
    base = some_record(-1, 0.9, 2.0, phase="base")
    folder = a_run(tmp_path, records=[base], model="resnet8")
    add_baselines(folder, [some_baseline(0.6, 3.0)])
    words = " ".join(read(write_report([folder], folder.path / "report.html")).words)
    assert "The star is the model of this run." in words
    assert "The model of this run beats mini" in words
    assert "Not verified yet" not in words
    assert "Recall by class" in words


def test_baselines_alone_are_shown_before_any_candidate_is_complete(tmp_path: Path) -> None:
    folder = a_run(tmp_path, records=[])
    add_baselines(folder, [some_baseline()])
    words = " ".join(read(write_report([folder], folder.path / "report.html")).words)
    assert "mini is not compared, because no member has both accuracy and latency yet." in words
