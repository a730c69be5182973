"""Two runs compared: by hand on made-up recordings, and what the committed second run says."""

from dataclasses import replace

import pytest

from costmodel.errors import InputError
from costmodel.recordings.measured import Exact, Spread
from costmodel.recordings.quantities import QUANTITIES
from costmodel.validation.repeatability import (
    Change,
    CountAgreement,
    QuantityChanges,
    RecordingPair,
    count_agreements,
    kernels_of,
    quantity_changes,
)
from docs.repeatability import committed, committed_table
from tests.recording_values import case, leaf_paths, run, workload
from tests.recording_values import recording as made_of
from tests.validation.tiny import DENSE

PATHS = leaf_paths(DENSE)
ALLOCATED = ("peak_memory_bytes", "resident_memory_bytes")


def spread(median: float, iqr: float, repeats: int = 5) -> Spread:
    low, high = median - iqr / 2, median + iqr / 2
    return Spread(median=median, q1=low, q3=high, repeats=repeats, source="cuda_event")


def change(first: Spread, again: Spread) -> Change:
    return Change(model="a model", case="a case", first=first, again=again)


def test_medians_agree_where_they_lie_within_both_spreads() -> None:
    """IQRs of 3 and 4 around 100 allow sqrt(9 + 16) = 5, which is 5 %."""
    inside, outside = (change(spread(100, 3), spread(second, 4)) for second in (105, 94.9))
    assert inside.spread == pytest.approx(0.05)
    assert inside.relative == pytest.approx(0.05)
    assert outside.relative == pytest.approx(-0.051)
    assert replace(inside, again=spread(104.9, 4)).within is True
    assert outside.within is False


def test_one_reading_states_no_spread() -> None:
    single = spread(100, 0, repeats=1)
    for first, again in ((single, spread(100, 1)), (spread(100, 1), single)):
        assert change(first, again).spread is None
        assert change(first, again).within is None


def test_a_line_sums_up_its_changes() -> None:
    changes = [
        change(spread(100, 3), spread(102, 4)),
        change(spread(100, 3), spread(90, 4)),
        change(spread(100, 0, repeats=1), spread(101, 4)),
    ]
    line = QuantityChanges(quantity="graph_s", run="time", changes=tuple(changes))
    assert line.usual == pytest.approx(0.02)
    assert line.largest is changes[1]
    assert line.usual_spread == pytest.approx(0.05)
    assert line.within == 1
    alone = replace(line, changes=(changes[2],))
    assert alone.usual_spread is None
    assert alone.within is None


def two_runs() -> RecordingPair:
    """One case in both, in which a time is missing and counts differ, and one in the second."""
    ones = [1] * len(PATHS)
    first = case(
        time=run({"graph_s": 2.0, "eager_s": "not measured", "parameters": 7}, {"launches": ones}),
        energy=run({"energy_j": 5.0}),
    )
    again = case(
        time=run(
            {"graph_s": 3.0, "eager_s": 4.0, "parameters": 8}, {"launches": [2, None, *ones[2:]]}
        )
    )
    other = case(workload(context=9), time=run({"graph_s": 1.0, "parameters": 7}))
    return made_of(DENSE, first), made_of(DENSE, again, other)


def test_a_repeat_by_other_kernels_says_so() -> None:
    """Two repeats of one model, by two backends, are told apart."""
    torch = two_runs()
    fused = [
        replace(
            made,
            cases=tuple(
                replace(each, runs={n: replace(r, backend="fused") for n, r in each.runs.items()})
                for each in made.cases
            ),
        )
        for made in torch
    ]
    named = [
        {change.model for line in quantity_changes([pair]) for change in line.changes}
        for pair in (torch, (fused[0], fused[1]))
    ]
    assert named == [{DENSE.name}, {f"{DENSE.name}, fused"}]


def test_only_what_both_runs_have_is_compared() -> None:
    """IQRs are 2 % of 2 and of 3 seconds: sqrt(0.04^2 + 0.06^2) / 2 = 3.6 %."""
    (line,) = quantity_changes([two_runs()])
    (only,) = line.changes
    assert (line.quantity, line.run, only.model) == ("graph_s", "time", DENSE.name)
    assert only.relative == pytest.approx(0.5)
    assert only.spread == pytest.approx(0.0360555)
    assert line.within == 0


def test_counts_are_equal_or_not() -> None:
    """Of the leaves, one is launched twice instead of once, and one has no count any more."""
    pair = two_runs()
    assert count_agreements([pair]) == (
        CountAgreement(quantity="parameters", run="time", compared=1, equal=0),
        CountAgreement(quantity="launches", run="trace", compared=len(PATHS), equal=len(PATHS) - 2),
    )
    assert [each.equal for each in count_agreements([(pair[0], pair[0])])] == [1, len(PATHS)]


def test_runs_of_other_models_weights_or_data_are_no_repeat() -> None:
    first, again = two_runs()
    for field, other in (
        ("model", replace(again, model=replace(DENSE, name="another"))),
        ("weights_seed", replace(again, weights_seed=1)),
        ("seed", replace(again, cases=tuple(replace(each, seed=1) for each in again.cases))),
    ):
        for compare in (quantity_changes, count_agreements):
            with pytest.raises(InputError, match=f"^{field}.*: differs"):
                compare([(first, other)])


# The committed second run.


def pairs(backend: str) -> list[RecordingPair]:
    return [pair for pair in committed() if kernels_of(pair[0]) == backend]


BACKENDS = sorted({kernels_of(first) for first, _ in committed()})
BOUNDS = {  # by backend and quantity: cases, farthest apart, and fewest within their spread
    ("torch", "graph_s"): (10, 0.004, 7),
    ("torch", "energy_j"): (5, 0.059, 0),
    ("torch", "power_w"): (5, 0.06, None),
    ("torch", "instant_power_w"): (5, 0.056, None),
    ("torch", "idle_power_w"): (5, 0.016, None),
    ("fused", "graph_s"): (10, 0.019, 8),
    ("fused", "energy_j"): (4, 0.048, 0),
    ("fused", "power_w"): (4, 0.047, None),
    ("fused", "instant_power_w"): (4, 0.049, None),
    ("fused", "idle_power_w"): (4, 0.016, None),
}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_second_run_comes_close(backend: str) -> None:
    """Two days apart, by one commit: graphs within 0.4 and 1.9 %, energy within 6 %.

    Steps that the host launches are up to two thirds faster or slower.
    """
    found = {line.quantity: line for line in quantity_changes(pairs(backend))}
    bounds = {quantity: bound for (of, quantity), bound in BOUNDS.items() if of == backend}
    assert found.keys() == {*bounds, "eager_s"}
    for quantity, (cases, farthest, fewest) in bounds.items():
        line = found[quantity]
        assert len(line.changes) == cases
        assert abs(line.largest.relative) <= farthest, quantity
        assert (line.within is None) == (fewest is None), quantity
        assert (line.within or 0) >= (fewest or 0), quantity
    assert all(abs(each.relative) < 0.66 for each in found["eager_s"].changes)


def test_a_second_run_counts_the_same() -> None:
    """To the unit; but PyTorch held 2.8 MB more of UltraMemV2-1B/7B by plain PyTorch, 0.02 %."""
    lines = {(line.quantity, line.run): line for line in count_agreements(committed())}
    assert {quantity for quantity, _ in lines} >= {
        "distinct",
        *ALLOCATED,
        *(name for name, each in QUANTITIES.items() if each.exact and each.only is None),
    }
    for line in lines.values():
        assert line.compared > 0
        assert line.equal == line.compared - (5 if line.quantity in ALLOCATED else 0), line
    for first, again in committed():
        firsts = {each.workload: each.runs["time"] for each in first.cases if each.runs}
        for each in again.cases:
            before, after = firsts[each.workload], each.runs["time"]
            assert before.accesses == after.accesses
            for name in ALLOCATED:
                held = [run.step[name] for run in (before, after)]
                assert all(isinstance(count, Exact) for count in held)
                assert held[1].value == pytest.approx(held[0].value, rel=3e-4)  # type: ignore[union-attr]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_table_says_what_was_measured(backend: str) -> None:
    """Every quantity that is compared has its line, with the numbers of the comparison."""
    text = committed_table()
    of_backend = text.split(f"by `{backend}` (")[1].partition("Medians of")[0]
    for line in quantity_changes(pairs(backend)):
        if line.quantity == "idle_power_w":  # one reading in a session
            continue
        (told,) = (e for e in of_backend.splitlines() if e.startswith(f"| `{line.quantity}`"))
        cells = [each.strip() for each in told.strip("|").split("|")]
        assert cells[1:3] == [line.run, f"{len(line.changes)}"]
        assert percent(cells[3]) == pytest.approx(line.usual, rel=0.01)
        assert percent(cells[4]) == pytest.approx(line.largest.relative, rel=0.01)
        if line.within is None:
            assert cells[5:] == ["one reading", "-"]
        else:
            assert percent(cells[5]) == pytest.approx(line.usual_spread, rel=0.01)
            assert cells[6] == f"{line.within} of {len(line.changes)}"
    for count in count_agreements(committed()):
        equal = "all" if count.equal == count.compared else f"{count.equal:,}"
        assert f"| `{count.quantity}` | {count.run} | {count.compared:,} | {equal} |\n" in text


def percent(cell: str) -> float:
    return float(cell.removesuffix(" %")) / 100
