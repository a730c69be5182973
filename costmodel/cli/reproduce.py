"""The command `sparsecost reproduce`: numbers that papers and model cards print, beside ours."""

from dataclasses import asdict

from costmodel.cli.options import JsonOpt, MarkdownOpt
from costmodel.cli.output import print_output

EPILOG = "Example: sparsecost reproduce"


def reproduce(*, as_json: JsonOpt = False, as_markdown: MarkdownOpt = False) -> None:
    """Published and hand-derived numbers beside ours, each with its convention."""
    from costmodel.questions.published.reproduce import reproduced
    from costmodel.show.tables.published import reproduced_table

    targets = reproduced()
    print_output(
        as_json=as_json,
        as_markdown=as_markdown,
        data=lambda: [asdict(target) for target in targets],
        tables=lambda: [reproduced_table(targets)],
    )
