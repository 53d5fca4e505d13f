"""`nas data check` on synthetic faces."""

from typer.testing import CliRunner

from nas.cli.main import app
from tests.shown import plain


def test_data_check_counts_images_by_class(run: CliRunner, monkeypatch, faces) -> None:
    monkeypatch.setattr("nas.data.loading.load_data", lambda name, path, options: faces)
    words = plain(run.invoke(app, ["data", "check", "spots"]).stdout)
    assert "angry 32 (33.3%) 16 (33.3%)" in words
    assert "all 96 48" in words
    assert f"digest {faces.digest}" in words
