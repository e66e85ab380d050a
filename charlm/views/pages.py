"""The Jinja environment that renders all HTML pages; their templates stand beside this file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from charlm.views.svg import svg
from charlm.views.text import visible

if TYPE_CHECKING:
    from jinja2 import Environment


def page_environment() -> Environment:
    """Return the Jinja environment that renders all HTML pages.

    The environment escapes everything but the results of its filters `svg` and `code`. The filter
    `svg` turns a chart into an SVG element, `visible` makes the control characters of a text
    visible, and `code` formats the parts of a text that stand in backquotes as code.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup, escape

    from charlm import __version__

    environment = Environment(
        loader=PackageLoader("charlm.views", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.globals["version"] = __version__
    environment.filters["svg"] = lambda chart: Markup(svg(chart))
    environment.filters["visible"] = visible
    environment.filters["code"] = lambda text: Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))
    return environment
