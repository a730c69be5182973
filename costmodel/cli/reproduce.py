"""The command `sparsecost reproduce`: what others print, or measured, beside what we compute."""

from dataclasses import asdict
from typing import Annotated

import typer

from costmodel.cli.options import CsvOpt, ForceOpt, JsonOpt, MarkdownOpt
from costmodel.cli.output import csv_file, print_output
from costmodel.errors import InputError
from costmodel.inputs.output_file import OutputFile

EPILOG = "Example: sparsecost reproduce --claims"


def reproduce(
    *,
    public: Annotated[
        bool,
        typer.Option(
            "--public",
            help="Times of whole models that others measured, beside the roofline bound of the same"
            " step, and the prediction where there is one: the share that engines reach, by model,"
            " engine and GPUs, and by batch.",
        ),
    ] = False,
    claims: Annotated[
        bool,
        typer.Option(
            "--claims",
            help="What the UltraMemV2 paper claims and its reviewers ask, each with computed and"
            " measured figures and the verdict that follows from them.",
        ),
    ] = False,
    held_out: Annotated[
        bool,
        typer.Option(
            "--held-out",
            help="How accurate predictions are: models that were predicted before an H200 measured"
            " them, with errors, intervals and every step.",
        ),
    ] = False,
    as_json: JsonOpt = False,
    csv: CsvOpt = None,
    force: ForceOpt = False,
    as_markdown: MarkdownOpt = False,
) -> None:
    """Published and hand-derived numbers beside ours, each with its convention."""
    named = {"--public": public, "--claims": claims, "--held-out": held_out}
    given = [option for option, is_given in named.items() if is_given]
    if len(given) > 1:
        raise InputError(f"{given[1]}: goes without {given[0]}; each is an answer of its own")
    file = csv_file(csv, force=force, as_json=as_json, as_markdown=as_markdown)
    answers = {"--public": _measured, "--claims": _claimed, "--held-out": _held_out}
    answer = answers[given[0]] if given else _printed
    answer(as_json=as_json, as_markdown=as_markdown, csv=file)


def _printed(*, as_json: bool, as_markdown: bool, csv: OutputFile | None) -> None:
    """Numbers that papers and model cards print."""
    from costmodel.questions.published.reproduce import reproduced
    from costmodel.show.tables.published import reproduced_table

    targets = reproduced()
    print_output(
        as_json=as_json,
        as_markdown=as_markdown,
        csv=csv,
        data=lambda: [asdict(target) for target in targets],
        records=lambda: (asdict(target) for target in targets),
        tables=lambda: [reproduced_table(targets)],
    )


def _claimed(*, as_json: bool, as_markdown: bool, csv: OutputFile | None) -> None:
    """Claims of the paper and points of its reviewers."""
    from costmodel.questions.claims.answers import answers
    from costmodel.show.claims_json import claims_json, claims_records
    from costmodel.show.tables.claims import claims_tables

    print_output(
        as_json=as_json,
        as_markdown=as_markdown,
        csv=csv,
        data=lambda: claims_json(answers()),
        records=lambda: claims_records(answers()),
        tables=lambda: claims_tables(answers()),
    )


def _held_out(*, as_json: bool, as_markdown: bool, csv: OutputFile | None) -> None:
    """Held-out steps, predicted and measured."""
    from costmodel.questions.claims.held_out import held_out
    from costmodel.show.tables.held_out import held_out_tables

    print_output(
        as_json=as_json,
        as_markdown=as_markdown,
        csv=csv,
        data=lambda: asdict(held_out()),
        records=lambda: map(asdict, held_out().steps),
        tables=held_out_tables,
        indent=None,
    )


def _measured(*, as_json: bool, as_markdown: bool, csv: OutputFile | None) -> None:
    """Times that others measured."""
    from costmodel.questions.published.public_bounds import public_bounds
    from costmodel.questions.published.public_rows import public_rows
    from costmodel.show.public_json import public_json, public_records
    from costmodel.show.tables.public import public_tables

    rows = public_rows()
    found = public_bounds(rows)
    print_output(
        as_json=as_json,
        as_markdown=as_markdown,
        csv=csv,
        data=lambda: public_json(rows, found),
        records=lambda: public_records(rows, found),
        tables=lambda: public_tables(rows, found),
        indent=None,
    )
