"""A report as one HTML file: interactive charts, tables that print, and no request to anywhere.

Text of users is escaped by the template, and in the charts' data. Beyond that, the page's security
policy lets a browser load nothing and run two scripts only, named by their hashes: `charts.js`, and
plotly.js, its bundle of bars and lines, which stands packed in the page (`plotly-basic.min.js` is
the file `dist/plotly-basic.min.js` of plotly.js 4.1.1, unchanged; NOTICE has its licence).
"""

import base64
import gzip
import hashlib
import json
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from dashboard.report.charts import Chart, charts
from dashboard.report.document import Report, report_json
from dashboard.report.sections import sections
from dashboard.report.verdict import verdict
from dashboard.report.words import Section, title

HERE = Path(__file__).parent
TEMPLATE = "template.html.j2"
USUAL_BYTES = 1_500_000  # what a report with two models, two batches and recordings stays below
CONFIG = {"displaylogo": False, "responsive": True}  # of every chart


def html_text(report: Report) -> str:
    """The whole file: some 0.5 MB of plotly.js, packed, and the report's own text and charts."""
    drawn = charts(report)
    draw = (HERE / "charts.js").read_text()
    template = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FileSystemLoader(HERE),
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(TEMPLATE)
    parts = sections(report)
    data = _charts_data(drawn)
    page = partial(
        template.render,
        title=title(report),
        verdict=verdict(report),
        report=report,
        sections=parts,
        charts=[(_name(index), chart) for index, chart in enumerate(drawn)],
        hashes=" ".join(map(_hash, (draw, plotly()))) if drawn else "'none'",
        packed=packed_plotly() if drawn else "",
        data=data,
        draw=Markup(draw),  # noqa: S704 - a file of ours
        models=[
            (model["name"], json.dumps(model, indent=2, ensure_ascii=False))
            for model in report_json(report)["inputs"]["models"]
        ],
    )
    text = page(why_large="")
    size_bytes = len(text.encode())
    if size_bytes <= USUAL_BYTES:
        return text
    charts_bytes = len(data.encode()) + (len(packed_plotly()) if drawn else 0)
    return page(why_large=_why_large(size_bytes, charts_bytes, parts))


def _why_large(size_bytes: int, charts_bytes: int, parts: Sequence[Section]) -> str:
    """Why a page is larger than usual: what its charts take, and how many rows its tables have."""
    rows = {
        part.title: sum(len(each.rows) for each in (*part.tables, *part.folded)) for part in parts
    }
    most = max(rows, key=lambda name: rows[name])
    return (
        f"This file has {size_bytes / 1e6:.1f} MB, more than the {USUAL_BYTES / 1e6:g} MB of a"
        f" usual report: {charts_bytes / 1e6:.1f} MB are charts that work offline, the rest text"
        f" and {sum(rows.values()):,} rows of tables, {rows[most]:,} of them under {most}. Fewer"
        " models, batches, contexts or recordings make it smaller."
    )


@cache
def plotly() -> str:
    """The source of plotly.js that a report holds: its bundle of scatter, bar and pie charts."""
    return (HERE / "plotly-basic.min.js").read_text(encoding="utf-8")


@cache
def packed_plotly() -> str:
    """The same as gzip in base64, a third of its size."""
    return base64.b64encode(gzip.compress(plotly().encode(), mtime=0)).decode()


def _name(index: int) -> str:
    """A chart's identifier in the page: fixed, so that reports can be equal."""
    return f"chart-{index}"


def _charts_data(drawn: Sequence[Chart]) -> Markup:
    """Data and layout of each chart as JSON, in which no tag can end or begin."""
    figures = [json.loads(chart.figure.to_json()) for chart in drawn]
    data = {
        "config": CONFIG,
        "charts": [
            {"name": _name(index), "data": figure["data"], "layout": figure["layout"]}
            for index, figure in enumerate(figures)
        ],
    }
    text = json.dumps(data, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e"))  # noqa: S704 - no tag


def _hash(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"
