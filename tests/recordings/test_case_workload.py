"""The workload of a recorded case: every field of the case, and a cache of the weights' format."""

import pytest

from costmodel.inputs.workload import Workload
from costmodel.layers.dtype import DTYPES
from costmodel.layers.formats import Formats
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.routing.popularity import Uniform, Zipf

PREFILL = CaseWorkload(
    phase="prefill", batch=2, context=3, new_tokens=5, dtype="fp32", routing="zipf:0.5"
)
SCORES = CaseWorkload(
    phase="decode", batch=7, context=11, new_tokens=1, dtype="bf16", routing="scores"
)


def test_every_field_of_the_case_reaches_the_workload() -> None:
    fp32 = DTYPES["fp32"]
    assert PREFILL.to_workload() == Workload(
        phase="prefill",
        batch=2,
        context=3,
        new_tokens=5,
        formats=Formats(default=fp32),
        kv_dtype=fp32,
        routing=Zipf(0.5),
    )


@pytest.mark.parametrize("case", [PREFILL, SCORES])
def test_a_routing_may_replace_that_of_the_case(case: CaseWorkload) -> None:
    assert case.to_workload(routing=Zipf(2.0)).routing == Zipf(2.0)


def test_the_models_own_choices_are_taken_as_uniform_unless_known() -> None:
    assert SCORES.to_workload() == Workload(batch=7, context=11, routing=Uniform())
