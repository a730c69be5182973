"""Checks and measures models whose memory tables stand in host memory, on one GPU; writes one JSON.

    python -m benchmarks.host_tables OUT.json [PHASE ...] [model=NAME ...]

First two layers of each model give the same logits from either place, to the bit, with rows fetched
ahead and without. Then gathers alone: random rows by number and width, from host memory and from
HBM, and copies over the link, also written as OUT.rows.json in the format of the committed curves
(`costmodel/presets/host_rows`). Then decode steps and a prompt of each model in both places, with
and without rows fetched ahead, and the fetch by itself; last the bytes read from host memory, by
hardware counters, beside the predicted ones. A case that fails is kept as its error's text.

Every replay reads rows that none before it read, with L2 emptied between: rows that were read a
moment ago come several times faster, since their addresses are still translated.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch
import triton
from pydantic import TypeAdapter
from torch import Tensor

from benchmarks.report import Case, Report, Result, generator
from benchmarks.timing import Timer
from benchmarks.whole_step import CONTEXT, filled_cache, prepared, shortened
from costmodel.costs.step import step_costs
from costmodel.inputs.catalog import load_model
from costmodel.inputs.workload import Workload
from costmodel.layers.placement import Placement
from costmodel.recordings.host_rows import Copy, Gather, HostRows
from profiler.instruments.counters import HardwareCounters
from profiler.instruments.flush import L2Flush
from reference_model.cache import Cache
from reference_model.decode import DecodeStep
from reference_model.kernels.host_rows import gather_rows
from reference_model.model import ReferenceModel
from reference_model.routing import renew_rows, set_synthetic_routing
from reference_model.synthetic_routing import Popularity
from reference_model.value_tables import TablesPlace

MODELS = ("engram-1b-7b-reconstruction", "ultramemv2-1b-7b")
BATCHES = (1, 16, 64, 256)
PROMPT = 1024
PLACES: tuple[TablesPlace, ...] = ("hbm", "host")
STEPS = (*((batch, 1) for batch in BATCHES), (1, PROMPT))  # sequences, new tokens
WINDOWS = tuple(2**power for power in (30, 32, 33))  # bytes of a table that rows are drawn from
TABLE_BYTES = WINDOWS[-1]  # of the gathers, in each place
WIDTHS = (256, 768, 1536, 3072)  # bytes of a row
COUNTS = (24, 96, 384, 1024, 2048, 4096, 8192, 16_384, 32_768, 131_072)  # rows of a gather
SETS = 4  # of rows, in one graph
BLOCKS = tuple(2**power for power in (20, 24, 28, 30))  # bytes copied
COUNTED_RANGES = 3


def check(name: str) -> Result:
    """Whether logits of two layers are the same bits wherever tables stand."""
    model = prepared(shortened(load_model(name))).fold()
    result: Result = {}
    for batch, new in ((3, 1), (2, 64)):
        run, _ = step(model, batch, new)
        wanted = run().clone()
        for prefetch in (False, True):
            model.place_tables("host").prefetch = prefetch
            same = torch.equal(step(model, batch, new)[0](), wanted)
            result[f"{batch} x {new} tokens, prefetch={prefetch}"] = same
        model.place_tables("hbm").prefetch = None
    result["same"] = all(result.values())
    return result


def step(model: ReferenceModel, batch: int, new: int) -> tuple[Callable[[], Tensor], Tensor]:
    """A step of a model, one token a sequence or whole prompts; and the ids that it reads."""
    draws, vocabulary = generator(), model.config.vocab_size
    ids = torch.randint(vocabulary, (batch, new), generator=draws, device="cuda")
    set_synthetic_routing(model, Popularity(exponent=0.0), tokens=ids.numel(), seed=3)
    if new == 1:
        decode = DecodeStep(model, filled_cache(model, batch, draws), graph=False)
        decode.ids.copy_(ids)
        return decode, decode.ids
    return partial(prompt, model, ids, model.new_cache(batch, new)), ids


@torch.no_grad()
def prompt(model: ReferenceModel, ids: Tensor, cache: Cache) -> Tensor:
    """A prefill from the beginning."""
    cache.length = 0
    logits: Tensor = model(ids, cache)
    return logits


def table_in(place: TablesPlace) -> Tensor:
    """Bytes for the tables of the gathers; every page is touched."""
    table = torch.empty(
        TABLE_BYTES,
        dtype=torch.uint8,
        device="cpu" if place == "host" else "cuda",
        pin_memory=place == "host",
    )
    return table.fill_(1)


class Gathers:
    """Gathers of random rows from a window of a table, as one graph of several."""

    def __init__(self, timer: Timer, table: Tensor) -> None:
        self.timer, self.table = timer, table
        self.sets = [
            torch.zeros(max(COUNTS), dtype=torch.int64, device="cuda") for _ in range(SETS)
        ]

    def us(self, window: int, width: int, count: int) -> Result:
        """Microseconds of one gather."""
        rows = window // width
        view = self.table[: rows * width].view(rows, width)
        out = torch.empty(count, width, dtype=torch.uint8, device="cuda")

        def gathers() -> None:
            for chosen in self.sets:
                gather_rows(view, chosen[:count], out)

        def fresh() -> None:
            for chosen in self.sets:
                chosen[:count].random_(rows)

        fresh()
        return self.timer.step_us(gathers, per=SETS, replays=7, before=fresh)


def measure_gathers(timer: Timer, path: Path, case: Case) -> None:
    """The grid of gathers, in both places, and copies; the committed format beside them."""
    host, hbm = (table_in(place) for place in ("host", "hbm"))
    of_place = {"host": Gathers(timer, host), "hbm": Gathers(timer, hbm)}
    measured: list[Gather] = []
    for window, width, count in product(WINDOWS, WIDTHS, COUNTS):
        seconds = {}
        for place, gathers in of_place.items():
            label = f"{place}, {count} rows of {width} bytes in {window} bytes"
            found = case(label, partial(gathers.us, window, width, count))
            seconds[place] = found["median"] * 1e-6
        measured.append(
            Gather(
                table_bytes=window,
                row_bytes=width,
                rows=count,
                host_s=seconds["host"],
                hbm_s=seconds["hbm"],
            )
        )

    def copy(nbytes: int) -> Result:
        def run() -> Tensor:
            return hbm[:nbytes].copy_(host[:nbytes], non_blocking=True)

        return timer.step_us(run, replays=7)

    copies: list[Copy] = []
    for nbytes in BLOCKS:
        found = case(f"copy of {nbytes} bytes", partial(copy, nbytes))
        copies.append(Copy(bytes=nbytes, bytes_per_s=nbytes / (found["median"] * 1e-6)))
    path.write_text(curves_text(measured, copies))


def curves_text(gathers: Sequence[Gather], copies: Sequence[Copy]) -> str:
    """What was measured, as a file of curves holds it."""
    curves = HostRows(
        schema_version=1,
        hardware="h200",
        machine=torch.cuda.get_device_name(),
        link="PCIe 5.0 x16",
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        torch=torch.__version__,
        triton=triton.__version__,
        source=f"Random rows of the first `table_bytes` of a table of {TABLE_BYTES // 2**30} GiB,"
        f" in pinned host memory and in HBM, gathered by a Triton kernel: {SETS} sets of rows in"
        " one CUDA graph, median of seven replays, each of other rows; seconds of one gather."
        " Copies: pinned host memory to HBM. By benchmarks/host_tables.py.",
        gathers=tuple(gathers),
        copies=tuple(copies),
    )
    return TypeAdapter(HostRows).dump_json(curves, indent=1).decode() + "\n"


def variants(model: ReferenceModel) -> Iterator[tuple[str, TablesPlace]]:
    """Both places, and each way to read rows from host memory that the model has."""
    for place in PLACES:
        model.place_tables(place).prefetch = False
        torch.cuda.empty_cache()
        yield place, place
        if place == "host" and any(kind.addressed_by == "tokens" for kind in model.config.memory):
            model.prefetch = True
            yield "host, fetched ahead", place


def measure_steps(timer: Timer, models: Sequence[str], case: Case) -> None:
    """Steps of all models in both places, and their fetches alone."""
    for name in models:
        model = prepared(name).fold()
        for variant, _ in variants(model):
            for batch, new in STEPS:
                label = f"{name}, {batch} x {new} tokens, {variant}"
                found = case(label, partial(step_us, timer, model, batch, new))
                print(label, found, flush=True)  # noqa: T201 - progress
        del model
        torch.cuda.empty_cache()


def step_us(timer: Timer, model: ReferenceModel, batch: int, new: int) -> Result:
    """A step as a graph; where rows are fetched ahead, also the fetches by themselves."""
    replays = 9 if new == 1 else 5
    run, ids = step(model, batch, new)
    before = partial(other_rows, model, ids, generator())
    result: Result = {"us": timer.step_us(run, replays=replays, before=before)}
    if model.prefetch:
        known = model.look_ups.known(ids, model.new_cache(batch, new))

        def fetch() -> None:
            with torch.no_grad():
                model.look_ups.fetch_ahead(known)
                for layer in tuple(known.fetched):
                    known.taken(layer)  # joins the stream of the fetches

        result["fetch_us"] = timer.step_us(fetch, replays=replays, before=before)
    return result


def other_rows(model: ReferenceModel, ids: Tensor, draws: torch.Generator) -> None:
    """Ids that address other rows, and other rows in place of those that were drawn."""
    ids.random_(0, model.config.vocab_size, generator=draws)
    renew_rows(model, draws)


def count_bytes(models: Sequence[str], case: Case) -> None:
    """Bytes that steps read from host memory and from HBM, counted and predicted."""
    flush = L2Flush()
    with HardwareCounters(dtype="bf16", max_ranges=COUNTED_RANGES, host=True) as counters:
        for name in models:
            model = prepared(name).fold()
            for variant, place in variants(model):
                for batch, new in STEPS:
                    label = f"{name}, {batch} x {new} tokens, {variant}"
                    found = case(label, partial(counted, counters, flush, model, batch, new, place))
                    print(label, found, flush=True)  # noqa: T201 - progress
            del model
            torch.cuda.empty_cache()


def counted(  # noqa: PLR0917 - of one case
    counters: HardwareCounters,
    flush: L2Flush,
    model: ReferenceModel,
    batch: int,
    new: int,
    place: TablesPlace,
) -> Result:
    """The counts of one step, and what is predicted of it."""
    run, _ = step(model, batch, new)
    run()
    counts = counters.step(run, flush=flush)
    return {
        "host_read_bytes": counts.host_read_bytes,
        "hbm_read_bytes": counts.hbm_read_bytes,
        "hbm_written_bytes": counts.hbm_settled_bytes,
        "predicted_host_bytes": predicted_host_bytes(model, batch, new, place),
    }


def predicted_host_bytes(model: ReferenceModel, batch: int, new: int, place: TablesPlace) -> float:
    """Of the distinct rows of each layer, in whole sectors."""
    phase: Literal["decode", "prefill"] = "decode" if new == 1 else "prefill"
    workload = Workload(
        phase=phase,
        batch=batch,
        new_tokens=new,
        context=CONTEXT if new == 1 else 0,
        placement=Placement(tables=place),
    )
    return float(step_costs(model.config, workload.step()).far["host"].sector_bytes)


def main() -> None:
    """Check, measure, write."""
    report = Report(sys.argv[1:])
    models: list[str] = report.models or list(MODELS)
    curves = Path(sys.argv[1]).with_suffix(".rows.json")

    def checks(case: Case) -> Any:  # noqa: ANN401 - nothing beside the cases
        for name in models:
            print(name, case(name, partial(check, name)), flush=True)  # noqa: T201 - progress

    report.phase("checks", checks)
    timer = Timer()
    report.phase("gathers", partial(measure_gathers, timer, curves))
    report.phase("steps", partial(measure_steps, timer, models))
    report.phase("bytes", partial(count_bytes, models))
    report.end()


if __name__ == "__main__":
    main()
