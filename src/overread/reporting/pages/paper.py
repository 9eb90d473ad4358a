"""What every page is printed on: the templates, which escape everything and refuse what is not there."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import overread

TEMPLATES = Path(__file__).parent.parent / "templates"


def environment() -> Environment:
    """Templates with the style sheet; a figure's SVG is the only text set as it stands."""
    found = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
                        trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    found.globals["css"] = Markup((TEMPLATES / "report.css").read_text(encoding="utf-8"))
    found.globals["Markup"] = Markup
    found.globals["version"] = overread.__version__
    return found
