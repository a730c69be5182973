"""A report as one HTML file: interactive charts, tables that print, and no request to anywhere.

Text of users is escaped by the template and by Plotly. Beyond that, the page's security policy lets
a browser load nothing and run only the scripts that are written here, named by their hashes.
"""

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from dashboard.report.charts import Chart, charts
from dashboard.report.document import Report, report_json
from dashboard.report.sections import sections
from dashboard.report.words import title

TEMPLATE = "template.html.j2"
SCRIPT = re.compile(r"<script[^>]*>(.*?)</script>", re.DOTALL)
PLOTLY = {"displaylogo": False, "responsive": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A chart as HTML."""

    section: str
    name: str  # its identifier in the page
    title: str
    alt: str
    html: Markup


def html_text(report: Report) -> str:
    """The whole file, about 4.9 MB, nearly all of it Plotly."""
    drawn = [_drawn(chart, index) for index, chart in enumerate(charts(report))]
    hashes = {_hash(script) for chart in drawn for script in SCRIPT.findall(str(chart.html))}
    template = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(TEMPLATE)
    return template.render(
        title=title(report),
        report=report,
        sections=sections(report),
        charts=drawn,
        scripts=" ".join(sorted(hashes)) or "'none'",
        models=[
            (model["name"], json.dumps(model, indent=2, ensure_ascii=False))
            for model in report_json(report)["inputs"]["models"]
        ],
    )


def _drawn(chart: Chart, index: int) -> Drawn:
    """The first chart brings Plotly along; identifiers are fixed, so that reports can be equal."""
    name = f"chart-{index}"
    html = chart.figure.to_html(
        full_html=False,
        include_plotlyjs=index == 0,
        div_id=name,
        config=PLOTLY,
        default_height=f"{chart.figure.layout.height}px",
    )
    return Drawn(
        section=chart.section,
        name=name,
        title=chart.title,
        alt=chart.alt,
        html=Markup(html),  # noqa: S704 - Plotly writes < and > of any text as \u003c and \u003e
    )


def _hash(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"
