"""The command `sparsecost compare`: models side by side over a list of batches."""

from costmodel.cli.options import (
    CalibrationOpt,
    CsvOpt,
    ForceOpt,
    HardwareOpt,
    IgnoreKeyOpt,
    JsonOpt,
    MarkdownOpt,
    MemoryFractionOpt,
    MemoryReserveOpt,
    ModelArgs,
)
from costmodel.cli.output import csv_file, print_output
from costmodel.cli.typed_models import typed_models
from costmodel.cli.workload_options import TypedWorkload, single, takes_workload
from costmodel.costs.calibrations import calibrated
from costmodel.errors import InputError
from costmodel.inputs.catalog import numbered
from costmodel.inputs.memory_limit import load_limited
from costmodel.inputs.parse import parse_routing

EPILOG = "Example: sparsecost compare olmoe-227m-1.2b ultramemv2-227m-1.2b --batch 1,64,1024"
DEFAULT_BATCHES = "1,4,16,64,256,1024,4096"
MAX_COMPARED = 8  # models of one table


@takes_workload
def compare(
    models: ModelArgs,
    *,
    typed: TypedWorkload,
    ignore_key: IgnoreKeyOpt = None,
    hardware: HardwareOpt = "h200",
    memory_fraction: MemoryFractionOpt = None,
    memory_reserve: MemoryReserveOpt = None,
    calibration: CalibrationOpt = None,
    as_json: JsonOpt = False,
    csv: CsvOpt = None,
    force: ForceOpt = False,
    as_markdown: MarkdownOpt = False,
) -> None:
    """Models side by side over a list of batches, and the batch where an advantage ends."""
    from costmodel.questions.compare import compare as compare_models
    from costmodel.show.comparison_json import comparison_json
    from costmodel.show.export import with_ignored_keys
    from costmodel.show.tables.comparison import comparison_tables

    file = csv_file(csv, force=force, as_json=as_json, as_markdown=as_markdown)
    if not 2 <= len(models) <= MAX_COMPARED:  # noqa: PLR2004 - a comparison takes two
        raise InputError(f"models={len(models)}: two to {MAX_COMPARED} models are compared")
    batches = typed.batches(DEFAULT_BATCHES)
    workload = typed.workload(
        batch=batches[0],
        context=single(typed.contexts, "context"),
        routing=parse_routing(typed.routing),
    )
    configs = numbered(typed_models(models, ignore_key))
    comparison = compare_models(
        configs,
        workload,
        load_limited(hardware, memory_fraction, memory_reserve),
        batches=batches,
        calibration=calibrated(hardware, calibration),
    )
    document = comparison_json(comparison)
    print_output(
        as_json=as_json,
        as_markdown=as_markdown,
        csv=file,
        data=lambda: document,
        records=lambda: with_ignored_keys(
            document["rows"], {model.name: model for model in configs}, "model"
        ),
        tables=lambda: comparison_tables(comparison),
    )
