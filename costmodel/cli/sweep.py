"""The command `sparsecost sweep`: each combination of workloads, GPUs, meshes and set fields."""

import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
from costmodel.cli.workload_options import TypedWorkload, takes_workload
from costmodel.costs.calibrations import calibrated
from costmodel.errors import InputError
from costmodel.inputs.hf.fields import ignored_keys
from costmodel.inputs.memory_limit import load_limited
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.output_file import OutputFile
from costmodel.inputs.parse import parse_routing, split_routings

if TYPE_CHECKING:
    from costmodel.questions.grid import Grid

EPILOG = (
    "Example: sparsecost sweep olmoe-1b-7b --batch 1,16,64 --context 512,4096"
    " --routing uniform,zipf:1.0 --hardware h200,b200 --out sweep.csv"
)
MAX_SHOWN_ROWS = 60  # rows that are printed; a file takes them all


@takes_workload
def sweep(
    models: ModelArgs,
    *,
    typed: TypedWorkload,
    ignore_key: IgnoreKeyOpt = None,
    set_fields: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=LIST",
            help="A number of the model: memory.knum=256,512 or memory.knum=256-1024/256; may be"
            " repeated, every combination is costed. A field of attention, ffn or memory is set in"
            " all layers that share its value, one of overrides.0.ffn in these alone.",
        ),
    ] = None,
    hardware: HardwareOpt = "h200",
    memory_fraction: MemoryFractionOpt = None,
    memory_reserve: MemoryReserveOpt = None,
    calibration: CalibrationOpt = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write .csv, .json or .parquet instead of a table."),
    ] = None,
    as_json: JsonOpt = False,
    nested: Annotated[
        bool,
        typer.Option(
            "--nested", help="With --json: rows in the shape of predict's JSON, not dotted keys."
        ),
    ] = False,
    csv: CsvOpt = None,
    force: ForceOpt = False,
    as_markdown: MarkdownOpt = False,
) -> None:
    """Every combination of batch, context, routing, GPU, mesh and numbers of the model.

    Each of those takes a list.
    """
    from costmodel.inputs.set_fields import designs, parse_set
    from costmodel.questions.grid import aligned, reasons, with_settings
    from costmodel.questions.sweep import MAX_POINTS
    from costmodel.questions.sweep import sweep as sweep_grid
    from costmodel.show.export import SUFFIXES, check_size, json_pieces, write_parts
    from costmodel.show.tables.sweep import sweep_table

    if out is not None and (as_json or as_markdown or csv is not None):
        raise InputError("output: --out, --json, --csv and --markdown exclude one another")
    if nested and not as_json:
        raise InputError("nested: goes with --json")
    file = csv_file(csv, force=force, as_json=as_json, as_markdown=as_markdown)
    if out is not None:
        file = OutputFile(path=out, force=force)
        file.check(*SUFFIXES)

    routings = [parse_routing(text) for text in split_routings(typed.routing)]
    gpu_names = hardware.split(",")
    gpus = [load_limited(name, memory_fraction, memory_reserve) for name in gpu_names]
    calibrations = [calibrated(name, calibration) for name in gpu_names]
    batches, contexts = typed.batches(), typed.contexts
    meshes = typed.meshes()
    lists = parse_set(set_fields or ())
    configs = typed_models(models, ignore_key)
    swept = [(model, *design) for model in configs for design in designs(model, lists)]
    points = len(swept) * len(meshes) * len(batches) * len(contexts) * len(routings) * len(gpus)
    if points > MAX_POINTS:
        raise InputError(f"sweep={points}: a sweep has at most {MAX_POINTS:,} points")
    made: list[Grid] = []
    held_bytes = 0
    for (_, values, model), mesh in product(swept, meshes):
        grid = sweep_grid(
            model,
            typed.workload(batch=batches[0], context=contexts[0], routing=routings[0], mesh=mesh),
            batches=batches,
            contexts=contexts,
            routings=routings,
            hardwares=gpus,
            calibrations=calibrations,
            held_bytes=held_bytes,
        )
        made.append(with_settings(grid, values))
        held_bytes += grid.held_bytes
    grids = aligned(made)
    if file is not None:
        check_size(sum(grid.size for grid in grids), len(grids[0].table()) + 1, file)
        of_grids = [model for model, *_ in swept for _ in meshes]
        write_parts(_noted(grids, of_grids), file)
    elif as_json:
        sys.stdout.writelines(
            json_pieces(
                (part for grid in grids for part in grid.parts()),
                nested=nested,
                reasons=reasons(grids),
                notes={model.name: list(model.notes) for model in configs},
            )
        )
    else:
        print_output(
            as_json=False,
            as_markdown=as_markdown,
            tables=lambda: [sweep_table(grids, calibrations, MAX_SHOWN_ROWS)],
        )


def _noted(grids: "Sequence[Grid]", models: Sequence[ModelConfig]) -> Iterator[dict[str, Any]]:
    """The grids' columns in parts, with one that says which keys of their models were ignored."""
    from costmodel.show.export import IGNORED_KEYS

    for grid, model in zip(grids, models, strict=True):
        text = ignored_keys(model.notes)
        for part in grid.parts():
            yield {**part, IGNORED_KEYS: [text] * len(part["model"])}
