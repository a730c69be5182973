"""The shipped recordings are the standard plan in both backends by one commit."""

from itertools import product
from typing import Any

import pytest

from costmodel.inputs.catalog import load_model
from costmodel.inputs.workload import Backend
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.recordings.quantities import RUNS, RunName
from costmodel.recordings.recording import load_recording
from costmodel.validation.machines import Gpus
from costmodel.validation.validate import validate
from docs.pair_measurements import BACKENDS
from docs.recorded_runs import lacking, overlap_values
from profiler.session.plan import standard_plan
from tests.committed import AGAIN, FIRST, FOLDER, FUSED, GROUPED, PRESETS, recording
from tests.recorded_json import MEASURING, leaf_sum, recorded, table
from tests.slowness import guarded

COMMIT = "df218cf3e982d1d0ebd9e648429f58da3d2a0f1b"
LACKS: dict[str, dict[RunName, int]] = {"h200-memory-plus-227m-1.2b-fused.json": {"energy": 1}}
"""Cases of the plan that fit and that a file lacks, by kind of run; other files lack none."""
FILES = {
    (model, backend): f"h200-{model}{'' if backend == 'torch' else '-fused'}.json"
    for model, backend in product(sorted(PRESETS), BACKENDS)
}


def test_every_model_is_recorded_in_both_backends() -> None:
    assert {path.name for path in (*FIRST, *FUSED)} == set(FILES.values())
    assert all(recording(name).preset == model for (model, _), name in FILES.items())


@pytest.mark.parametrize(("model", "backend"), FILES)
def test_the_standard_plan_is_what_was_measured(model: str, backend: Backend) -> None:
    """No other cases than the plan's; of those that fit, `LACKS` counts what is not there."""
    made = recording(FILES[model, backend])
    plan = standard_plan(load_model(model), dtype="bf16", backend=backend)
    planned = {each.workload: set(each.runs) for each in plan}
    for case in made.cases:
        assert {*case.runs, *case.lacking} <= planned[case.workload], case.workload.label
    lacks = {run: len(labels) for run, labels in lacking(made, plan).items()}
    assert lacks == LACKS.get(FILES[model, backend], {})


@pytest.mark.parametrize(("model", "backend"), FILES)
def test_the_grid_is_covered(model: str, backend: Backend) -> None:
    """As issues 4 and 16 ask for it, whatever the plan says; batches and contexts between, too."""
    batches = (1, 4, 16, 64, 256, 1024)
    wanted = {work(batch, context) for batch, context in product(batches, (512, 2048, 8192))}
    wanted |= {work(1, 0, new_tokens=tokens) for tokens in (512, 2048, 8192)}
    wanted |= {work(batch, 2048) for batch in (3, 12, 48, 192)}
    wanted |= {work(16, context) for context in (700, 3000, 12_000)}
    if model == "llama-3.1-8b":
        wanted |= {work(batch, 32768) for batch in (1, 4, 16)}
    else:
        wanted |= {work(b, 2048, routing=r) for b in batches for r in ("zipf:1.0", "scores")}
    cases = {case.workload for case in recording(FILES[model, backend]).cases}
    assert cases <= wanted
    assert len(wanted) - len(cases) == LACKS.get(FILES[model, backend], {}).get("time", 0)


def work(batch: int, context: int, *, new_tokens: int = 1, routing: str = "uniform") -> Any:  # noqa: ANN401
    return CaseWorkload(
        phase="decode" if new_tokens == 1 else "prefill",
        batch=batch,
        context=context,
        new_tokens=new_tokens,
        dtype="bf16",
        routing=routing,
    )


@pytest.mark.parametrize(
    "name", [str(path.relative_to(FOLDER)) for path in (*FIRST, *FUSED, *AGAIN, *GROUPED)]
)
def test_one_commit_made_them(name: str) -> None:
    assert {session.commit for session in recording(name).sessions} == {COMMIT}


def test_the_page_counts_the_runs_of_each_file() -> None:
    """As the files' own JSON has them."""
    rows = [row for row in table(MEASURING, "recorded_runs") if len(row) > 1]
    assert [(model, backend) for model, backend, *_ in rows] == list(FILES)
    for model, backend, *cells, commit, _ in rows:
        name = f"h200-{model}{'' if backend == 'torch' else '-fused'}.json"
        cases = recorded(name.removeprefix("h200-").removesuffix(".json"))["cases"]
        for run, cell in zip(RUNS, cells, strict=True):
            done = sum(run in case["runs"] for case in cases)
            assert cell == f"{done} of {done + LACKS.get(name, {}).get(run, 0)}"
        assert commit == COMMIT[:7]


def test_fused_kernels_overlap_as_the_page_says() -> None:
    """By the JSON; at worst the output projections last as long as the attention before them."""
    ratios = {}
    for model in sorted(PRESETS):
        for case in recorded(f"{model}-fused")["cases"]:
            runs = case["runs"]
            if case["workload"]["phase"] == "decode" and runs:
                kernels = runs["trace"]["step"]["kernel_s"]["median"]
                workload = tuple(case["workload"][name] for name in ("batch", "context"))
                ratios[model, workload] = kernels / runs["time"]["step"]["graph_s"]["median"]
    said = overlap_values()
    least, most = map(float, said["fused_kernels_over_graph"].split(" to "))
    assert (least, most) == pytest.approx((min(ratios.values()), max(ratios.values())), abs=0.005)
    model, (batch, context) = max(ratios, key=lambda key: ratios[key])
    assert said["fused_kernels_most"].startswith(f"{model} (decode, batch {batch}")
    assert f"context {context:,}" in said["fused_kernels_most"]
    core, output = (
        leaf_sum(f"{model}-fused", "trace", "kernel_s", (leaf,), batch, context=context)
        for leaf in (".attention.core", ".attention.output")
    )
    assert output == pytest.approx(core, rel=0.05)


def test_all_of_them_are_validated_at_once() -> None:
    """Whole: read and compared, 5 s of a quiet machine's processor; `make bench` times the command.

    Half a million rows, each with both sides or the reason why not; no number below its bound.
    """
    with guarded(5.0):
        loaded = [(name, load_recording(FOLDER / name)) for name in sorted(FILES.values())]
        validation = validate(loaded, Gpus())
    assert validation.rows > 500_000
    assert validation.violations == ()
    assert validation.failed_checks == ()
