"""The parts of a measured time: by hand, and that they sum to it exactly."""

from fractions import Fraction
from pathlib import Path

import pytest

from costmodel.backends import BACKENDS
from costmodel.recordings.measured import Spread
from costmodel.recordings.recording import Recording
from costmodel.validation.attribution import PARTS, Attribution, attributed, total
from costmodel.validation.case_attribution import BETWEEN, CaseAttribution, case_attribution
from costmodel.validation.join import join_case
from costmodel.validation.machines import Gpus
from costmodel.validation.pauses import PAUSES_S, empty_kernel_s, without_pauses
from costmodel.validation.utilisation import Figure
from tests.committed import GPUS, OF_TORCH, recording
from tests.costs.calibrations import curves, write
from tests.recording_values import case, leaf_paths, run
from tests.recording_values import recording as made_up
from tests.validation.tiny import DENSE

MS = 2.0**-10  # a time that floats hold exactly
UNKNOWN = Figure(value=None, reason="the counters were refused")
PATHS = leaf_paths(DENSE)
H200_BYTES_PER_S = 4.8e12


def of(value: float) -> Figure:
    return Figure(value=value)


def exact_sum(parts: Attribution) -> Fraction:
    """The sum of the parts without any rounding."""
    return sum((Fraction(part) for part in parts.parts.values()), Fraction(0))


def attribution(made: Recording, gpus: Gpus, index: int = 0) -> CaseAttribution:
    return case_attribution(made.cases[index], join_case(made, index, gpus))


def test_parts_by_hand() -> None:
    """Bound 2, traffic 1 more, launches 3, predicted 8: 2 are left; measured 10: 2 unknown."""
    parts = attributed(
        10 * MS, bound_s=2 * MS, over_read_s=of(MS), launch_s=of(3 * MS), predicted_s=of(8 * MS)
    )
    assert parts.parts == {
        "bound_s": 2 * MS,
        "over_read_s": MS,
        "launch_s": 3 * MS,
        "inefficiency_s": 2 * MS,
        "residual_s": 2 * MS,
    }
    assert parts.notes == ()


def test_without_counters_kernel_inefficiency_holds_what_they_would_tell_and_says_so() -> None:
    parts = attributed(
        10 * MS, bound_s=2 * MS, over_read_s=UNKNOWN, launch_s=of(3 * MS), predicted_s=of(8 * MS)
    )
    assert (parts.over_read_s, parts.inefficiency_s, parts.residual_s) == (None, 3 * MS, 2 * MS)
    (note,) = parts.notes
    assert note == (
        "padding and over-read: the counters were refused; the kernel inefficiency holds it"
    )


def test_without_a_prediction_the_residual_holds_all_the_rest() -> None:
    parts = attributed(
        10 * MS, bound_s=2 * MS, over_read_s=UNKNOWN, launch_s=of(3 * MS), predicted_s=UNKNOWN
    )
    assert (parts.inefficiency_s, parts.residual_s) == (None, 5 * MS)
    assert [note.rpartition("; ")[2] for note in parts.notes] == ["the residual holds it"] * 2


def test_a_prediction_that_is_too_long_leaves_less_than_nothing() -> None:
    parts = attributed(
        4 * MS, bound_s=2 * MS, over_read_s=of(-MS), launch_s=of(MS), predicted_s=of(5 * MS)
    )
    assert (parts.over_read_s, parts.residual_s) == (-MS, -MS)
    assert exact_sum(parts) == Fraction(4 * MS)


def test_sums_of_kinds_add_part_by_part() -> None:
    one = attributed(
        3 * MS, bound_s=MS, over_read_s=of(0.0), launch_s=of(MS), predicted_s=of(2 * MS)
    )
    other = attributed(MS, bound_s=MS, over_read_s=UNKNOWN, launch_s=of(0.0), predicted_s=of(MS))
    both = total([one, other])
    assert (both.measured_s, both.bound_s, both.launch_s) == (4 * MS, 2 * MS, MS)
    assert exact_sum(both) == Fraction(4 * MS)
    assert both.notes == other.notes


def test_a_step_by_hand(tmp_path: Path) -> None:
    """48e9 bytes take 10 ms at 4.8e12 a second; 100 empty kernels of 0.69 us and pauses 0.31."""
    made = made_up(
        DENSE,
        case(
            time=run({"graph_s": 0.02}),
            trace=run({"launches": 100}, {"kernel_s": [1e-4] * len(PATHS)}),
            counters=run({"hbm_read_bytes": 40e9, "hbm_written_bytes": 8e9}),
        ),
    )
    found = attribution(made, Gpus(write(tmp_path / "h200.json")))
    step = found.step
    assert step is not None
    assert step.bound_s + (step.over_read_s or 0) == pytest.approx(48e9 / H200_BYTES_PER_S)
    assert step.launch_s == pytest.approx(100e-6)
    assert step.measured_s == pytest.approx(0.02, abs=1e-15)
    between = found.by_kind[BETWEEN]
    assert between.measured_s == pytest.approx(0.02 - len(PATHS) * 1e-4)
    matmul = found.by_kind["matmul"]
    assert matmul.measured_s == pytest.approx(13 * 1e-4)  # 4 in each of 3 layers, and the head
    assert matmul.over_read_s is None
    assert any("not measured of these leaves" in note for note in matmul.notes)


def test_a_case_without_a_graph_says_why() -> None:
    made = made_up(DENSE, case(time=run({"graph_s": "no graph could be captured"})))
    found = attribution(made, GPUS)
    assert (found.step, found.reason) == (None, "no graph could be captured")


@pytest.mark.parametrize("name", [*OF_TORCH[:2], "h200-ultramemv2-1b-7b-fused.json"])
def test_parts_of_recorded_steps_and_kinds_sum_to_the_measured_time_exactly(name: str) -> None:
    made, sums = recording(name), 0
    for index, each in enumerate(made.cases):
        found = attribution(made, GPUS, index)
        if found.step is None:
            continue
        every = (found.step, *found.by_kind.values())
        assert all(exact_sum(parts) == Fraction(parts.measured_s) for parts in every)
        assert all(sum(parts.parts.values()) == parts.measured_s for parts in every)
        kinds = found.by_kind.values()
        if kinds:
            assert sum(kind.measured_s for kind in kinds) == found.step.measured_s
            assert sum(kind.residual_s for kind in kinds) == pytest.approx(
                found.step.residual_s + _bounds_apart(found), abs=1e-12
            )
        time = each.runs["time"].step["graph_s"]
        assert isinstance(time, Spread)
        assert found.step.measured_s == pytest.approx(time.median, abs=2.0**-51)
        sums += 1
    assert sums > 10


def _bounds_apart(found: CaseAttribution) -> float:
    """Without a prediction residuals differ as the bounds and over-reads of step and leaves do."""
    assert found.step is not None
    if found.step.inefficiency_s is not None:
        return 0.0
    kinds = found.by_kind.values()
    return sum(
        (getattr(found.step, name) or 0.0) - sum(getattr(kind, name) or 0.0 for kind in kinds)
        for name in ("bound_s", "over_read_s", "launch_s")
    )


def test_every_part_has_a_name_and_a_meaning() -> None:
    fields = [name for name in Attribution.__dataclass_fields__ if name.endswith("_s")]
    assert fields == ["measured_s", *PARTS]


def test_every_backend_has_its_pause_and_an_empty_kernel_is_a_launch_without_it() -> None:
    """A launch of the calibration by hand takes 1 us, 0.31 of them a pause."""
    assert set(PAUSES_S) == set(BACKENDS)
    assert empty_kernel_s(curves()) == pytest.approx(0.69e-6)
    assert without_pauses(10e-6, 10, "torch", 1e-6) == pytest.approx(6.9e-6)
    assert without_pauses(10e-6, 10, "torch", 8e-6) == 8e-6  # never below the bound
    assert without_pauses(10e-6, 10, "fused", 8e-6) == 10e-6
