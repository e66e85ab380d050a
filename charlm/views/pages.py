"""What the pages share: the templates beside this file, and how text and charts get into them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from charlm.views.svg import svg
from charlm.views.text import visible

if TYPE_CHECKING:
    from jinja2 import Environment


def page_environment() -> Environment:
    """Jinja for pages: everything is escaped but what the filters `svg` and `code` return.

    `chart | svg` is the element of a chart, `text | visible` a text whose control characters are visible, and
    `text | code` a sentence with what stands in backquotes as code.
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
