"""No committed measurement beats its bound, and one that did would be found."""

from dataclasses import replace

import pytest

from costmodel.recordings.case_workload import CaseWorkload
from costmodel.recordings.measured import Spread, SpreadColumn
from costmodel.recordings.quantities import RunName
from costmodel.recordings.recording import Case, Recording, Run
from costmodel.validation.bounds import BOUNDED, READ, Violation, violations
from tests.committed import FIRST, GPUS, NAMES, recording

STEP_BYTES = 2 * (8_030_261_248 - 128_256 * 4096) + 16 * 8192 * 131_072
"""That a decode step of 16 x 8,192 tokens of Llama-3.1-8B reads: all weights but embeddings, KV."""
LM_HEAD_BYTES = 2 * 128_256 * 4096
EXPERT_BYTES = 2 * 3 * 768 * 384  # of OLMoE-227M/1.2B
L2_BYTES = 60 * 2**20
BYTES_PER_S = 4.8e12  # of the datasheet


@pytest.mark.parametrize("name", NAMES)
def test_no_read_and_no_time_undercuts_its_bound(name: str) -> None:
    assert violations(recording(name), GPUS) == []


def test_only_reads_of_leaves_need_what_l2_can_hold() -> None:
    """Without that allowance every step and every time still holds, and all reads but a few.

    The input embedding of a model with tied weights may read half of its rows: the LM head of the
    step before has left them in L2. Where scores choose, the repeats of a case need not choose
    alike: of two layers the last repeat touched an expert more than the median one read. Nothing
    else is short by more than 767 bytes.
    """
    found = [each for path in FIRST for each in violations(with_l2(recording(path.name), 1), GPUS)]
    assert {each.quantity for each in found} == {READ}
    assert {leaf(each.path) for each in found} == {
        "embed",
        "attention.core",
        "memory.query",
        "memory.pre_values",
        "memory.output",
        "moe.experts",
    }
    for each in found:
        if each.path == "embed":
            assert each.share > 0.49
        elif leaf(each.path) == "moe.experts":
            assert each.case.endswith("scores")
            assert each.bound - each.measured < EXPERT_BYTES
        else:
            assert each.bound - each.measured < 768


def with_l2(made: Recording, nbytes: int) -> Recording:
    """The same numbers, as if the L2 had that size. (0 would say that it is not known.)"""
    sessions = (replace(s, machine=replace(s.machine, l2_bytes=nbytes)) for s in made.sessions)
    return replace(made, sessions=tuple(sessions))


def leaf(path: str | None) -> str:
    assert path is not None
    return ".".join(path.split(".")[-2:])


@pytest.mark.parametrize("quantity", BOUNDED)
@pytest.mark.parametrize(("share", "below"), [(0.99, 1), (1.01, 0)])
def test_a_step_below_its_bound_is_found(quantity: str, share: float, below: int) -> None:
    made, case, name = dense_case(quantity)
    given = case.runs[name].step[quantity]
    assert isinstance(given, Spread)
    bound = bound_of(quantity, STEP_BYTES)
    low = replace(given, median=share * bound, q1=0.0, q3=2 * bound)
    step = {**case.runs[name].step, quantity: low}
    found = case_violations(made, case, name, replace(case.runs[name], step=step))
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
    found = case_violations(made, case, name, replace(case.runs[name], operators=operators))
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
    name: RunName = (
        "counters" if quantity == READ else "trace" if quantity == "kernel_s" else "time"
    )
    return made, case, name


def case_violations(made: Recording, case: Case, name: RunName, run: Run) -> list[Violation]:
    cases = (replace(case, runs={name: run}),)
    return violations(replace(made, cases=cases), GPUS)
