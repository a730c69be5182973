"""The command `sparsecost request`: what serving a batch of requests costs."""

from typing import TYPE_CHECKING, Annotated

import typer

from costmodel.cli.options import (
    BackendOpt,
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
    MlaCacheOpt,
    ModelArg,
    RoutingOpt,
    WindowCacheOpt,
)
from costmodel.cli.output import csv_file, print_output
from costmodel.cli.typed_models import typed_models
from costmodel.cli.workload_options import TypedMesh, takes_mesh
from costmodel.costs.calibrations import calibrated
from costmodel.errors import InputError, shown
from costmodel.inputs.memory_limit import load_limited
from costmodel.inputs.parse import DECIMAL, parse_count, parse_number, parse_routing, parse_workload
from costmodel.inputs.workload import MAX_BATCH, MAX_NEW_TOKENS

if TYPE_CHECKING:
    from costmodel.questions.target_batch import Target

EPILOG = (
    "Example: sparsecost request ultramemv2-1b-7b --prompt 2048 --output 256 --batch 16"
    " --price-per-hour 3"
)


@takes_mesh
def request(
    model: ModelArg,
    *,
    prompt: Annotated[
        str, typer.Option(metavar="N", help="Prompt tokens of each request.")
    ] = "2048",
    output: Annotated[
        str, typer.Option(metavar="N", help="Output tokens of each request.")
    ] = "256",
    batch: Annotated[
        str | None, typer.Option(metavar="N", help="Requests served together. (Default: 1.)")
    ] = None,
    target_ttft: Annotated[
        str | None,
        typer.Option(metavar="MS", help="The longest time to first token: finds the batch."),
    ] = None,
    target_tpot: Annotated[
        str | None,
        typer.Option(metavar="MS", help="The longest time per output token: finds the batch."),
    ] = None,
    price_per_hour: Annotated[
        str | None,
        typer.Option(
            metavar="USD",
            help="Of one GPU, in USD: several cost as many times as much. Without it, no cost is"
            " known.",
        ),
    ] = None,
    ignore_key: IgnoreKeyOpt = None,
    hardware: HardwareOpt = "h200",
    memory_fraction: MemoryFractionOpt = None,
    memory_reserve: MemoryReserveOpt = None,
    calibration: CalibrationOpt = None,
    dtype: DtypeOpt = None,
    kv_dtype: KvDtypeOpt = None,
    routing: RoutingOpt = "uniform",
    mla_cache: MlaCacheOpt = "latent",
    window_cache: WindowCacheOpt = "window",
    backend: BackendOpt = "torch",
    mesh: TypedMesh,
    as_json: JsonOpt = False,
    csv: CsvOpt = None,
    force: ForceOpt = False,
    as_markdown: MarkdownOpt = False,
) -> None:
    """What serving requests costs: first token, each next one, energy and money.

    The batch is served together, in one prefill step; chunked prefill and queueing are left out.
    """
    from costmodel.questions.request import Request, serve
    from costmodel.questions.target_batch import target_batch
    from costmodel.show.export import with_ignored_keys
    from costmodel.show.request_json import request_json, request_record
    from costmodel.show.tables.request import request_tables

    file = csv_file(csv, force=force, as_json=as_json, as_markdown=as_markdown)
    served_request = Request(
        prompt=parse_count(prompt, field="prompt", low=1, high=MAX_NEW_TOKENS),
        output=parse_count(output, field="output", low=1, high=MAX_NEW_TOKENS),
        batch=1 if batch is None else parse_count(batch, field="batch", low=1, high=MAX_BATCH),
        price_per_hour=None if price_per_hour is None else parse_price(price_per_hour),
    )
    workload = parse_workload(  # its phase and sizes give way to those of the request
        phase="decode",
        batch=1,
        context=0,
        dtype=dtype,
        kv_dtype=kv_dtype,
        routing=parse_routing(routing),
        mla_cache=mla_cache,
        window_cache=window_cache,
        backend=backend,
        mesh=mesh.mesh(),
    )
    gpu, curves = (
        load_limited(hardware, memory_fraction, memory_reserve),
        calibrated(hardware, calibration),
    )
    (config,) = typed_models([model], ignore_key)
    target = parse_target(target_ttft, target_tpot)
    found = None
    if target is None:
        served = serve(config, served_request, workload, gpu, curves)
    else:
        if batch is not None:
            raise InputError("batch: is found where a target is given; leave one of them out")
        found = target_batch(config, served_request, workload, gpu, target, calibration=curves)
        served = found.served
    print_output(
        as_json=as_json,
        as_markdown=as_markdown,
        csv=file,
        data=lambda: request_json(served, found),
        records=lambda: with_ignored_keys([request_record(served)], {config.name: config}),
        tables=lambda: request_tables(served, found),
    )


def parse_target(ttft: str | None, tpot: str | None) -> "Target | None":
    """The longest times as typed, in ms; None where none is given."""
    from costmodel.questions.target_batch import LEAST_S, MOST_S, Target

    if ttft is None and tpot is None:
        return None
    ttft_s, tpot_s = (
        None
        if text is None
        else parse_number(text, field=field, low=LEAST_S * 1e3, high=MOST_S * 1e3) / 1e3
        for text, field in ((ttft, "target_ttft"), (tpot, "target_tpot"))
    )
    return Target(ttft_s=ttft_s, tpot_s=tpot_s)


def parse_price(text: str) -> float:
    """A plain decimal number of USD; `Request` checks its bounds."""
    if not DECIMAL.fullmatch(text.strip()):
        raise InputError(f"price_per_hour={shown(text)}: is a number of USD, such as 2.99")
    return float(text)
