"""`sparsecost report`: a cost report as a file, of models or of the JSON of an earlier report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from costmodel.cli.options import (
    CalibrationOpt,
    ForceOpt,
    HardwareOpt,
    IgnoreKeyOpt,
    MemoryFractionOpt,
    MemoryReserveOpt,
    ModelArgs,
)
from costmodel.cli.workload_options import TypedWorkload, takes_workload
from costmodel.errors import InputError, shown
from costmodel.inputs.output_file import OutputFile

if TYPE_CHECKING:  # listing the commands must not load what a report needs
    from dashboard.report.document import Content, Report

EVERYTHING = "summary,operators,comparison,measured,method"
OF_A_REPORT = ("models", "out", "force")  # what may be given with the JSON of a report


@takes_workload
def report(
    ctx: typer.Context,
    models: ModelArgs,
    *,
    typed: TypedWorkload,
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Ends in .html, .md, .csv, .json, .xlsx or .parquet."),
    ],
    force: ForceOpt = False,
    compare_batch: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Batches of the comparison. (Default: 1 to 4096, and those of --batch.)",
        ),
    ] = None,
    ignore_key: IgnoreKeyOpt = None,
    hardware: HardwareOpt = "h200",
    memory_fraction: MemoryFractionOpt = None,
    memory_reserve: MemoryReserveOpt = None,
    calibration: CalibrationOpt = None,
    recording: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="A recording of one of the models, or the name of a shipped one; may be repeated.",
        ),
    ] = None,
    price_per_hour: Annotated[
        float | None, typer.Option(metavar="USD", help="What an hour of the GPU costs.")
    ] = None,
    contents: Annotated[
        str, typer.Option(metavar="LIST", help="The sections that the report holds.")
    ] = EVERYTHING,
) -> None:
    """Write a cost report: of models, or again from the JSON of a report.

    Batches and contexts may be lists. CSV and Parquet hold the operators.

    Example: sparsecost report olmoe-1b-7b --batch 64 --out report.html
    """
    from dashboard.report.files import check_report_file, save

    file = OutputFile(path=out, force=force)
    check_report_file(file)  # before the work
    document = _reread(models)
    if document is None:
        document = _made(
            models,
            typed,
            compare_batch=compare_batch,
            ignore_key=ignore_key,
            hardware=hardware,
            memory=(memory_fraction, memory_reserve),
            calibration=calibration,
            recordings=recording or [],
            price_per_hour=price_per_hour,
            contents=contents,
        )
    else:
        for name in (name for name in ctx.params if name not in OF_A_REPORT):
            source = ctx.get_parameter_source(name)
            if source is not None and source.name != "DEFAULT":
                raise InputError(f"{name}: stands in the report that is read; only --out is given")
    save(document, file)


def _reread(models: list[str]) -> "Report | None":
    """The report in the one JSON file that was given, if it is one."""
    from dashboard.report.document import load_report

    reports = [
        document
        for path in models
        if path.lower().endswith(".json") and (document := load_report(Path(path))) is not None
    ]
    if reports and len(models) > 1:
        raise InputError(f"models={len(models)}: a report that is read stands alone")
    return reports[0] if reports else None


def _made(
    models: list[str],
    typed: TypedWorkload,
    *,
    compare_batch: str | None,
    ignore_key: list[str] | None,
    hardware: str,
    memory: tuple[str | None, str | None],
    calibration: str | None,
    recordings: list[Path],
    price_per_hour: float | None,
    contents: str,
) -> "Report":
    """The report on what was typed."""
    from costmodel.cli.typed_models import typed_models
    from costmodel.costs.calibrations import calibrated
    from costmodel.inputs.catalog import numbered
    from costmodel.inputs.memory_limit import load_limited
    from costmodel.inputs.parse import parse_batches, parse_routing
    from costmodel.recordings.folders import typed_recording
    from costmodel.recordings.recording import load_recording
    from costmodel.validation.machines import Gpus
    from dashboard.report.build import Asked, build, compared_batches, now

    files = [typed_recording(path) for path in recordings]
    batches, contexts = typed.batches(), typed.contexts
    compared = compared_batches(batches) if compare_batch is None else parse_batches(compare_batch)
    workload = typed.workload(
        batch=batches[0], context=contexts[0], routing=parse_routing(typed.routing)
    )
    asked = Asked(
        models=tuple(numbered(typed_models(models, ignore_key))),
        workload=workload,
        batches=batches,
        contexts=contexts,
        compared_batches=compared,
        hardware=load_limited(hardware, *memory),
        calibration=calibrated(hardware, calibration),
        recordings=tuple(
            (name, load_recording(path)) for name, path in zip(_names(files), files, strict=True)
        ),
        gpus=Gpus(calibration),
        price_per_hour=price_per_hour,
        contents=_contents(contents),
    )
    return build(asked, now())


def _names(paths: list[Path]) -> list[str]:
    """What the report calls each recording: its title, with a number where it comes again."""
    from costmodel.recordings.folders import recording_title

    titles = [recording_title(path) for path in paths]
    numbers = [titles[:index].count(title) + 1 for index, title in enumerate(titles)]
    return [
        title if number == 1 else f"{title} ({number})"
        for title, number in zip(titles, numbers, strict=True)
    ]


def _contents(text: str) -> "tuple[Content, ...]":
    """The sections that a list names."""
    from dashboard.report.document import CONTENTS

    names = text.split(",")
    odd = [name for name in names if name not in CONTENTS]
    if odd:
        raise InputError(f"contents={shown(odd[0])}: is not one of {', '.join(CONTENTS)}")
    return tuple(content for content in CONTENTS if content in names)
