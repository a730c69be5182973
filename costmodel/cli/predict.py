"""The command `sparsecost predict`: what one step of one model costs on one GPU."""

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
    ModelArg,
)
from costmodel.cli.output import csv_file, print_output
from costmodel.cli.typed_models import typed_models
from costmodel.cli.workload_options import TypedWorkload, takes_workload
from costmodel.costs.calibrations import calibrated
from costmodel.inputs.memory_limit import load_limited

EPILOG = "Example: sparsecost predict olmoe-1b-7b --batch 64 --context 2048"


@takes_workload
def predict(
    model: ModelArg,
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
    """What one step costs, operator by operator."""
    from costmodel.costs.predict import predict as predict_step
    from costmodel.show.export import with_ignored_keys
    from costmodel.show.prediction_json import operator_records, prediction_json
    from costmodel.show.tables.prediction import prediction_tables

    file = csv_file(csv, force=force, as_json=as_json, as_markdown=as_markdown)
    workload, gpu = typed.only_workload(), load_limited(hardware, memory_fraction, memory_reserve)
    (config,) = typed_models([model], ignore_key)
    prediction = predict_step(config, workload, gpu, calibrated(hardware, calibration))
    document = prediction_json(prediction)
    print_output(
        as_json=as_json,
        as_markdown=as_markdown,
        csv=file,
        data=lambda: document,
        records=lambda: with_ignored_keys(operator_records(document), {config.name: config}),
        tables=lambda: prediction_tables(prediction),
    )
