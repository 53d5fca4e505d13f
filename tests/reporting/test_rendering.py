"""Templates of the report: text is escaped, markup is not, and a missing variable is an error."""

from importlib import resources

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from nas.reporting.rendering import render


def test_text_is_escaped_and_markup_is_kept() -> None:
    page = render("plot.html", title="a < b", note="c & d", plot=Markup("<i>e</i>"))
    assert "<h2>a &lt; b</h2>" in page
    assert "c &amp; d" in page
    assert "<i>e</i>" in page


def test_rendered_markup_can_be_part_of_another_template() -> None:
    inner = render("hover.html", title="trial 7", lines=["x < y", "z"])
    assert inner == "<b>trial 7</b> x &lt; y<br>z"
    assert "x &lt; y<br>z" in render("plot.html", title="", note="", plot=inner)


def test_a_missing_variable_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'note' is undefined"):
        render("plot.html", title="a", plot="")


def test_no_template_switches_escaping_off() -> None:
    for template in resources.files("nas.reporting").joinpath("templates").iterdir():
        text = template.read_text()
        assert "|safe" not in text.replace(" ", "")
        assert "autoescape" not in text
