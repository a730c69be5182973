"""The tables of docs/three_ways.md: experts, a memory layer or an n-gram table, at equal size.

Every number of them is computed by the cost model, but those of `PUBLISHED`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any
from urllib.parse import urlencode

from costmodel import units
from costmodel.costs.calibrations import calibrated
from costmodel.costs.latency import Unknown
from costmodel.costs.predict import predict
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.ngram import Ngram
from costmodel.layers.placement import Placement
from costmodel.questions.early_address import early_address
from costmodel.questions.match import match
from docs.commands import json_of
from docs.markdown import markdown
from docs.wording import span

SMALL = ("olmoe-227m-1.2b", "ultramemv2-227m-1.2b", "engram-227m-1.2b-reconstruction")
LARGE = ("olmoe-1b-7b", "ultramemv2-1b-7b", "engram-1b-7b-reconstruction")
BATCHES = (1, 16, 64, 256)
CONTEXT = 2048
GPU = "h200"
IN_HOST, ON_DISK = Placement(tables="host"), Placement(tables="disk")
EQUAL_BYTES_AT = 16  # sequences
VIEW: Mapping[str, str | Sequence[str]] = {  # the address of the page Compare that shows the same
    "model": SMALL[2],
    "batch": "64",
    "context": f"{CONTEXT}",
    "tables": "host",
    "cmp_models": SMALL,
}
BACKBONE = "llama-3.1-8b"
TABLE_PARAMETERS = 100 * 10**9
PUBLISHED = (  # what, tables, throughput over that it is compared with, source
    ("4B model, H800", "100 B, host memory", 1 - 0.019, "arXiv 2601.07372, Table 4"),
    ("8B model, H800", "100 B, host memory", 1 - 0.028, "arXiv 2601.07372, Table 4"),
    ("tables fetched ahead", "SSD", 16.47 / 16.65, "Rapid-MLX, issue 3338"),
    ("tables read when needed", "SSD", 9.25 / 16.65, "Rapid-MLX, issue 3338"),
)


def three_ways_kept() -> str:
    """Parameters, what stands where, and what is left for the KV cache, of both trios."""
    fields = (
        *("total_without_embeddings", "active_without_embeddings", "stored_weights_bytes"),
        *("host_table_bytes", "kv_bytes_per_token", "kv_room_bytes", "kv_room_tokens"),
    )
    rows = [
        (row["model"], place, *(_cell(row, field) for field in fields))
        for trio in (SMALL, LARGE)
        for place in ("HBM", "host")
        for row in _rows(trio, place)[: len(trio)]
        if place == "HBM" or row["host_table_bytes"]
    ]
    return markdown(("model", "tables in", *map(_label, fields)), rows, text=2)


def three_ways_steps() -> str:
    """A decode step of the small trio at four batches, memory tables in HBM and in host memory."""
    fields = (
        *("flops", "compulsory_bytes", "host_read_bytes", "floor_s"),
        *("predicted_s", "predicted_exposed_s", "predicted_j"),
    )
    per_batch = len(SMALL)
    rows = []
    for i, batch in enumerate(BATCHES):
        at = slice(i * per_batch, (i + 1) * per_batch)
        for near, far in zip(_rows(SMALL, "HBM")[at], _rows(SMALL, "host")[at], strict=True):
            for place, row in (("HBM", near), ("host", far)):
                if place == "HBM" or row["host_table_bytes"]:
                    cells = (_cell(row, field) for field in fields)
                    rows.append((f"{batch}", row["model"], place, *cells))
    return markdown(("batch", "model", "tables in", *map(_label, fields)), rows, text=3)


def three_ways_equal_bytes() -> str:
    """The two other kinds sized to the parameters and HBM bytes of the small MoE at a batch."""
    target = load_model(SMALL[0])
    step = Workload(batch=EQUAL_BYTES_AT, context=CONTEXT)
    rows = []
    for template in SMALL[1:]:
        answer = match(
            target, load_model(template), context=CONTEXT, equal=("parameters", "bytes"), step=step
        )
        ratios = (answer.reached.ratio(answer.wanted, name) for name in answer.equal)
        rows.append(
            (
                answer.template.name,
                ", ".join(f"{name} {after:,}" for name, (_, after) in answer.fields.items()),
                *(units.ratio(ratio) for ratio in ratios),
                units.ratio(answer.flops_ratio),
            )
        )
    head = ("template", "sizes", "total parameters", "HBM bytes", "FLOPs of a token")
    return markdown(head, rows, text=2)


def three_ways_early() -> str:
    """What fetches cost whose rows are known in their layer, and what knowing them early saves."""
    rows = []
    for model in LARGE[1:]:
        answers = early_address(
            load_model(model),
            Workload(context=CONTEXT, placement=IN_HOST),
            load_hardware(GPU),
            calibrated(GPU),
            batches=(*BATCHES, 1024),
        )
        assert not isinstance(answers, Unknown), "the calibration has no fetch times"
        for answer in answers:
            seconds = (answer.hbm_s, answer.by_scores_s, answer.by_tokens_s, answer.saved_s)
            rows.append(
                (
                    load_model(model).name,
                    f"{answer.batch:,}",
                    units.formatted(answer.fetched_bytes, "bytes"),
                    *(units.formatted(each, "s") for each in seconds),
                    f"{100 * answer.saved_s / answer.by_scores_s:.1f} %",
                )
            )
    head = ("model", "batch", "rows fetched", "tables in HBM", "in host memory, rows known late")
    return markdown((*head, "known early", "saved", "of the late step"), rows)


def three_ways_published() -> str:
    """The relative costs that others published, each with its source."""
    rows = [
        (what, tables, f"{100 * (ratio - 1):+.1f} %", source)
        for what, tables, ratio, source in PUBLISHED
    ]
    return markdown(("published", "tables", "throughput", "source"), rows, text=4)


def three_ways_nearest() -> str:
    """A dense model with a table of 100 B parameters in host memory: predicted throughputs."""
    rows = []
    for batch in BATCHES:
        without, near, far, late = _nearest(batch)
        rows.append(
            (
                f"{batch}",
                *(units.formatted(each, "s") for each in (without, near, far)),
                *(f"{100 * (base / far - 1):+.2f} %" for base in (near, without)),
                f"{100 * (near / late - 1):+.2f} %",
            )
        )
    head = ("batch", "without the layer", "tables in HBM", "in host memory")
    changes = ("throughput over tables in HBM", "over no such layer", "if rows were known late")
    return markdown((*head, *changes), rows)


def three_ways_values() -> dict[str, str]:
    """Numbers and texts that stand in sentences of the page, by name."""
    return {
        "three_ways_link": f"/compare?{urlencode(VIEW, doseq=True)}",
        "three_ways_table": units.formatted(_ngram_bytes(), "bytes"),
        "three_ways_nearest_hbm": span(
            (100 * (near / far - 1) for _, near, far, _ in map(_nearest, BATCHES)), "+.2f"
        ),
        "three_ways_nearest_without": span(
            (100 * (without / far - 1) for without, _, far, _ in map(_nearest, BATCHES)), "+.2f"
        ),
        "three_ways_no_disk": _refused(),
        "three_ways_batch": f"{EQUAL_BYTES_AT}",
    }


@cache
def _rows(trio: tuple[str, ...], place: str) -> list[dict[str, Any]]:
    """What `compare` says of each model at each batch."""
    command = (
        f"sparsecost compare {' '.join(trio)} --context {CONTEXT} --hardware {GPU}"
        f" --batch {','.join(map(str, BATCHES))} --placement tables={place.lower()}"
    )
    rows: list[dict[str, Any]] = json_of(command)["rows"]
    return rows


def _label(field: str) -> str:
    return STEP_QUANTITIES[f"rows.{field}"].label


def _cell(row: Mapping[str, Any], field: str) -> str:
    value = row[field]
    return units.formatted(value, STEP_QUANTITIES[f"rows.{field}"].unit) if value else "-"


def _with_table() -> ModelConfig:
    """The dense model with an Engram layer in its second block, of 100 B parameters of tables."""
    backbone = load_model(BACKBONE)
    columns = 16  # two orders, eight heads
    width = backbone.hidden_size // columns
    layer = Ngram(
        layers="1",
        max_ngram_size=3,
        num_heads=columns // 2,
        vocab_size_base=TABLE_PARAMETERS // (columns * width),
        head_dim=width,
        bias=True,
        conv_kernel=4,
    )
    return replace(backbone, memory=(layer,), published={}, notes=())


@cache
def _nearest(batch: int) -> tuple[float, float, float, float]:
    """Predicted seconds: without the layer, tables in HBM, in host memory, there and known late."""
    work = Workload(batch=batch, context=CONTEXT)
    gpu, curves = load_hardware(GPU), calibrated(GPU)
    alone = predict(load_model(BACKBONE), work, gpu, curves).time
    answers = early_address(
        _with_table(), replace(work, placement=IN_HOST), gpu, curves, batches=(batch,)
    )
    assert not isinstance(alone, Unknown), "the calibration has times of this model"
    assert not isinstance(answers, Unknown), "the calibration has no fetch times"
    (answer,) = answers
    return float(alone.predicted_s), answer.hbm_s, answer.by_tokens_s, answer.by_scores_s


def _ngram_bytes() -> int:
    work = Workload(placement=IN_HOST)
    return predict(_with_table(), work, load_hardware(GPU)).costs.far["host"].table_bytes


def _refused() -> str:
    """What the cost model says of tables on a disk that the GPU's file does not state."""
    try:
        predict(load_model(SMALL[2]), Workload(placement=ON_DISK), load_hardware(GPU))
    except InputError as error:
        return str(error)
    raise AssertionError("the GPU's file states a disk: the page can predict it")


TABLES: dict[str, Callable[[], str]] = {
    make.__name__: make
    for make in (
        *(three_ways_kept, three_ways_steps, three_ways_equal_bytes),
        *(three_ways_early, three_ways_published, three_ways_nearest),
    )
}
