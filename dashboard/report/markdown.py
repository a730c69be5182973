"""A report as GitHub-flavoured Markdown: the same sections and numbers, no charts."""

from costmodel.show.text import Table, markdown
from dashboard.report.document import Report
from dashboard.report.sections import sections
from dashboard.report.verdict import verdict
from dashboard.report.words import title


def markdown_text(report: Report) -> str:
    """The report; what users wrote opens no tag, no cell and no link."""
    lines = ["# Cost report", "", markdown([_told(title(report), (verdict(report),))])]
    for section in sections(report):
        lines += [f"## {section.title}", ""]
        if section.lead:
            lines.append(markdown([_told("In words", section.lead)]))
        tables = (*section.tables, *section.folded)
        if tables:
            lines.append(markdown(tables))
    return "\n".join(lines)


def _told(heading: str, notes: tuple[str, ...]) -> Table:
    return Table(title=heading, headers=(), rows=(), notes=notes)
