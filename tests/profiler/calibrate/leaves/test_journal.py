"""The journal: what it keeps, how it is resumed, and the calibration that is made of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from costmodel.errors import InputError, WorkError
from costmodel.recordings.leaf_calibration import leaf_calibration_text, load_leaf_calibration
from costmodel.recordings.measured import Spread
from profiler.calibrate.leaves.journal import Journal, works_of
from profiler.calibrate.leaves.shapes import Shape
from tests.profiler.runs.cases import work
from tests.reference_model.tiny import small

SHAPES = tuple(
    Shape(family="dense", model=small(), workload=work(batch=batch, dtype="bf16"))
    for batch in (3, 5)
)
SESSION = {
    "event": "session",
    "session": {
        "started": "2026-01-02T03:04:05Z",
        "machine": {
            "device": "cpu",
            "name": "a processor",
            "memory_bytes": 1,
            "python": "3.12",
            "torch": "2.11",
        },
        "sparsecost_version": "0.1.0",
        "commit": None,
    },
}
CONDITIONS = {"started": "2026-01-02T03:04:05Z", "warm_up": 1}


def point(shape: int, path: str, seconds: float, run: str = "time") -> dict[str, Any]:
    spread = {"median": seconds, "q1": seconds, "q3": seconds, "repeats": 9, "source": "cuda_event"}
    reading = {"copies": 3, "sets": 3, "step_s": spread}
    return {"event": "point", "shape": shape, "run": run, "path": path, "reading": reading}


def measured(shape: int, run: str = "time") -> dict[str, Any]:
    facts = {"conditions": CONDITIONS, "accesses": {}}
    return {"event": "measured", "shape": shape, "run": run, **facts}


def opened(path: Path, *, resume: bool = False, **fields: Any) -> Journal:  # noqa: ANN401
    given: dict[str, Any] = {"path": path, "backend": "torch", "shapes": SHAPES}
    journal = Journal(**(given | fields))
    journal.open(resume=resume)
    return journal


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return opened(tmp_path / "j.jsonl")


def test_another_occasion_goes_on_where_the_first_one_ended(journal: Journal) -> None:
    for event in (
        SESSION,
        point(0, "lm_head", 1e-6),
        measured(0),
        {"event": "lacking", "shape": 1, "run": "trace", "reason": "out of memory"},
        {"event": "began", "shape": 1},  # is not kept
    ):
        journal.add(event)
    again = opened(journal.path, resume=True)
    assert again.events == journal.events
    assert len(again.events) == 4
    assert (again.done("time"), again.done("trace"), again.done("counters")) == ({0}, {1}, set())


def test_a_line_that_was_cut_off_is_lost_alone(journal: Journal) -> None:
    journal.add(SESSION)
    with journal.path.open("a") as file:
        file.write('{"event": "poi')
    again = opened(journal.path, resume=True)
    assert again.events == [SESSION]
    again.add(measured(0))
    assert opened(journal.path, resume=True).done("time") == {0}


def test_a_journal_is_not_written_over(journal: Journal) -> None:
    with pytest.raises(InputError, match="exists; --resume"):
        opened(journal.path)


@pytest.mark.parametrize("fields", [{"backend": "fused"}, {"shapes": SHAPES[:1]}])
def test_a_journal_of_something_else_is_refused(journal: Journal, fields: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="another backend or list of shapes"):
        opened(journal.path, resume=True, **fields)


@pytest.mark.parametrize(("line", "rule"), [("what", "no JSON"), ("[1]", "no event")])
def test_a_damaged_line_is_named(journal: Journal, line: str, rule: str) -> None:
    with journal.path.open("a") as file:
        file.write(f"{line}\n{json.dumps(SESSION)}\n")
    with pytest.raises(InputError, match=f"line 2 is {rule}"):
        opened(journal.path, resume=True)


def test_a_worker_that_says_nonsense_is_told_of(journal: Journal) -> None:
    with pytest.raises(WorkError, match="no event"):
        journal.add_line(b"hello\n")
    assert journal.add_line(b'{"event": "end"}\n') == {"event": "end"}
    assert journal.events == []


def test_a_calibration_holds_what_was_measured_last(journal: Journal, tmp_path: Path) -> None:
    for event in (
        SESSION,
        point(1, "layers.1.ffn.down", 1e-6),
        SESSION | {"session": SESSION["session"] | {"started": "2026-01-03T03:04:05Z"}},  # type: ignore[operator]
        point(1, "layers.1.ffn.down", 2e-6),
        point(1, "{final_norm,lm_head}", 3e-6),
        measured(1),
        {"event": "lacking", "shape": 1, "run": "counters", "reason": "refused"},
    ):
        journal.add(event)
    made = journal.calibration()
    assert len(made.sessions) == 1  # another start of the same code on the same machine
    (shape,) = made.shapes
    assert (shape.workload.batch, shape.lacking) == (5, {"counters": "refused"})
    down, head = shape.points
    assert isinstance(down.readings["time"].step_s, Spread)
    assert down.readings["time"].step_s.median == 2e-6
    # small(): D = 16, I = 12 gated, V = 23; 5 tokens. Products: 2 N K M.
    assert down.work is not None
    assert down.work.flops == 2 * 5 * 16 * SHAPES[1].model.ffn.intermediate_size  # type: ignore[attr-defined]
    assert head.work is not None
    of_norm = works_of(SHAPES[1], "torch")["final_norm"]["flops"]
    assert head.work.flops == of_norm + 2 * 5 * 16 * 23
    file = tmp_path / "made.json"
    file.write_text(leaf_calibration_text(made))
    assert load_leaf_calibration(file) == made


def test_nothing_measured_is_an_error_with_the_last_reason(journal: Journal) -> None:
    with pytest.raises(WorkError, match="nothing was measured: no time"):
        journal.calibration()
    journal.add({"event": "lacking", "shape": 1, "run": "time", "reason": "out of memory"})
    with pytest.raises(WorkError, match="out of memory"):
        journal.calibration()


def test_an_event_that_breaks_the_schema_is_named(journal: Journal) -> None:
    journal.add(SESSION)
    journal.add(point(0, "lm_head", -1.0))
    with pytest.raises(InputError, match=r"shapes\.0\.points\.0\.readings\.time\.step_s"):
        journal.calibration()
