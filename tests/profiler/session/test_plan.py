"""What a profile measures: the grid by hand count, its order, and seeds that never change."""

from collections import Counter

import pytest

from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model, model_names
from costmodel.inputs.model import ModelConfig
from costmodel.recordings.case_workload import CaseWorkload
from profiler.session.plan import (
    PlannedCase,
    case_seed,
    check_backend,
    chooses,
    plan_from_lists,
    standard_plan,
    with_tables_in,
    workload_label,
)
from tests.profiler.session.profiles import ALL, workload

SPARSE, DENSE = load_model("ultramemv2-227m-1.2b"), load_model("llama-3.1-8b")


def shapes(plan: tuple[PlannedCase, ...]) -> Counter[tuple[str, int, str]]:
    return Counter((p.workload.phase, p.workload.context, p.workload.routing) for p in plan)


BETWEEN = {("decode", context, "uniform"): 1 for context in (700, 3000, 12000)}


def test_the_grid_of_a_sparse_model() -> None:
    assert shapes(standard_plan(SPARSE, dtype="bf16")) == BETWEEN | {
        ("decode", 2048, "uniform"): 6 + 4,
        ("decode", 512, "uniform"): 6,
        ("decode", 8192, "uniform"): 6,
        ("decode", 2048, "zipf:1.0"): 6,
        ("decode", 2048, "scores"): 6,
        ("prefill", 0, "uniform"): 3,
    }


def test_the_grid_of_a_dense_model_has_no_routings_and_a_long_context() -> None:
    plan = standard_plan(DENSE, dtype="bf16")
    assert shapes(plan) == BETWEEN | {
        ("decode", 2048, "uniform"): 6 + 4,
        ("decode", 512, "uniform"): 6,
        ("decode", 8192, "uniform"): 6,
        ("decode", 32768, "uniform"): 3,
        ("prefill", 0, "uniform"): 3,
    }
    assert [p.workload.batch for p in plan if p.workload.context == 32768] == [1, 4, 16]


def test_batches_and_contexts_between_the_others_have_times_alone() -> None:
    """A batch between two usual ones at the usual context, a context between at one batch."""
    for model in (SPARSE, DENSE):
        plan = standard_plan(model, dtype="bf16")
        between = [p for p in plan if p.runs == ("time", "trace")]
        assert [(p.workload.batch, p.workload.context) for p in between] == [
            *((batch, 2048) for batch in (3, 12, 48, 192)),
            *((16, context) for context in (700, 3000, 12000)),
        ]
        others = [p for p in plan if p not in between]
        assert all(p.runs[:3] == ("time", "trace", "counters") for p in others)


def test_energy_of_every_batch_of_one_context_and_of_one_batch_elsewhere() -> None:
    for model, routings in ((SPARSE, ["uniform", "zipf:1.0"]), (DENSE, ["uniform"])):
        plan = standard_plan(model, dtype="bf16")
        energy = [p.workload for p in plan if "energy" in p.runs]
        decode = [(w.context, w.batch, w.routing) for w in energy if w.phase == "decode"]
        usual = [(2048, batch, "uniform") for batch in (1, 4, 16, 64, 256, 1024)]
        others = [(context, 16, "uniform") for context in (512, 8192)]
        assert decode == [*usual, *((2048, 16, law) for law in routings[1:]), *others]
        assert [w.new_tokens for w in energy if w.phase == "prefill"] == [2048]


def test_the_most_wanted_cases_come_first() -> None:
    order = list(shapes(standard_plan(SPARSE, dtype="bf16")))
    assert order[0] == ("decode", 2048, "uniform")
    assert order[1] == ("prefill", 0, "uniform")
    assert {context for _, context, _ in order[-5:]} == {512, 8192, 700, 3000, 12000}


def test_a_plan_keeps_to_the_runs_that_are_asked_for() -> None:
    plan = standard_plan(SPARSE, dtype="fp32", runs=("energy",))
    assert len(plan) == 10
    assert {p.runs for p in plan} == {("energy",)}
    assert {p.workload.dtype for p in plan} == {"fp32"}


def test_no_case_stands_twice_and_each_has_a_seed_of_its_own() -> None:
    workloads = [p.workload for p in standard_plan(SPARSE, dtype="bf16")]
    seeds = {case_seed(each) for each in workloads}
    assert len(workloads) == len(set(workloads)) == len(seeds) == 40
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_seed_is_the_head_of_a_hash_that_any_machine_gives() -> None:
    """The hash is sha256sum's, of the workload as JSON with its fields in order."""
    given = workload(16, context=2048, routing="zipf:1.0")
    assert case_seed(given) == 0x6BB8222F6789702B >> 1


@pytest.mark.parametrize("name", model_names())
def test_models_that_choose_are_those_with_experts_or_memory(name: str) -> None:
    model = load_model(name)
    sparse = bool(model.memory) or any(ffn.kind == "moe" for ffn, _ in model.ffn_groups)
    assert chooses(model) == sparse


def lists(model: str = "olmoe-1b-7b", **given: object) -> tuple[PlannedCase, ...]:
    usual: dict[str, object] = {
        "phase": "decode",
        "batches": (1,),
        "contexts": (512,),
        "new_tokens": (1,),
        "dtype": "bf16",
        "routings": ("uniform",),
        "runs": ALL,
    }
    return plan_from_lists(load_model(model), **(usual | given))  # type: ignore[arg-type]


def test_lists_are_every_combination() -> None:
    plan = lists(batches=(1, 8), contexts=(0, 64), routings=("uniform", "scores"), runs=("time",))
    assert {(p.workload.batch, p.workload.context, p.workload.routing) for p in plan} == {
        (b, c, r) for b in (1, 8) for c in (0, 64) for r in ("uniform", "scores")
    }
    assert len(plan) == 8
    assert {p.runs for p in plan} == {("time",)}


def test_the_standard_plan_of_fused_kernels_has_the_prompts_that_they_can_run() -> None:
    for name in ("olmoe-1b-7b", "llama-3.1-8b"):
        usual = standard_plan(load_model(name), dtype="bf16")
        assert standard_plan(load_model(name), dtype="bf16", backend="fused") == usual
    latents = load_model("deepseek-v2-lite")
    usual = standard_plan(latents, dtype="bf16")
    fused = standard_plan(latents, dtype="bf16", backend="fused")
    assert fused == tuple(case for case in usual if case.workload.phase == "decode")
    assert len(fused) < len(usual)


def test_a_plan_without_kernels_is_refused_by_the_first_rule_that_it_breaks() -> None:
    model = load_model("olmoe-1b-7b")
    check_backend(model, lists(), "fused")
    head = "backend=fused: OLMoE-1B-7B: the backend fused "
    for given, reason in (
        (
            {"phase": "prefill", "new_tokens": (9,), "contexts": (5,)},
            "has no kernels for prefill after a context",
        ),
        ({"dtype": "fp32"}, "runs bf16, not dtype=fp32"),
    ):
        check_backend(model, lists(**given), "torch")
        with pytest.raises(InputError, match=f"^{head}{reason}"):
            check_backend(model, lists(**given), "fused")
    with pytest.raises(InputError, match="an ungated feed-forward layer"):
        check_backend(load_model("peer-12l-1m"), lists(), "fused")


def test_a_dense_model_is_measured_once_whatever_the_routings() -> None:
    plan = lists("llama-3.1-8b", routings=("scores", "uniform", "zipf:1.0"))
    assert [p.workload.routing for p in plan] == ["uniform"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": "llama-3.1-8b", "routings": ("scores",)}, "chooses neither experts nor rows"),
        ({"new_tokens": (2,)}, "new_tokens=2: is 1 in a decode step"),
        ({"routings": ("zipf:11.0",)}, "the exponent must be a number from 0 to 10"),
        ({"batches": range(1, 4098)}, "plan=4097: a recording has at most 4,096 cases"),
    ],
)
def test_lists_that_break_a_rule(given: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        lists(**given)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (workload(16, context=2048), "decode batch=16 context=2048 routing=uniform"),
        (
            workload(phase="prefill", context=0, new_tokens=512, routing="scores", dtype="fp32"),
            "prefill batch=1 context=0 new_tokens=512 dtype=fp32 routing=scores",
        ),
    ],
)
def test_a_case_in_one_line(given: CaseWorkload, text: str) -> None:
    assert workload_label(given) == text


def test_tables_in_host_memory_are_other_cases_on_the_same_data() -> None:
    plan = standard_plan(SPARSE, dtype="bf16")
    placed = with_tables_in(plan, SPARSE, "tables=host")
    assert with_tables_in(plan, SPARSE, "tables=hbm") == plan
    assert {p.workload.tables for p in placed} == {"host"}
    assert [p.runs for p in placed] == [p.runs for p in plan]
    assert not {p.workload for p in placed} & {p.workload for p in plan}
    seeds = [[case_seed(p.workload) for p in each] for each in (plan, placed)]
    assert seeds[0] == seeds[1]
    assert workload_label(placed[0].workload).endswith(" placement=tables=host routing=uniform")


@pytest.mark.parametrize(
    ("model", "placement", "rule"),
    [
        (SPARSE, "tables=disk", "a profile measures tables=hbm or tables=host"),
        (SPARSE, "host", "a profile measures"),
        (DENSE, "tables=host", "has no memory table"),
    ],
)
def test_a_placement_that_cannot_be_measured_is_refused(
    model: ModelConfig, placement: str, rule: str
) -> None:
    with pytest.raises(InputError, match=f"placement='?{placement}.*{rule}"):
        with_tables_in(standard_plan(model, dtype="bf16"), model, placement)


def test_fused_kernels_read_no_tables_in_host_memory() -> None:
    plan = with_tables_in(standard_plan(SPARSE, dtype="bf16"), SPARSE, "tables=host")
    with pytest.raises(InputError, match="tables in HBM alone, not with placement=tables=host"):
        check_backend(SPARSE, plan[:1], "fused")
