"""Tables outside HBM: bytes and times by hand, what hides a fetch, refusals, sums, grids."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from costmodel.costs.calibrations import calibrated
from costmodel.costs.latency import StepTime, Unknown
from costmodel.costs.link_times import link_times
from costmodel.costs.predict import Prediction, predict, step_costs
from costmodel.costs.roofline import FarBytes
from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import Disk, Hardware, load_hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.placement import IN_HBM, Placement, parse_placement
from costmodel.layers.product_key import ProductKey
from costmodel.layers.ultramem import UltraMem
from costmodel.questions.designs.evaluate import evaluate
from costmodel.questions.early_address import early_address
from costmodel.questions.sweep import sweep
from costmodel.routing.histogram import AccessCounts, Histogram
from costmodel.routing.popularity import Uniform, Zipf
from tests.steps import make_step, tiny_model

H200 = load_hardware("h200")
HOST = parse_placement("tables=host")
ULTRAMEM = "ultramemv2-1b-7b"  # 16 layers share 16 x 528^2 rows; 128 a token; 768 and 384 values
TABLE_ROWS = 16 * 528**2
VALUES, PRE_VALUES = 768 * 2, 384 * 2  # bytes of a row in bf16


def with_disk(gpu: Hardware) -> Hardware:
    sources = {**gpu.sources, "disk.bytes_per_s": "a test", "disk.latency_s": "a test"}
    return replace(gpu, disk=Disk(bytes_per_s=7e9, latency_s=1e-4), sources=sources)


def at(model: str, placement: Placement, *, gpu: Hardware = H200, **fields: Any) -> Prediction:  # noqa: ANN401
    workload = Workload(placement=placement, **fields)
    return predict(load_model(model), workload, gpu, calibrated("h200"))


def time_of(prediction: Prediction) -> StepTime:
    assert isinstance(prediction.time, StepTime)
    return prediction.time


def memory_model(**fields: object) -> ModelConfig:
    """Three layers of D = 8 with one table of 16 rows of 8 values for all, two rows a token."""
    memory = ProductKey(
        layers="all", num_keys=4, num_heads=1, knn=2, key_dim=4, value_dim=8, replaces_ffn=False
    )
    return tiny_model(memory=(replace(memory, **fields),))  # type: ignore[arg-type]


def gathered(table_bytes: int, row_bytes: int, rows: int) -> float:
    """A measured time; where it falls from 256 to 768 bytes a row, by noise, the mean of both."""
    link = link_times("h200")
    assert link is not None
    times: dict[tuple[int, int, int], float] = {
        (g.table_bytes, g.row_bytes, g.rows): g.host_s for g in link.measured.gathers
    }
    narrow, wide = (times[table_bytes, width, rows] for width in (256, 768))
    if narrow > wide and row_bytes in {256, 768}:
        return math.sqrt(narrow * wide)
    return times[table_bytes, row_bytes, rows]


def test_a_row_that_is_read_again_crosses_the_link_again() -> None:
    """256 tokens read 128 rows of 16 layers each; a counter saw 1,207,966,752 bytes of them."""
    host = at(ULTRAMEM, HOST, batch=256).costs.far["host"]
    assert host.row_reads == host.sector_bytes == 256 * 4_718_592
    assert host.sector_bytes == pytest.approx(1_207_966_752, rel=1e-5)
    assert host.read < 0.95 * host.row_reads


def test_popular_rows_of_a_cache_answer_more_reads_than_their_number() -> None:
    """Zipf over 16 rows of which 8 are cached; one draw a token: H(8) / H(16) of all reads."""
    model = memory_model(shared_table=False, knn=1)
    placement = parse_placement("tables=host", hot_rows_bytes=384)  # half of three tables
    workload = Workload(batch=5, routing=Zipf(1.0), placement=placement)
    harmonic = [sum(1 / i for i in range(1, n + 1)) for n in (8, 16)]
    row_reads = step_costs(model, workload.step()).far["host"].row_reads
    assert row_reads == pytest.approx(3 * 5 * 16 * (1 - harmonic[0] / harmonic[1]), rel=1e-9)


def test_bytes_of_one_token_by_hand() -> None:
    """One token touches 128 different rows of both tables in each of 16 layers."""
    found = at(ULTRAMEM, HOST, batch=1)
    host, sums = found.costs.far["host"], found.costs.totals
    reads = 16 * 128 * (VALUES + PRE_VALUES)
    assert host.row_reads == sums.fetched_bytes == reads == 4_718_592
    assert sums.fetched_rows == 2 * 16 * 128
    assert host.table_bytes == TABLE_ROWS * (VALUES + PRE_VALUES) == 10_276_044_800 + 1_048_576
    # Layers that share a table touch few rows in common: a row is touched with probability
    # 128 / 1493^2 by each of the 8 layers or so that reach it.
    assert 0.999 * reads < host.read < reads
    assert host.sector_bytes == host.row_reads  # rows are whole sectors
    assert host.read == sums.host_bytes
    assert (sums.row_bytes, found.costs.rows.read_bytes) == (0, 0)
    # By the link's datasheet, 64e9 bytes/s in one direction: 74 us, which the HBM's bytes hide.
    assert found.ceilings.far_s(FarBytes(host.read, 0)) == {"link": host.read / 64e9}
    assert found.floor_s == sums.compulsory_bytes / 4.8e12
    assert found.bound_by == "memory"


def test_fetches_of_rows_chosen_by_scores_add_to_the_step() -> None:
    """128 rows lie between the measured 96 and 384, windows of 1493^2 rows between 1 and 4 GiB.

    log t is linear in both logs.
    """
    share = math.log(128 / 96) / math.log(384 / 96)

    def between(width: int) -> float:
        low, high = (
            gathered(size, width, 96) ** (1 - share) * gathered(size, width, 384) ** share
            for size in (2**30, 2**32)
        )
        of_four = math.log(1493**2 * width / 2**30) / math.log(4)
        return math.exp((1 - of_four) * math.log(low) + of_four * math.log(high))

    values, pre_values = between(VALUES), between(PRE_VALUES)
    near, far = time_of(at(ULTRAMEM, IN_HBM)), time_of(at(ULTRAMEM, HOST))
    assert far.fetches.seconds == pytest.approx(16 * (values + pre_values), rel=1e-9)
    assert far.fetches.exposed_s == far.fetches.seconds
    assert far.fetches.waited_s == 0
    assert far.predicted_s == pytest.approx(near.predicted_s + far.fetches.seconds, rel=1e-12)
    assert sum(
        operator.count * time.seconds
        for operator, time in zip(at(ULTRAMEM, HOST).costs.operators, far.operators, strict=True)
    ) == pytest.approx(far.graph_s, rel=1e-12)


def test_the_link_bounds_a_step_that_fetches_much() -> None:
    found = at(ULTRAMEM, HOST, batch=256)
    host = found.costs.far["host"]
    assert found.floor_s == host.read / 64e9
    assert found.bound_by == "link"
    time = time_of(found)
    assert time.predicted_s > found.floor_s


def test_what_leaves_hbm_is_room_for_sequences() -> None:
    near, far, some = (
        at(ULTRAMEM, placement, batch=8).memory
        for placement in (IN_HBM, HOST, parse_placement("memory.pre_values=host"))
    )
    tables = TABLE_ROWS * (VALUES + PRE_VALUES)
    assert near.weights_bytes - far.weights_bytes == tables
    assert near.weights_bytes - some.weights_bytes == TABLE_ROWS * PRE_VALUES
    assert near.total_bytes - far.total_bytes == tables
    kept = 16 * 2 * 16 * 128 * 2 * 2049  # bytes of a sequence in the cache
    assert tables // (1.2 * kept) < far.max_batch - near.max_batch <= tables // kept + 1


def test_a_leaf_is_placed_by_its_name() -> None:
    found = at(ULTRAMEM, parse_placement("memory.values=host"))
    assert found.costs.far["host"].row_reads == 16 * 128 * VALUES
    assert found.costs.rows.read_bytes == 16 * 128 * PRE_VALUES
    other = at(ULTRAMEM, parse_placement("tables=host,memory.pre_values=hbm"))
    assert other.costs.far == found.costs.far


@pytest.mark.parametrize("model", ["pkm-lm-16l", "memory-plus-227m-1.2b", "peer-12l-1m"])
@pytest.mark.parametrize("cache", [0, 10**8])
def test_every_kind_keeps_its_sums(model: str, cache: int) -> None:
    placement = parse_placement("tables=host", hot_rows_bytes=cache)
    near, far = at(model, IN_HBM, batch=7).costs, at(model, placement, batch=7).costs
    rows = far.totals.row_bytes + far.totals.host_bytes
    assert rows == pytest.approx(near.totals.row_bytes, rel=1e-12)
    distinct = sum(op.count * op.rows.far_bytes for op in far.operators if op.rows is not None)
    assert far.rows.read_bytes + distinct == pytest.approx(near.rows.read_bytes, rel=1e-12)
    reads = sum(
        op.count * 7 * (weight.active_rows or 0) * weight.cols * 2
        for op in near.operators
        for weight in op.weights
        if weight.group == "memory_values"
    )
    missed = 1 - cache / far.far["host"].table_bytes
    assert far.far["host"].row_reads == pytest.approx(missed * reads, rel=1e-4)
    for name in ("host_bytes", "row_bytes", "fetched_bytes"):
        total = sum(op.count * op.total(name) for op in far.operators)
        assert total == pytest.approx(getattr(far.totals, name), rel=1e-12)
    other = near.totals.compulsory_bytes - near.totals.row_bytes
    assert far.totals.compulsory_bytes == pytest.approx(other + far.totals.row_bytes, rel=1e-12)
    assert bool(far.totals.row_bytes) is bool(cache)


def test_a_cache_of_uniform_rows_holds_its_share_of_them() -> None:
    model = memory_model(shared_table=False)  # three tables of 16 rows of 16 bytes
    workload = Workload(batch=4, placement=parse_placement("tables=host", hot_rows_bytes=192))
    costs = step_costs(model, workload.step())
    distinct = 16 * (1 - (1 - 2 / 16) ** 4)
    assert costs.far["host"].table_bytes == 768
    assert costs.far["host"].read == pytest.approx(3 * 16 * distinct * 3 / 4, rel=1e-12)
    assert costs.totals.row_bytes == pytest.approx(3 * 16 * distinct / 4, rel=1e-12)
    whole = replace(workload, placement=parse_placement("tables=host", hot_rows_bytes=10**6))
    memory = predict(model, whole, H200).memory
    assert memory.hot_rows_bytes == 768  # no more than there is
    assert step_costs(model, whole.step()).far["host"].read == 0


def test_layers_of_one_table_share_the_cache() -> None:
    """Under uniform routing it holds a quarter of what any layer reads, whoever shares it."""
    workload = Workload(batch=4, placement=parse_placement("tables=host", hot_rows_bytes=64))
    costs = step_costs(memory_model(), workload.step())  # one table of 256 bytes
    row_share = costs.far["host"].row_reads / (3 * 4 * 2 * 16)
    assert row_share == pytest.approx(3 / 4, abs=0.04)  # the cache holds whole rows


def test_popular_rows_make_a_cache_worth_more() -> None:
    def missed(routing: object) -> float:
        workload = Workload(
            batch=64,
            routing=routing,  # type: ignore[arg-type]
            placement=parse_placement("tables=host", hot_rows_bytes=10**9),
        )
        sums = step_costs(load_model(ULTRAMEM), workload.step()).totals
        return float(sums.host_bytes / (sums.host_bytes + sums.row_bytes))

    uniform = missed(Uniform())
    assert uniform == pytest.approx(1 - 10**9 / (TABLE_ROWS * (VALUES + PRE_VALUES)), abs=1e-4)
    assert missed(Zipf(0.5)) < uniform
    assert missed(Zipf(1.0)) < missed(Zipf(0.5))


def test_a_histogram_caches_what_was_drawn_most() -> None:
    """8 of 16 rows were drawn 30 times, the others once or twice in 128 trials of two draws."""
    rows = AccessCounts(population=16, trials=128, draws=2, counts=((30, 8), (2, 8)))
    histogram = Histogram(label="histogram:test", source="a test", rows=rows)
    model = memory_model(shared_table=False)
    placement = parse_placement("tables=host", hot_rows_bytes=384)  # half of the tables
    workload = Workload(batch=1, routing=histogram, placement=placement)
    costs = step_costs(model, workload.step())
    # one trial draws each of the 8 cold rows with probability 2 / 128
    assert costs.far["host"].row_reads == pytest.approx(3 * 8 * (2 / 128) * 16, rel=1e-12)
    beyond = predict(model, replace(workload, batch=129), H200, calibrated("h200"))
    assert math.isnan(beyond.costs.far["host"].read)
    assert math.isnan(beyond.floor_s)
    assert isinstance(beyond.time, Unknown)
    assert "histogram holds 128" in beyond.time.reason


def test_a_disk_has_a_bound_and_no_predicted_time() -> None:
    gpu = with_disk(H200)
    found = at(ULTRAMEM, parse_placement("tables=disk"), gpu=gpu, batch=64)
    read = found.costs.far["disk"].read
    assert found.costs.far["host"].read == 0
    assert found.floor_s == 1e-4 + read / 7e9
    assert found.bound_by == "disk"
    assert isinstance(found.time, Unknown)
    assert found.time.reason.startswith("no times of rows read from a disk are measured")
    both = at(ULTRAMEM, parse_placement("memory.values=disk,memory.pre_values=host"), gpu=gpu)
    assert both.ceilings.far_s(FarBytes(4e9, 3e9)) == {"link": 4e9 / 64e9, "disk": 1e-4 + 3e9 / 7e9}
    assert both.costs.totals.link_bytes == both.costs.far["host"].read + both.costs.far["disk"].read


def test_a_gpu_without_measured_gathers_has_a_bound_and_no_predicted_time() -> None:
    curves = calibrated("h200")
    assert not isinstance(curves, Unknown)
    other = replace(curves, calibration=replace(curves.calibration, hardware="h100-sxm"))
    workload = Workload(placement=HOST)
    found = predict(load_model(ULTRAMEM), workload, load_hardware("h100-sxm"), other)
    assert isinstance(found.time, Unknown)
    assert "no times of rows read from host memory are measured on h100-sxm" in found.time.reason
    assert found.floor_s > 0


def test_an_input_embedding_is_fetched_before_anything_could_hide_it() -> None:
    near, far = (
        at("llama-3.1-8b", placement, batch=8)
        for placement in (IN_HBM, parse_placement("embed=host"))
    )
    rows = 128_256 * (1 - (1 - 1 / 128_256) ** 8)
    assert far.costs.far["host"].read == pytest.approx(rows * 4096 * 2, rel=1e-9)
    assert near.costs.totals.weight_bytes - far.costs.totals.weight_bytes == pytest.approx(
        rows * 4096 * 2, rel=1e-9
    )
    time = time_of(far)
    assert time.fetches.waited_s == time.fetches.seconds > 3e-6  # nothing runs before it
    assert time.predicted_s == pytest.approx(
        time_of(near).predicted_s + time.fetches.seconds, rel=1e-3
    )


@pytest.mark.parametrize(
    ("placement", "fields", "parts"),
    [
        ("attention.qkv=host", {}, ("'attention.qkv=host'", "is no table that is read by rows")),
        ("memory.query=host", {}, ("'memory.query=host'", "embed, memory.pre_values")),
        ("tables=ssd", {}, ("'tables=ssd'", "PLACE is hbm, host, disk")),
        ("tables", {}, ("'tables'", "is no TABLE=PLACE")),
        ("tables=host,tables=hbm", {}, ("'tables' is listed twice",)),
        ("tables=disk", {}, ("'tables=disk'", "[disk]", "'NVIDIA H200 SXM' lacks")),
        ("tables=host", {"gpu": "b200"}, ("'tables=host'", "[link]", "'NVIDIA B200 (HGX)' lacks")),
        (
            "tables=host",
            {"host_memory_bytes": 8 * 10**9},
            ("tables of 10,277,093,376 bytes", "host_memory=8,000,000,000"),
        ),
        ("tables=hbm", {"hot_rows_bytes": 5}, ("hot_rows=5", "puts none there")),
    ],
)
def test_a_placement_that_cannot_be_is_refused(
    placement: str, fields: dict[str, Any], parts: tuple[str, ...]
) -> None:
    gpu = load_hardware(fields.pop("gpu", "h200"))
    with pytest.raises(InputError) as caught:
        at(ULTRAMEM, parse_placement(placement, **fields), gpu=gpu)
    for part in parts:
        assert part in str(caught.value)


def test_a_tied_embedding_is_refused() -> None:
    model = tiny_model(tie_word_embeddings=True)
    with pytest.raises(InputError, match="embed is tied to the LM head, which multiplies all"):
        step_costs(model, Workload(placement=parse_placement("embed=host")).step())


def test_a_host_that_its_gpus_file_describes_is_a_limit_too() -> None:
    sources = {**H200.sources, "host_memory_bytes": "a test"}
    small = replace(H200, host_memory_bytes=2**30, sources=sources)
    with pytest.raises(InputError, match="host_memory=1,073,741,824"):
        at(ULTRAMEM, HOST, gpu=small)
    larger = parse_placement("tables=host", host_memory_bytes=2**40)
    assert at(ULTRAMEM, larger, gpu=small).costs.far["host"].table_bytes > 2**30


PLACEMENTS = [HOST, parse_placement("tables=host", hot_rows_bytes=10**9)]


@pytest.mark.parametrize("placement", PLACEMENTS, ids=["host", "cached"])
def test_a_grid_equals_single_predictions(placement: Placement) -> None:
    model, curves = load_model("ultramemv2-227m-1.2b"), calibrated("h200")
    routings = (Uniform(), Zipf(1.0))
    grid = sweep(
        model,
        Workload(placement=placement),
        batches=(1, 300),
        contexts=(0, 100),
        routings=routings,
        hardwares=(H200, load_hardware("h100-sxm")),
        calibrations=(curves, Unknown(reason="none")),
    )
    records = list(grid.records())
    for record in records:
        routing = next(law for law in routings if law.label == record["routing"])
        work = Workload(
            batch=record["batch"], context=record["context"], routing=routing, placement=placement
        )
        on_h200 = record["hardware"] == H200.name
        gpu = H200 if on_h200 else load_hardware("h100-sxm")
        alone = predict(model, work, gpu, curves if on_h200 else Unknown(reason="none"))
        assert record["host_bytes.read"] == alone.costs.far["host"].read
        assert record["host_bytes.rows_in_sectors"] == alone.costs.far["host"].sector_bytes
        assert record["hbm_bytes.compulsory"] == alone.costs.totals.compulsory_bytes
        assert record["memory.max_batch"] == alone.memory.max_batch
        assert record["time.floor_s"] == alone.floor_s
        assert record["time.bound_by"] == alone.bound_by
        if on_h200:
            time = time_of(alone)
            assert record["time.predicted_s"] == pytest.approx(time.predicted_s, rel=1e-12)
            assert record["time.predicted_fetch_s"] == pytest.approx(
                time.fetches.seconds, rel=1e-12
            )
    assert len(records) == 16


def test_many_designs_equal_single_predictions() -> None:
    model, curves = load_model("ultramemv2-227m-1.2b"), calibrated("h200")
    (memory,) = model.memory
    assert isinstance(memory, UltraMem)
    designs = [model, replace(model, memory=(replace(memory, knn=memory.knn + 8),))]
    work = Workload(placement=parse_placement("tables=host", hot_rows_bytes=10**8))
    found = evaluate(designs, work, H200, curves, batches=(2, 64), contexts=(10,))
    for i, design in enumerate(designs):
        for j, batch in enumerate((2, 64)):
            alone = predict(design, replace(work, batch=batch, context=10), H200, curves)
            columns = {name: values[i, j, 0] for name, values in found.columns.items()}
            assert columns["hbm_bytes.compulsory"] == pytest.approx(
                alone.costs.totals.compulsory_bytes, rel=1e-12
            )
            assert columns["memory.total_bytes"] == alone.memory.total_bytes
            assert columns["time.floor_s"] == pytest.approx(alone.floor_s, rel=1e-12)
            assert columns["time.predicted_s"] == pytest.approx(
                time_of(alone).predicted_s, rel=1e-12
            )


def test_an_early_address_hides_a_fetch_until_the_link_is_the_longer() -> None:
    """64 sequences: 6.6 ms of fetches hide behind 8.6 ms; at 1,024 the link takes longer."""
    few, some, many = early_address(  # type: ignore[misc]
        load_model(ULTRAMEM), Workload(placement=HOST), H200, calibrated("h200"),
        batches=(1, 64, 1024),
    )  # fmt: skip
    for answer in (few, some):
        assert answer.by_tokens_s == answer.hbm_s
        assert answer.by_tokens_exposed_s == 0
        assert answer.saved_s == pytest.approx(answer.by_scores_exposed_s, rel=1e-12)
    assert 0 < many.by_tokens_exposed_s < many.by_scores_exposed_s
    assert many.by_tokens_s == pytest.approx(many.hbm_s + many.by_tokens_exposed_s, rel=1e-12)
    with pytest.raises(InputError, match="placement='tables=hbm': moves no table"):
        early_address(load_model(ULTRAMEM), Workload(), H200, calibrated("h200"), batches=(1,))


def test_a_kind_addressed_by_tokens_is_fetched_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Workload(batch=64, placement=HOST)
    late = predict(load_model(ULTRAMEM), work, H200, calibrated("h200"))
    monkeypatch.setattr(UltraMem, "addressed_by", "tokens")
    early = predict(load_model(ULTRAMEM), work, H200, calibrated("h200"))
    assert time_of(early).fetches.seconds == time_of(late).fetches.seconds
    assert time_of(early).fetches.exposed_s == 0
    assert time_of(late).predicted_s - time_of(early).predicted_s == pytest.approx(
        time_of(late).fetches.seconds, rel=1e-9
    )
    assert early.floor_s == late.floor_s  # the link must bring them within the step all the same


def test_counts_of_arrays_keep_what_stands_in_hbm() -> None:
    """Rows that are not fetched stay where they were: the default has no new numbers."""
    step = make_step(batch=3)
    sums = step_costs(memory_model(), step).totals
    assert (sums.host_bytes, sums.disk_bytes, sums.fetched_rows, sums.fetched_bytes) == (0,) * 4
    assert np.isscalar(sums.row_bytes)


def test_rows_of_n_grams_are_known_ahead_and_hide() -> None:
    """Engram's demo: two layers of 16 rows of 64 values a token, in blocks 1 and 15 of 30."""
    found = at("engram-demo-30l-reconstruction", HOST, batch=1)
    assert found.costs.totals.fetched_rows == pytest.approx(32, rel=1e-6)
    assert found.costs.far["host"].row_reads == pytest.approx(2 * 16 * 64 * 2, rel=1e-6)
    fetched = time_of(found).fetches
    # 1.32 GB lie between 1 and 4 GiB; narrower rows than any measured, and fewer: the shortest time
    of_four = math.log(1_324_052_992 / 2**30) / math.log(4)
    shortest = gathered(2**30, 256, 24) ** (1 - of_four) * gathered(2**32, 256, 24) ** of_four
    assert fetched.seconds == pytest.approx(2 * shortest, rel=1e-6)
    assert fetched.exposed_s == 0
    at_input = time_of(at("longcat-flash-lite", HOST, batch=1024)).fetches
    assert 0 < at_input.waited_s < at_input.seconds  # little runs before a model's input
