"""The shipped recordings are the standard plan in both backends by one commit; gaps have names."""

import pytest

from costmodel.inputs.catalog import load_model
from costmodel.inputs.workload import Backend
from costmodel.recordings.quantities import RunName
from docs.pair_measurements import BACKENDS
from docs.recorded_runs import lacking, models
from profiler.session.plan import standard_plan
from tests.committed import AGAIN, FIRST, FOLDER, FUSED, GROUPED, recording
from tests.recorded_json import MEASURING, recorded, table

COMMIT = "df218cf"
MODELS = {
    *("llama-3.1-8b", "memory-plus-227m-1.2b", "olmoe-1b-7b", "olmoe-227m-1.2b"),
    *("ultramem-227m-1.2b", "ultramemv2-1b-7b", "ultramemv2-227m-1.2b"),
}
LACKS: dict[str, dict[RunName, int]] = {}
"""How many cases of the plan a file lacks by kind of run, though they fit; all others lack none."""


def file_of(model: str, backend: Backend) -> str:
    return f"h200-{model}{'' if backend == 'torch' else '-fused'}.json"


def test_every_model_is_recorded_in_both_backends() -> None:
    names = {path.name for path in (*FIRST, *FUSED)}
    assert set(models()) == MODELS
    assert names == {file_of(model, backend) for model in MODELS for backend in BACKENDS}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("model", sorted(MODELS))
def test_all_of_the_plan_that_fits_was_measured(model: str, backend: Backend) -> None:
    """No case is another than the plan's, and what lacks is what `LACKS` says."""
    name = file_of(model, backend)
    made, plan = recording(name), standard_plan(load_model(model), backend=backend)
    assert {case.workload for case in made.cases} == {case.workload for case in plan}
    lacks = {run: len(labels) for run, labels in lacking(made, plan).items()}
    assert lacks == LACKS.get(name, {})


@pytest.mark.parametrize(
    "name", [str(path.relative_to(FOLDER)) for path in (*FIRST, *FUSED, *AGAIN, *GROUPED)]
)
def test_one_commit_made_them_all(name: str) -> None:
    assert {str(session.commit)[:7] for session in recording(name).sessions} == {COMMIT}


def test_the_page_has_the_runs_of_each_file() -> None:
    """Counted in the files' own JSON."""
    rows = [row for row in table(MEASURING, "recorded_runs") if len(row) > 1]
    assert len(rows) == 2 * len(MODELS)
    files = {(model, backend): file_of(model, backend) for model in MODELS for backend in BACKENDS}
    for model, backend, *cells, commit, _ in rows:
        name = files[model, backend]
        cases = recorded(name.removeprefix("h200-").removesuffix(".json"))["cases"]
        for run, cell in zip(("time", "trace", "counters", "energy"), cells, strict=True):
            measured, fits = map(int, cell.split(" of "))
            assert measured == sum(run in case["runs"] for case in cases)
            lacks = {str(kind): count for kind, count in LACKS.get(name, {}).items()}
            assert fits == measured + lacks.get(run, 0)
        assert commit == COMMIT
