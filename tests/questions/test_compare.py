"""Where an advantage begins and ends: intervals and sentences against a scan of every batch."""

import re
from dataclasses import replace
from functools import cache
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.costs.predict import predict
from costmodel.costs.roofline import floor_s
from costmodel.costs.step import step_costs
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import MAX_BATCH, Workload
from costmodel.layers.dtype import DTYPES
from costmodel.layers.formats import Formats
from costmodel.questions.compare import Advantage, advantage, compare, range_words, sentences
from costmodel.questions.crossings import CALIBRATED, METRICS, Metric
from costmodel.routing.popularity import Zipf
from tests.sentences import says

LAST = 6000  # batches scanned one by one
H200 = load_hardware("h200")
RANGE = re.compile(r"from batch ([\d,]+) (?:to ([\d,]+)|up)")
PAIRS = [
    ("ultramemv2-227m-1.2b", "olmoe-227m-1.2b"),
    ("ultramem-227m-1.2b", "olmoe-227m-1.2b"),
    ("memory-plus-227m-1.2b", "ultramemv2-227m-1.2b"),
    ("ultramemv2-1b-7b", "olmoe-1b-7b"),
    ("deepseek-v2-lite", "ultramemv2-2.5b-60b"),  # wins at batch 1, and again from 684
    ("deepseek-v2-lite", "llama-3.1-8b"),
    ("deepseek-v3", "qwen3-235b-a22b"),  # wins over 4 % of a batch alone
    ("peer-12l-1m", "pkm-lm-16l"),
]
WORKLOADS = {
    "context 0": Workload(context=0),
    "context 2048": Workload(context=2048),
    "int4, zipf": Workload(
        context=512,
        formats=Formats(default=DTYPES["int4"]),
        kv_dtype=DTYPES["int4"],
        routing=Zipf(1.0),
    ),
    "prefill": Workload(phase="prefill", context=0, new_tokens=16),
}
Intervals = tuple[tuple[int, int | None], ...]


@cache
def costs(model: str, workload: str, metric: Metric, gpu: str = "h200") -> list[float]:
    """The metric at batches 1 to LAST."""
    hardware = load_hardware(gpu)
    step = WORKLOADS[workload].step(batch=np.arange(1, LAST + 1))
    sums = step_costs(load_model(model), step).totals
    moved = sums.compulsory_bytes
    assert isinstance(moved, np.ndarray)
    if metric == "time.floor_s":
        peak, _ = hardware.peak_flops_per_s(WORKLOADS[workload].formats.default.name)
        moved = floor_s(moved, sums.flops, hardware.hbm_bytes_per_s, peak)
        assert isinstance(moved, np.ndarray)
    return [float(value) for value in moved]


def scanned(model: str, reference: str, workload: str, metric: Metric, gpu: str) -> Intervals:
    """Batches up to LAST at which the model needs less, by trying each one."""
    mine, others = costs(model, workload, metric, gpu), costs(reference, workload, metric, gpu)
    found: list[tuple[int, int | None]] = []
    batch = 1
    for wins, run in groupby(a < b for a, b in zip(mine, others, strict=True)):
        length = len(list(run))
        if wins:
            found.append((batch, batch + length - 1))
        batch += length
    return tuple(found)


def up_to(intervals: Intervals, last: int) -> Intervals:
    return tuple(
        (first, last if end is None else min(end, last))
        for first, end in intervals
        if first <= last
    )


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize(("model", "reference"), PAIRS)
def test_intervals_are_those_of_a_scan(
    model: str, reference: str, workload: str, metric: Metric
) -> None:
    for one, other in ((model, reference), (reference, model)):
        for gpu in ("h200", "rtx-4090") if metric == "time.floor_s" else ("h200",):
            found = advantage(
                load_model(one), load_model(other), WORKLOADS[workload], load_hardware(gpu), metric
            )
            assert up_to(found, LAST) == scanned(one, other, workload, metric, gpu), (one, gpu)


def test_some_advantages_come_back() -> None:
    assert scanned(*PAIRS[4], "context 0", "hbm_bytes.compulsory", "h200") == ((1, 1), (684, LAST))
    assert scanned(*PAIRS[5], "context 0", "time.floor_s", "h200") == ((1, 5), (427, LAST))
    narrow = scanned(*PAIRS[6], "context 2048", "time.floor_s", "h200")
    assert narrow == ((3478, 3610),)


@pytest.mark.parametrize("metric", METRICS)
def test_a_model_has_no_advantage_over_itself(metric: Metric) -> None:
    model = load_model("olmoe-1b-7b")
    assert advantage(model, model, Workload(), H200, metric) == ()


def test_a_smaller_model_has_it_everywhere() -> None:
    small, large = load_model("llama-3.1-8b"), load_model("llama-3.1-70b")
    for metric in METRICS:
        assert advantage(small, large, Workload(), H200, metric) == ((1, None),)
        assert advantage(large, small, Workload(), H200, metric) == ()


def made(intervals: Intervals, max_batch: int, metric: Metric = "time.floor_s") -> Advantage:
    return Advantage(
        model="A",
        reference="B",
        metric=metric,
        intervals=intervals,
        max_batch=max_batch,
        backend="fused",
    )


@st.composite
def advantages(draw: st.DrawFn) -> Advantage:
    edges = draw(st.lists(st.integers(1, 30), min_size=1, max_size=6, unique=True).map(sorted))
    pairs = [(a, b - 1) for a, b in zip(edges[::2], edges[1::2], strict=False)]
    intervals: list[tuple[int, int | None]] = [*pairs]
    if len(edges) % 2:
        intervals.append((edges[-1], None))
    return made(tuple(intervals), draw(st.integers(0, 40)))


@given(advantages())
def test_what_is_said_of_the_batches_that_fit_is_true(found: Advantage) -> None:
    def wins(batch: int) -> bool:
        return any(a <= batch and (b is None or batch <= b) for a, b in found.intervals)

    fitting = range(1, found.max_batch + 1)
    changes = [batch for batch in fitting if batch > 1 and wins(batch) != wins(batch - 1)]
    lost = [batch for batch in changes if not wins(batch)]
    text = found.what_fits()
    said = {
        "Not one sequence": not fitting,
        "begins beyond": bool(fitting) and not any(map(wins, fitting)),
        "does not end": any(map(wins, fitting)) and not lost,
        "crossover lies within": bool(lost),
    }
    assert {words: words in text for words in said} == said
    if beyond := re.search(r"after batch ([\d,]+) lies beyond", text):
        last = int(beyond[1])
        assert last >= found.max_batch
        assert wins(last)
        assert not wins(last + 1)
    assert (f"the {found.max_batch:,} sequences" in text) == bool(fitting)


@pytest.mark.parametrize(
    ("intervals", "max_batch", "told"),
    [
        ((), 5, ("at no batch", 1_048_576)),
        (((1, None),), 5000, (1, 5000, "does not end.")),
        (((1, 1200),), 900, (1, 1200, 900, "does not end:", "crossover", 1200)),
        (((1, 5), (427, None)), 300, (1, 5, 427, "crossover lies within", 300)),
    ],
)
def test_sentences(intervals: Intervals, max_batch: int, told: tuple[float | str, ...]) -> None:
    (said,) = sentences([made(intervals, max_batch)])
    assert says(said, "A", "roofline bound", "B", *told)


def test_a_range_of_one_batch_is_that_batch() -> None:
    assert range_words(((4, 4), (7, 1510), (2000, None))) == (
        "at batch 4 and from batch 7 to 1,510 and from batch 2,000 up"
    )


def test_equal_findings_are_said_once_and_others_each() -> None:
    both = [made(((1, 9),), 99, metric) for metric in METRICS]
    (said,) = sentences([*both, *both])  # one model twice
    assert said.count("compulsory HBM bytes") == said.count(" and ") == 1
    assert len(sentences([both[0], made(((1, 8),), 99)])) == 2


def test_a_finding_on_time_names_its_backend_and_no_other_does() -> None:
    for metric in (*METRICS, *CALIBRATED):
        (said,) = sentences([made(((1, 9),), 99, metric)])
        assert ("backend fused" in said) == (metric == "time.predicted_s")


@pytest.mark.parametrize(("model", "reference"), PAIRS)
@pytest.mark.parametrize("workload", ["context 0", "context 2048"])
def test_the_sentences_of_a_comparison_hold_at_the_batches_they_name(
    model: str, reference: str, workload: str
) -> None:
    models = [load_model(reference), load_model(model)]
    found = compare(models, WORKLOADS[workload], H200, batches=(1, 7))
    said = sentences(found.advantages)
    assert said

    def less(batch: int, metric: str) -> bool:
        line = [predict(m, replace(WORKLOADS[workload], batch=batch), H200) for m in models]
        if metric == "time.floor_s":
            return line[1].floor_s < line[0].floor_s
        return bool(line[1].costs.totals.compulsory_bytes < line[0].costs.totals.compulsory_bytes)

    for metric, words in zip(METRICS, ("compulsory HBM bytes", "roofline bound"), strict=True):
        (sentence,) = (text for text in said if words in text)
        assert sentence.startswith(f"{models[1].name} ")
        assert f" than {models[0].name} " in sentence
        if "at no batch" in sentence:
            assert not any(less(batch, metric) for batch in (1, 2, 64, 5000, MAX_BATCH))
        for first, last in RANGE.findall(sentence):
            start, end = (
                int(text.replace(",", "")) if text else MAX_BATCH for text in (first, last)
            )
            assert less(start, metric)
            assert less(end, metric)
            assert start == 1 or not less(start - 1, metric)
            assert end == MAX_BATCH or not less(end + 1, metric)


def test_rows_are_predictions_and_the_largest_batch_is_the_last_that_fits_both() -> None:
    names = ["olmoe-1b-7b", "ultramemv2-1b-7b", "llama-3.1-8b"]
    models = [load_model(name) for name in names]
    workload = Workload(context=4096)
    found = compare(models, workload, H200, batches=(1, 100, 3))
    assert found.batches == (1, 100, 3)
    for batch, line in zip(found.batches, found.predictions, strict=True):
        assert line == tuple(predict(m, replace(workload, batch=batch), H200) for m in models)
    pairs = [(each.model, each.metric) for each in found.advantages]
    assert pairs == [(model.name, metric) for model in models[1:] for metric in METRICS]
    for each, model in zip(found.advantages[::2], models[1:], strict=True):
        for batch, both in ((each.max_batch, True), (each.max_batch + 1, False)):
            step = replace(workload, batch=batch)
            fit = [predict(m, step, H200).memory.fits for m in (models[0], model)]
            assert all(fit) == both
