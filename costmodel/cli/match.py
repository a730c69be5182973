"""The command `sparsecost match`: a model of another kind with the same parameters and FLOPs.

Or with the same HBM bytes of a decode step in place of either.
"""

from pathlib import Path
from typing import Annotated

import typer

from costmodel.cli.options import (
    CalibrationOpt,
    CsvOpt,
    DtypeOpt,
    ForceOpt,
    HardwareOpt,
    IgnoreKeyOpt,
    JsonOpt,
    KvDtypeOpt,
    MarkdownOpt,
    MemoryFractionOpt,
    MemoryReserveOpt,
    ModelArg,
    PlacementOpt,
    complete_model,
)
from costmodel.cli.output import csv_file, print_output
from costmodel.cli.typed_models import typed_models
from costmodel.cli.workload_options import TypedMesh, single, takes_mesh
from costmodel.inputs.memory_limit import load_limited
from costmodel.inputs.output_file import OutputFile
from costmodel.inputs.parse import parse_batches, parse_contexts, parse_placed, parse_workload
from costmodel.inputs.workload import DEFAULT_CONTEXT
from costmodel.routing.popularity import Uniform

EPILOG = "Example: sparsecost match olmoe-227m-1.2b --to ultramemv2-227m-1.2b"


@takes_mesh
def match(
    model: ModelArg,
    *,
    to: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="The template: a model of the other kind, whose sizes are varied.",
            autocompletion=complete_model,
        ),
    ],
    vary: Annotated[
        str | None,
        typer.Option(
            metavar="FIELDS",
            help="Two sizes to vary, each with a step if you like: knum,intermediate_size:8."
            " (Default: keys per side and FFN width, or number and width of experts.)",
        ),
    ] = None,
    equal: Annotated[
        str,
        typer.Option(
            metavar="parameters,flops|parameters,bytes",
            help="The two numbers to set equal: all parameters, and FLOPs of a token or HBM bytes"
            " of a decode step at --batch.",
        ),
    ] = "parameters,flops",
    batch: Annotated[
        str, typer.Option(metavar="N", help="Sequences of the step whose bytes are set equal.")
    ] = "1",
    context: Annotated[
        str,
        typer.Option(
            metavar="N", help="Tokens already cached, of the FLOPs per token and of the bytes."
        ),
    ] = str(DEFAULT_CONTEXT["decode"]),
    keep_backbone: Annotated[
        bool,
        typer.Option(
            "--keep-trunk",
            help="Keep the template's hidden size, layers, attention and vocabulary.",
        ),
    ] = False,
    placement: PlacementOpt = None,
    dtype: DtypeOpt = None,
    kv_dtype: KvDtypeOpt = None,
    mesh: TypedMesh,
    ignore_key: IgnoreKeyOpt = None,
    hardware: HardwareOpt = "h200",
    memory_fraction: MemoryFractionOpt = None,
    memory_reserve: MemoryReserveOpt = None,
    calibration: CalibrationOpt = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml", help="Write the matched model to a file, which MODEL can name."
        ),
    ] = None,
    as_json: JsonOpt = False,
    csv: CsvOpt = None,
    force: ForceOpt = False,
    as_markdown: MarkdownOpt = False,
) -> None:
    """Size a model of another kind by two numbers of a model; show what differs then."""
    from costmodel.costs.calibrations import calibrated
    from costmodel.inputs.model_toml import SUFFIX, write_model
    from costmodel.questions.match import match as find_match
    from costmodel.questions.match import parse_equal
    from costmodel.questions.match_differences import differences
    from costmodel.questions.matching.sizes import parse_vary
    from costmodel.show.export import with_ignored_keys
    from costmodel.show.match_json import match_json, match_records
    from costmodel.show.tables.match import match_tables

    file = csv_file(csv, force=force, as_json=as_json, as_markdown=as_markdown)
    model_file = None if out is None else OutputFile(path=out, force=force)
    if model_file is not None:
        model_file.check(SUFFIX)
    gpu = load_limited(hardware, memory_fraction, memory_reserve)
    curves = calibrated(hardware, calibration)
    workload = parse_workload(
        phase="decode",
        batch=single(parse_batches(batch), "batch"),
        context=single(parse_contexts(context), "context"),
        dtype=dtype,
        kv_dtype=kv_dtype,
        routing=Uniform(),
        placement=parse_placed(placement),
        mesh=mesh.mesh(),
    )
    target, template = typed_models([model, to], ignore_key)
    result = find_match(
        target,
        template,
        context=workload.context,
        vary=None if vary is None else parse_vary(vary),
        keep_backbone=keep_backbone,
        equal=parse_equal(equal),
        step=workload,
    )
    lines = differences(result, gpu, calibration=curves, formats=workload)
    if model_file is not None:
        write_model(result.model, model_file)
    print_output(
        as_json=as_json,
        as_markdown=as_markdown,
        csv=file,
        data=lambda: match_json(result, lines, gpu, curves, workload),
        records=lambda: with_ignored_keys(
            match_records(result, lines), {"target": target, "template": template}
        ),
        tables=lambda: match_tables(result, lines, gpu, curves, workload),
    )
