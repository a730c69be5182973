"""The committed recordings hold what the cost model says, and break none of its bounds."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from math import sqrt
from statistics import fmean

import pytest

from costmodel.achieved import achieved
from costmodel.beside import workload_of
from costmodel.bound import BOUNDED, READ, Violation, violations
from costmodel.costs.footprint import footprint
from costmodel.inputs.measured import Accesses, Spread, SpreadColumn
from costmodel.inputs.recording import Case, CaseWorkload, Recording, Run, RunName
from costmodel.join import Row, case_label
from costmodel.layers.routing import Routing, Uniform, Zipf
from costmodel.predict import step_costs
from costmodel.quantities import QUANTITIES, RUNS
from tests.committed import FIRST, GPUS, NAMES, joined, recording

EXACT_OF_STEP = ("parameters", "buffer_bytes", "kv_held_bytes", "flops_counted")
SPARSE = [path.name for path in FIRST if "llama" not in path.name]
LARGE = ("h200-olmoe-1b-7b.json", "h200-ultramemv2-1b-7b.json")
LAWS: dict[str, Routing] = {"uniform": Uniform(), "zipf:1.0": Zipf(1.0)}
KIBIBYTE = 1024


def measured_cases(name: str, run: RunName) -> Iterator[tuple[int, Case]]:
    found = [(i, each) for i, each in enumerate(recording(name).cases) if run in each.runs]
    assert found
    return iter(found)


# 1. Counts that must be equal.


@pytest.mark.parametrize("name", NAMES)
def test_counts_equal_the_prediction_in_every_recorded_case(name: str) -> None:
    made = recording(name)
    for index, _ in measured_cases(name, "time"):
        rows = [row for row in joined(name)[index].rows if row.run == "time"]
        exact = [row for row in rows if QUANTITIES[row.quantity].exact]
        assert [row.quantity for row in exact if row.path is None] == list(EXACT_OF_STEP)
        assert [row.path for row in exact if row.path is not None] == list(made.paths)
        for row in exact:
            assert row.measured is not None, row
            assert row.measured == row.predicted, row


@pytest.mark.parametrize("name", NAMES)
def test_what_is_lacking_is_what_was_predicted_not_to_fit(name: str) -> None:
    """And all that fits was measured: of a case either every planned run is there, or none."""
    made = recording(name)
    card_bytes = made.sessions[0].machine.memory_bytes
    for case in made.cases:
        assert bool(case.runs) != bool(case.lacking), case_label(case)
        assert (needed_bytes(made, case) > card_bytes) == bool(case.lacking), case_label(case)
        for reason in case.lacking.values():
            assert reason.startswith("does not fit: cache and activations need")


def needed_bytes(made: Recording, case: Case) -> float:
    step = workload_of(case.workload).step()
    costs = step_costs(made.model, step)
    found = footprint(
        costs.operators, step, costs.kv_cache, made.model.hidden_size, capacity_bytes=0
    )
    return float(found.total_bytes)


# 2. Bounds that nothing may beat.


@pytest.mark.parametrize("name", NAMES)
def test_no_read_and_no_time_undercuts_its_bound(name: str) -> None:
    assert violations(recording(name), GPUS) == []


def test_only_reads_of_leaves_need_what_l2_can_hold() -> None:
    """Without that allowance every step and every time still holds, and all reads but a few.

    The input embedding of a model with tied weights may read half of its rows: the LM head of the
    step before has left them in L2. Nothing else is short by more than 511 bytes.
    """
    found = [each for path in FIRST for each in violations(with_l2(recording(path.name), 1), GPUS)]
    assert {each.quantity for each in found} == {READ}
    assert {leaf(each.path) for each in found} == {
        "embed",
        "attention.core",
        "memory.query",
        "memory.pre_values",
    }
    for each in found:
        if each.path == "embed":
            assert each.share > 0.49
        else:
            assert each.bound - each.measured < KIBIBYTE / 2


def with_l2(made: Recording, nbytes: int) -> Recording:
    """The same numbers, as if the L2 had that size. (0 would say that it is not known.)"""
    sessions = (replace(s, machine=replace(s.machine, l2_bytes=nbytes)) for s in made.sessions)
    return replace(made, sessions=tuple(sessions))


def leaf(path: str | None) -> str:
    assert path is not None
    return ".".join(path.split(".")[-2:])


STEP_BYTES = 2 * (8_030_261_248 - 128_256 * 4096) + 16 * 8192 * 131_072
"""That a decode step of 16 x 8,192 tokens of Llama-3.1-8B reads: all weights but embeddings, KV."""
LM_HEAD_BYTES = 2 * 128_256 * 4096
L2_BYTES = 60 * 2**20
BYTES_PER_S = 4.8e12  # of the datasheet


@pytest.mark.parametrize("quantity", BOUNDED)
@pytest.mark.parametrize(("share", "below"), [(0.99, 1), (1.01, 0)])
def test_a_step_below_its_bound_is_found(quantity: str, share: float, below: int) -> None:
    made, case, name = dense_case(quantity)
    given = case.runs[name].step[quantity]
    assert isinstance(given, Spread)
    bound = bound_of(quantity, STEP_BYTES)
    low = replace(given, median=share * bound, q1=0.0)
    step = {**case.runs[name].step, quantity: low}
    found = violations_of(made, case, name, replace(case.runs[name], step=step))
    assert [(each.quantity, each.path) for each in found] == [(quantity, None)] * below
    assert all(each.bound == pytest.approx(bound, rel=0.01) for each in found)


@pytest.mark.parametrize("quantity", [READ, "kernel_s"])
@pytest.mark.parametrize(("share", "below"), [(0.99, 1), (1.01, 0)])
def test_a_leaf_below_its_bound_is_found(quantity: str, share: float, below: int) -> None:
    made, case, name = dense_case(quantity)
    given = case.runs[name].operators[quantity]
    assert isinstance(given, SpreadColumn)
    place = made.paths.index("lm_head")
    bound = bound_of(quantity, LM_HEAD_BYTES)
    low = replace(
        given,
        median=changed(given.median, place, share * bound),
        q1=changed(given.q1, place, 0.0),
        q3=changed(given.q3, place, 2 * bound),
    )
    operators = {**case.runs[name].operators, quantity: low}
    found = violations_of(made, case, name, replace(case.runs[name], operators=operators))
    assert [(each.quantity, each.path) for each in found] == [(quantity, "lm_head")] * below
    assert all(each.bound == pytest.approx(bound, rel=0.01) for each in found)


def bound_of(quantity: str, nbytes: int) -> float:
    """By hand; what is written, half a percent of what is read at most, is left out."""
    return (nbytes - L2_BYTES) / (1 if quantity == READ else BYTES_PER_S)


def changed(values: tuple[float | None, ...], place: int, value: float) -> tuple[float | None, ...]:
    return (*values[:place], value, *values[place + 1 :])


def dense_case(quantity: str) -> tuple[Recording, Case, RunName]:
    """Decode of 16 sequences of 8,192 tokens by Llama-3.1-8B."""
    made = recording("h200-llama-3.1-8b.json")
    work = CaseWorkload(
        phase="decode", batch=16, context=8192, new_tokens=1, dtype="bf16", routing="uniform"
    )
    (case,) = (each for each in made.cases if each.workload == work)
    return made, case, "counters" if quantity == READ else "time"


def violations_of(made: Recording, case: Case, name: RunName, run: Run) -> list[Violation]:
    cases = (replace(case, runs={name: run}),)
    return violations(replace(made, cases=cases), GPUS)


# 3. Distinct experts and rows.


@pytest.mark.parametrize("name", SPARSE)
def test_uniform_routing_touches_what_is_expected(name: str) -> None:
    """Within 2 % from 16 tokens on: the mean over layers, and over contexts of the same tokens."""
    means = distinct_means(name, "uniform")
    assert {16, 64, 256, 512, 2048, 8192} <= set(means)
    for tokens, rows in means.items():
        if tokens >= 16:
            measured = fmean(row.measured or 0 for row in rows)
            expected = fmean(row.predicted or 0 for row in rows)
            assert measured == pytest.approx(expected, rel=0.02), tokens


@pytest.mark.parametrize("name", SPARSE)
def test_zipf_routing_touches_what_is_expected(name: str) -> None:
    """Within three standard errors of the mean over layers, at every batch.

    A token's draws without replacement are negatively associated, tokens are independent; so the
    variance of the distinct items D(T) of T draws is at most the sum over items of q (1 - q), q
    being the probability that the item is touched. Since 1 - q = (1 - pi)^T, that sum is
    D(2T) - D(T): what a second such step would add. Layers are drawn one after the other.
    """
    means = distinct_means(name, "zipf:1.0")
    assert {1, 4, 16, 64, 256} <= set(means)
    for tokens, rows in means.items():
        variance = sum(variance_bound(each, Zipf(1.0)) for each in choices(name, tokens))
        measured = sum(row.measured or 0 for row in rows)
        expected = sum(row.predicted or 0 for row in rows)
        assert abs(measured - expected) <= 3 * sqrt(variance) + 1e-9 * expected, tokens


def test_the_variance_bound_is_that_of_a_coin() -> None:
    """One of two experts for one token: D = 1 always; q (1 - q) summed is 2 x 1/4."""
    drawn = Accesses(population=2, trials=1, draws=1, counts=((0, 1), (1, 1)))
    assert variance_bound(drawn, Uniform()) == pytest.approx(0.5)


def variance_bound(each: Accesses, law: Routing) -> float:
    once, twice = (
        law.expected_distinct(each.population, each.draws, times * each.trials, kind="rows")
        for times in (1, 2)
    )
    return float(twice - once)


def distinct_means(name: str, routing: str) -> dict[int, list[Row]]:
    """Rows of distinct experts or table rows, of all layers and contexts, by tokens of the step."""
    found = defaultdict(list)
    for index, case in measured_cases(name, "time"):
        work = case.workload
        if work.routing == routing:
            rows = [
                row
                for row in joined(name)[index].rows
                if row.quantity == "distinct" and row.run == "time"
            ]
            assert all(row.measured is not None and row.predicted is not None for row in rows)
            found[work.batch * work.new_tokens] += rows
    return found


def choices(name: str, tokens: int) -> list[Accesses]:
    """What the case under Zipf with that many tokens chose, layer by layer."""
    (run,) = (
        case.runs["time"]
        for _, case in measured_cases(name, "time")
        if (case.workload.batch, case.workload.routing) == (tokens, "zipf:1.0")
    )
    return list(run.accesses.values())


@pytest.mark.parametrize("name", SPARSE)
def test_runs_of_a_case_choose_alike(name: str) -> None:
    """Declared choices to the item; those by scores within 0.1 %, since sums round differently."""
    made = recording(name)
    for _, case in measured_cases(name, "time"):
        counted = [case.runs[run].operators["distinct"] for run in ("time", "counters")]
        values = [dict(zip(made.paths, each.values, strict=True)) for each in counted]
        histograms = {p: each.distinct for p, each in case.runs["time"].accesses.items()}
        assert histograms == {path: n for path, n in values[0].items() if n is not None}
        if case.workload.routing == "scores":
            for path, n in histograms.items():
                assert values[1][path] == pytest.approx(n, rel=1e-3)
        else:
            assert values[0] == values[1]


# 4. Reads of whole steps, and of their leaves.


@pytest.mark.parametrize("name", NAMES)
def test_reads_of_every_measured_decode_step_are_there(name: str) -> None:
    for _, case in measured_cases(name, "time"):
        read = case.runs["counters"].step[READ]
        assert isinstance(read, Spread)
        assert read.source == "hardware_counter"
        assert read.repeats >= 3


def test_reads_of_leaves_sum_to_those_of_the_step() -> None:
    """Leaves over step lies between 0.9856 and 1.0006 in all decode cases.

    For the 1B/7B models, between 0.9992 and 1.0005. A step is a graph that starts with an empty
    L2; leaves are ranges of an eager step, which find in L2 what their neighbours left there, and
    the LM head of the step before. So leaves of small models read less, up to 7.4 MB a step.
    """
    shares = {
        (path.name, case_label(case)): achieved(recording(path.name), index, GPUS).leaves_over_step
        for path in FIRST
        for index, case in measured_cases(path.name, "counters")
        if case.workload.phase == "decode"
    }
    assert len(shares) == 184
    values = {key: share.value for key, share in shares.items() if share.value is not None}
    assert values.keys() == shares.keys()
    assert min(values.values()) == pytest.approx(0.9856, abs=1e-4)
    assert max(values.values()) == pytest.approx(1.0006, abs=1e-4)
    large = [value for (name, _), value in values.items() if name in LARGE]
    assert min(large) == pytest.approx(0.9992, abs=1e-4)
    assert max(large) == pytest.approx(1.0005, abs=1e-4)


# 5. Self-checks.


@pytest.mark.parametrize("name", NAMES)
def test_self_checks_were_made_and_passed(name: str) -> None:
    """In every session that counted or measured energy; a run `time` needs none."""
    made = recording(name)
    needed: dict[RunName, set[tuple[str, float]]] = {
        "time": set(),
        "counters": {
            ("copy: bytes read", 0.01),
            ("copy: bytes written", 0.01),
            ("streaming linear: bytes read", 0.01),
            ("square GEMM: tensor FLOPs", 0.0),
        },
        "energy": {
            ("copy loop: counter power over power readings", 0.03),
            ("GEMM loop: counter power over power readings", 0.03),
        },
    }
    for index, session in enumerate(made.sessions):
        ran = {run for case in made.cases for run in RUNS if of_session(case, run, index)}
        assert ran
        checked = {(check.name, check.tolerance) for check in session.self_check}
        assert checked >= set().union(*(needed[run] for run in ran))
        assert all(check.passed for check in session.self_check)


def of_session(case: Case, run: RunName, index: int) -> bool:
    return run in case.runs and case.runs[run].session == index
