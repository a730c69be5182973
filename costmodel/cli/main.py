"""The command line: `sparsecost models | hardware | predict | compare | sweep | reproduce`.

What a user does wrong ends with exit code 2 and one message on stderr; only results go to stdout.
"""

import io
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

import costmodel
from costmodel.cli.match import EPILOG as MATCH_EPILOG
from costmodel.cli.match import match
from costmodel.cli.options import (
    CalibrationOpt,
    CsvOpt,
    HardwareOpt,
    JsonOpt,
    MarkdownOpt,
    ModelArg,
    ModelArgs,
    OptionalHardwareArg,
    OptionalModelArg,
    TypedWorkload,
    single,
    takes_workload,
)
from costmodel.cli.output import check_csv, print_output
from costmodel.cli.plugins import Rooms
from costmodel.cli.request import EPILOG as REQUEST_EPILOG
from costmodel.cli.request import request
from costmodel.cli.validate import EPILOG as VALIDATE_EPILOG
from costmodel.cli.validate import validate
from costmodel.costs.calibrations import calibrated
from costmodel.errors import InputError, WorkError
from costmodel.inputs.catalog import load_model, model_names, numbered
from costmodel.inputs.hardware import hardware_names, load_hardware
from costmodel.inputs.routing_spec import parse_routing
from costmodel.show.text import printable

USUAL_BATCHES = "1,4,16,64,256,1024,4096"  # of a comparison
MAX_COMPARED = 8  # models of one table
MAX_SHOWN_ROWS = 60  # rows of a sweep that are printed; a file takes them all

app = typer.Typer(
    name="sparsecost",
    cls=Rooms,
    help="What a sparse language model costs on a GPU: FLOPs, KV cache, routing, HBM bytes, time.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def root(
    *, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    """What a sparse language model costs on a GPU: FLOPs, KV cache, routing, HBM bytes, time."""
    if version:
        typer.echo(costmodel.__version__)
        raise typer.Exit


@app.command(epilog="Example: sparsecost models qwen3-30b-a3b")
def models(
    name: OptionalModelArg = None, *, as_json: JsonOpt = False, as_markdown: MarkdownOpt = False
) -> None:
    """List the model presets, or show one with its counts by convention."""
    from costmodel.show.inputs_json import model_overview
    from costmodel.show.tables.presets import model_table, models_table

    names = model_names() if name is None else (name,)
    loaded = [(each, load_model(each)) for each in names]
    overviews = [model_overview(each, model) for each, model in loaded]
    print_output(
        as_json=as_json,
        as_markdown=as_markdown,
        data=lambda: overviews if name is None else overviews[0],
        tables=lambda: [models_table(overviews) if name is None else model_table(loaded[0][1])],
    )


@app.command(epilog="Example: sparsecost hardware h200")
def hardware(
    name: OptionalHardwareArg = None, *, as_json: JsonOpt = False, as_markdown: MarkdownOpt = False
) -> None:
    """List the GPU presets, or show one with the source of each number."""
    from costmodel.show.inputs_json import hardware_json
    from costmodel.show.tables.presets import hardware_sources, hardware_table

    names = hardware_names() if name is None else (name,)
    loaded = [(each, load_hardware(each)) for each in names]
    found = [{"preset": each, **hardware_json(gpu)} for each, gpu in loaded]
    print_output(
        as_json=as_json,
        as_markdown=as_markdown,
        data=lambda: found if name is None else found[0],
        tables=lambda: [hardware_table(loaded) if name is None else hardware_sources(loaded[0][1])],
    )


@app.command(epilog="Example: sparsecost predict olmoe-1b-7b --batch 64 --context 2048")
@takes_workload
def predict(
    model: ModelArg,
    *,
    typed: TypedWorkload,
    hardware: HardwareOpt = "h200",
    calibration: CalibrationOpt = None,
    as_json: JsonOpt = False,
    csv: CsvOpt = None,
    as_markdown: MarkdownOpt = False,
) -> None:
    """What one step costs, operator by operator."""
    from costmodel.costs.predict import predict as predict_step
    from costmodel.show.prediction_json import operator_records, prediction_json
    from costmodel.show.tables.prediction import prediction_tables

    workload = typed.workload(
        batch=single(typed.batches(), "batch"),
        context=single(typed.contexts, "context"),
        routing=parse_routing(typed.routing),
    )
    gpu = load_hardware(hardware)
    prediction = predict_step(load_model(model), workload, gpu, calibrated(hardware, calibration))
    data = prediction_json(prediction)
    print_output(
        as_json=as_json,
        as_markdown=as_markdown,
        csv=csv,
        data=lambda: data,
        records=lambda: operator_records(data),
        tables=lambda: prediction_tables(prediction),
    )


@app.command(
    epilog="Example: sparsecost compare olmoe-227m-1.2b ultramemv2-227m-1.2b --batch 1,64,1024"
)
@takes_workload
def compare(
    models: ModelArgs,
    *,
    typed: TypedWorkload,
    hardware: HardwareOpt = "h200",
    calibration: CalibrationOpt = None,
    as_json: JsonOpt = False,
    csv: CsvOpt = None,
    as_markdown: MarkdownOpt = False,
) -> None:
    """Models side by side over a list of batches, and the batch where an advantage ends."""
    from costmodel.questions.compare import compare as compare_models
    from costmodel.show.comparison_json import comparison_json
    from costmodel.show.tables.comparison import comparison_table

    if not 2 <= len(models) <= MAX_COMPARED:  # noqa: PLR2004 - a comparison takes two
        raise InputError(f"models={len(models)}: two to {MAX_COMPARED} models are compared")
    batches = typed.batches(USUAL_BATCHES)
    workload = typed.workload(
        batch=batches[0],
        context=single(typed.contexts, "context"),
        routing=parse_routing(typed.routing),
    )
    comparison = compare_models(
        numbered([load_model(model) for model in models]),
        workload,
        load_hardware(hardware),
        batches=batches,
        calibration=calibrated(hardware, calibration),
    )
    data = comparison_json(comparison)
    print_output(
        as_json=as_json,
        as_markdown=as_markdown,
        csv=csv,
        data=lambda: data,
        records=lambda: data["rows"],
        tables=lambda: [comparison_table(comparison)],
    )


@app.command(
    epilog=(
        "Example: sparsecost sweep olmoe-1b-7b --batch 1,16,64 --context 512,4096"
        " --routing uniform,zipf:1.0 --hardware h200,b200 --out sweep.csv"
    )
)
@takes_workload
def sweep(
    models: ModelArgs,
    *,
    typed: TypedWorkload,
    hardware: HardwareOpt = "h200",
    calibration: CalibrationOpt = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write .csv, .json or .parquet instead of a table."),
    ] = None,
    as_json: JsonOpt = False,
    csv: CsvOpt = None,
    as_markdown: MarkdownOpt = False,
) -> None:
    """Every combination of batch, context, routing and GPU; each of those takes a list."""
    from costmodel.questions.sweep import MAX_POINTS
    from costmodel.questions.sweep import sweep as sweep_grid
    from costmodel.show.export import SCHEMA_VERSION, write_parts
    from costmodel.show.tables.sweep import sweep_table

    check_csv(csv)
    target = csv if out is None else out
    if (target is not None) + as_json + as_markdown > 1 or (csv is not None and out is not None):
        raise InputError("output: --out, --json, --csv and --markdown exclude one another")

    routings = [parse_routing(each) for each in typed.routing.split(",")]
    gpus = [load_hardware(each) for each in hardware.split(",")]
    calibrations = [calibrated(each, calibration) for each in hardware.split(",")]
    batches, contexts = typed.batches(), typed.contexts
    points = len(models) * len(batches) * len(contexts) * len(routings) * len(gpus)
    if points > MAX_POINTS:
        raise InputError(f"sweep={points}: a sweep has at most {MAX_POINTS:,} points")
    workload = typed.workload(batch=batches[0], context=contexts[0], routing=routings[0])
    grids = [
        sweep_grid(
            load_model(each),
            workload,
            batches=batches,
            contexts=contexts,
            routings=routings,
            hardwares=gpus,
            calibrations=calibrations,
        )
        for each in models
    ]
    if target is not None:
        write_parts((part for grid in grids for part in grid.parts()), target)
        return
    rows = [record for grid in grids for record in grid.records()] if as_json else []
    print_output(
        as_json=as_json,
        as_markdown=as_markdown,
        data=lambda: {"schema_version": SCHEMA_VERSION, "rows": rows},
        tables=lambda: [sweep_table(grids, calibrations, MAX_SHOWN_ROWS)],
    )


@app.command(epilog="Example: sparsecost reproduce")
def reproduce(*, as_json: JsonOpt = False, as_markdown: MarkdownOpt = False) -> None:
    """Published and hand-derived numbers beside ours, each with its convention."""
    from dataclasses import asdict

    from costmodel.questions.published.reproduce import reproduced
    from costmodel.show.tables.published import reproduced_table

    targets = reproduced()
    print_output(
        as_json=as_json,
        as_markdown=as_markdown,
        data=lambda: [asdict(target) for target in targets],
        tables=lambda: [reproduced_table(targets)],
    )


app.command(epilog=MATCH_EPILOG)(match)
app.command(epilog=REQUEST_EPILOG)(request)
app.command(epilog=VALIDATE_EPILOG)(validate)


def main() -> None:
    """Run the command line; a user's mistake is one line on stderr and exit code 2."""
    if sys.stdout is None:  # closed by the caller
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - lives as long as we do
    elif isinstance(sys.stdout, io.TextIOWrapper):  # names may pass what the terminal can show
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # here, where an error can be told, and not at exit
    except (InputError, WorkError) as error:
        sys.stderr.write(f"error: {printable(str(error))}\n")
        sys.exit(2 if isinstance(error, InputError) else 1)
    except OSError as error:  # of stdout: files that are read or written raise InputError
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # a reader that went away, as `head` does
            sys.stderr.write(f"error: stdout: cannot be written: {error.strerror or error}\n")
        sys.exit(1)
