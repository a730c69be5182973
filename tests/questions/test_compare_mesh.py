"""Who is faster on several GPUs: winners by hand, from times that are set."""

from dataclasses import replace
from functools import cache

from costmodel.costs.calibrations import calibrated
from costmodel.costs.latency import Unknown
from costmodel.costs.predict import Prediction, predict
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.layers.mesh import Mesh
from costmodel.questions.compare_mesh import batches_words, exchanges_s, mesh_sentences
from tests.sentences import says

FIRST, SECOND = "First", "Second"


@cache
def usual() -> Prediction:
    workload = Workload(mesh=Mesh(tp=2))
    return predict(load_model("llama-3.1-8b"), workload, load_hardware("h200"), calibrated("h200"))


def step(name: str, batch: int, alone_s: float, exchanges_of_s: float) -> Prediction:
    """A step on two GPUs that takes these times."""
    made = usual()
    assert made.parallel is not None
    assert not isinstance(made.time, Unknown)
    spent = replace(made.parallel.all_spent, typical_s=exchanges_of_s)
    return replace(
        made,
        model=replace(made.model, name=name),
        workload=replace(made.workload, batch=batch),
        parallel=replace(made.parallel, all_spent=spent),
        time=replace(made.time, predicted_s=alone_s + exchanges_of_s),
    )


def sentence(*rows: tuple[Prediction, Prediction]) -> str:
    (found,) = mesh_sentences(rows)
    return found


def test_the_faster_side_is_told_by_batch() -> None:
    found = sentence(
        (step(FIRST, 1, 1.0, 0.1), step(SECOND, 1, 2.0, 0.1)),
        (step(FIRST, 8, 2.0, 0.1), step(SECOND, 8, 3.0, 0.1)),
        (step(FIRST, 64, 4.0, 0.1), step(SECOND, 64, 3.0, 0.1)),
    )
    assert says(found, FIRST, 2, SECOND, 2, FIRST, 1, 8, SECOND, 64)
    assert "takes the advantage from neither" in found


def test_communication_takes_an_advantage_where_it_changes_the_winner() -> None:
    """3 s against 4 s alone; with 2 s and 0.1 s of exchanges 5 s against 4.1 s."""
    found = sentence(
        (step(FIRST, 1, 4.0, 0.1), step(SECOND, 1, 3.0, 0.2)),
        (step(FIRST, 8, 4.0, 0.1), step(SECOND, 8, 3.0, 2.0)),
    )
    assert says(found, f"advantage from {SECOND}", 8)
    assert "neither" not in found


def test_shares_of_exchanges_are_the_largest() -> None:
    """1 of 4 s and 1 of 2 s; 1 of 10 s and 1 of 5 s."""
    found = sentence(
        (step(FIRST, 1, 3.0, 1.0), step(SECOND, 1, 9.0, 1.0)),
        (step(FIRST, 8, 1.0, 1.0), step(SECOND, 8, 4.0, 1.0)),
    )
    assert says(found, 50, FIRST, 20, SECOND)


def test_batches_that_do_not_fit_are_left_out() -> None:
    large = step(FIRST, 64, 9.0, 0.1)
    large = replace(large, memory=replace(large.memory, fits=False))
    found = sentence(
        (step(FIRST, 1, 1.0, 0.1), step(SECOND, 1, 2.0, 0.1)),
        (large, step(SECOND, 64, 1.0, 0.1)),
    )
    assert f"{SECOND} is faster" not in found
    assert says(found, "At batch", 64, "does not fit")
    assert says(sentence((large, step(SECOND, 64, 1.0, 0.1))), "At batch", 64)


def test_exchanges_are_nothing_on_one_gpu() -> None:
    alone = predict(load_model("llama-3.1-8b"), Workload(), load_hardware("h200"))
    assert exchanges_s(alone) == 0


def test_runs_of_batches_are_those_of_the_list() -> None:
    batches = (1, 4, 16, 64, 256)
    assert batches_words(batches, (4,)) == "batch 4"
    assert batches_words(batches, (1, 4, 64)) == "batches 1 to 4 and 64"
    assert batches_words(batches, (1, 16, 64, 256)) == "batches 1 and 16 to 256"


def test_without_exchanges_nothing_is_said_of_them() -> None:
    """As on one GPU; and of a side that has none, no share."""
    alone = sentence((step(FIRST, 1, 1.0, 0.0), step(SECOND, 1, 2.0, 0.0)))
    assert "ommunication" not in alone
    one_side = sentence((step(FIRST, 1, 1.0, 0.0), step(SECOND, 1, 3.0, 1.0)))
    assert one_side.endswith(f"at most 25 % of the time of {SECOND}.")
