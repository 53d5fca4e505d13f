"""Jinja2 environment of the HTML report: templates from nas/reporting/templates, every value escaped.

Sections compute plain data, templates turn it into markup. Only the output of a template and the plots of plotly are
markup already; both are marked as such, so nothing is escaped twice and nothing else stays unescaped.
"""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render(template: str, **data: object) -> Markup:
    """The markup of one template of nas/reporting/templates.

    Args:
        template: file name in that folder.
        data: variables of the template. Text is escaped, `Markup` is taken as it is.

    Returns:
        Markup, which another template can hold.

    Raises:
        jinja2.UndefinedError: the template needs a variable that `data` lacks.
    """
    return Markup(_environment().get_template(template).render(data))  # noqa: S704  autoescape made it safe


@cache
def _environment() -> Environment:
    # Without auto_reload a template is not looked up on the disk again for each of thousands of points in a plot.
    return Environment(
        loader=PackageLoader("nas.reporting"), autoescape=True, undefined=StrictUndefined, auto_reload=False,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
