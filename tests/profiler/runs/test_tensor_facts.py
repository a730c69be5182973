"""What tensors say is what the cost model predicts, to the unit, for every kind of layer."""

from collections import Counter
from typing import Any

import pytest

from costmodel.costs.operators import build_operators
from costmodel.costs.totals import kv_cache, parameter_counts, totals
from costmodel.inputs.model import ModelConfig
from costmodel.layers.operator import Step
from costmodel.layers.recurrent import PRODUCTS
from costmodel.layers.site import expanded_paths
from costmodel.recordings.measured import Accesses, Exact, ExactColumn
from profiler.runs.case import PreparedCase
from profiler.runs.tensor_facts import FlopCount, accesses, distinct_column, tensor_facts
from reference_model.routing import selectors
from tests.profiler.runs.cases import DECODE, PREFILL, case_of, model_of, step_of, work
from tests.reference_model.tiny import MODELS

COUNTED = ("matmul", "attention", "gather")
WORKLOADS: dict[str, dict[str, Any]] = {
    "decode": {**DECODE, "dtype": "bf16"},
    "prefill": {**PREFILL, "dtype": "fp32"},
    "prefill after a context": {**PREFILL, "context": 3, "new_tokens": 5, "dtype": "bf16"},
}


def predicted_flops(config: ModelConfig, step: Step) -> dict[str, int]:
    return {
        path: int(
            sum(
                part.flops
                for part in operator.parts
                if part.kind in COUNTED or part.name in PRODUCTS
            )
        )
        for operator in build_operators(config, step)
        for path in expanded_paths(operator.path)
    }


@pytest.mark.slow
@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("name", MODELS)
def test_exact_counts_are_those_predicted(name: str, workload: str) -> None:
    config, case = MODELS[name], case_of(name, **WORKLOADS[workload])
    step = step_of(case.workload)
    operators = build_operators(config, step)
    facts = tensor_facts(case, FlopCount(case.model).of(case.workload))
    flops = predicted_flops(config, step)
    buffers = sum(
        buffer.elements * buffer.element_bytes * operator.count
        for operator in operators
        for buffer in operator.buffers
    )
    kept = kv_cache(config, step, totals(operators))
    held, state = kept.stored_bytes, kept.state_bytes
    want = {
        "parameters": (parameter_counts(operators).total, "tensors"),
        "buffer_bytes": (buffers, "tensors"),
        "kv_held_bytes": (held, "tensors"),
        "kv_allocated_bytes": (held, "tensors"),  # the cache is as large as the step needs
        "flops_counted": (sum(flops.values()), "flop_counter"),
        **({"state_held_bytes": (state, "tensors")} if state else {}),
    }
    assert {n: (m.value, m.source) for n, m in facts.step.items() if isinstance(m, Exact)} == want
    assert facts.operators == {
        "flops_counted": ExactColumn(
            values=tuple(flops[path] for path in case.model.leaves()), source="flop_counter"
        )
    }


def test_parameters_of_a_tiny_model_by_hand() -> None:
    """Vocabulary 23 x D 16; 4 layers of qkv 16 x 32, output 16 x 16, FFN 3 x 16 x 16, norms."""
    case = case_of("dense", dtype="bf16", batch=3, context=6)
    facts = tensor_facts(case, {}).step
    layer = 16 * (4 + 2 * 2) * 4 + 16 * 16 + 3 * 16 * 16 + 2 * 16 + 2 * 4
    assert facts["parameters"] == Exact(value=2 * 23 * 16 + 4 * layer + 16, source="tensors")
    # keys and values of 2 heads of 4 elements of 2 bytes: 4 layers, 3 sequences, 7 tokens
    assert facts["kv_held_bytes"] == Exact(value=2 * 2 * 4 * 2 * 4 * 3 * 7, source="tensors")


class Countless(FlopCount):
    """Counts how often FLOPs are counted."""

    counted = 0

    def of(self, work: Any) -> dict[str, int]:  # noqa: ANN401 - a workload
        before = len(self.known)
        flops = super().of(work)
        self.counted += len(self.known) - before
        return flops


def test_flops_of_equal_shapes_are_counted_once_and_no_routing_changes_them() -> None:
    flops = Countless(model_of("deepseek"))
    by_routing = [flops.of(work(routing=routing)) for routing in ("uniform", "zipf:1.0", "scores")]
    assert by_routing[0] == by_routing[1] == by_routing[2]
    assert flops.counted == 1


@pytest.mark.slow
@pytest.mark.parametrize("changed", [{"batch": 2}, {"context": 5}, PREFILL, {"phase": "prefill"}])
def test_other_shapes_are_counted_anew_and_leave_no_trace(changed: dict[str, Any]) -> None:
    """Among them a prefill of the shapes of a decode step, whose latent attention is expanded."""
    shared, decode = FlopCount(model_of("mla")), work()
    other = work(**changed)
    for workload in (decode, other, decode, other):
        assert shared.of(workload) == FlopCount(model_of("mla")).of(workload)
    assert sum(shared.of(decode).values()) != sum(shared.of(other).values())


def test_a_routing_changes_what_is_chosen_and_no_flops() -> None:
    model = model_of("moe")
    for routing in ("uniform", "zipf:5"):
        case = PreparedCase(model, work(batch=8, routing=routing), 1)
        case.run()
        selected = {
            p: leaf.selected for p, leaf in selectors(model).items() if leaf.selected is not None
        }
        distinct, histogram = distinct_column(case), accesses(model)
        assert distinct.source == "choices"
        assert (
            set(histogram) == set(selected) == {f"layers.{layer}.moe.router" for layer in range(4)}
        )
        for path, count in zip(model.leaves(), distinct.values, strict=True):
            if path not in selected:
                assert count is None
                continue
            times = Counter(selected[path].flatten().tolist())
            assert count == len(times) == histogram[path].distinct
            by_times = Counter(times[expert] for expert in range(8))
            assert histogram[path] == Accesses(
                population=8, trials=8, draws=2, counts=tuple(sorted(by_times.items()))
            )


def test_rows_are_counted_by_token_and_head() -> None:
    """4 tokens x 2 heads draw 3 of 5 x 5 rows each."""
    case = case_of("memory_plus", batch=4)
    case.run()
    histogram = accesses(case.model)["layers.1.memory.retrieve"]
    assert (histogram.population, histogram.trials, histogram.draws) == (25, 8, 3)


def test_before_any_step_nothing_was_chosen() -> None:
    case = case_of("moe")
    assert set(distinct_column(case).values) == {None}
    assert accesses(case.model) == {}
