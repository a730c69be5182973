"""The commitment: digests notice a change; a measurement is later than it, and of its files."""

import json
from pathlib import Path

import pytest

from benchmarks.held_out import commitment
from benchmarks.held_out.card import is_anchor, loops_of
from benchmarks.held_out.commitment import (
    QUANTITIES,
    check_commitment,
    commit,
    committed,
    digests,
    of_card,
    predictions,
)
from benchmarks.held_out.shapes import held_out_models
from benchmarks.held_out.summary import committed_summary
from costmodel.costs.calibrations import FOLDER
from costmodel.costs.kernel_times import LEAVES
from costmodel.errors import InputError


def test_a_digest_is_of_names_and_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commitment, "PARTS", {"code": ((tmp_path, "**/*.py"),)})
    (tmp_path / "a.py").write_text("x = 1\n")
    first = digests()
    (tmp_path / "a.txt").write_text("no matter")
    assert digests() == first
    (tmp_path / "a.py").write_text("x = 2\n")
    assert digests() != first
    (tmp_path / "a.py").unlink()
    (tmp_path / "b.py").write_text("x = 1\n")
    assert digests() != first


def test_every_part_has_files() -> None:
    for patterns in commitment.PARTS.values():
        for folder, pattern in patterns:
            assert any(folder.glob(pattern)), pattern


def test_committing_and_checking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = held_out_models()[:1]
    monkeypatch.setattr(commitment, "held_out_models", lambda: models)
    path = tmp_path / "commitment.json"
    assert committed(path) is None
    with pytest.raises(InputError, match="--commit"):
        check_commitment(path)
    written = commit(path)
    assert check_commitment(path) == committed(path) == written
    cases = {predicted.case for predicted in written.predictions}
    assert cases == {case.label for case in models[0].cases}
    assert {p.quantity for p in written.predictions if p.backend == "torch"} == set(QUANTITIES)
    monkeypatch.setattr(commitment, "PARTS", {"shapes": ((tmp_path, "*.json"),)})
    with pytest.raises(InputError, match="shapes"):
        check_commitment(path)


def test_a_card_that_draws_more_in_every_loop_takes_so_much_more() -> None:
    """All three loops 1.1 times the energy: each coefficient is 1.1 times as large."""
    calibration = json.loads((FOLDER / f"h200{LEAVES}.json").read_text())
    loops = [loop for loop in calibration["loops"] if is_anchor(loop["name"])]
    models = held_out_models()[:1]
    usual = of_card(loops_of(loops), models)
    assert {each.quantity for each in usual} == {"energy_j"}
    for loop in loops:
        spread = loop["energy_j"]
        loop["energy_j"] = spread | {name: 1.1 * spread[name] for name in ("median", "q1", "q3")}
    more = of_card(loops_of(loops), models)
    ratios = [one.value / other.value for one, other in zip(more, usual, strict=True)]
    assert ratios[: len(ratios) // 2] == pytest.approx([1.1] * (len(ratios) // 2))
    assert of_card([], models) == of_card(loops_of(loops[:1]), models) == ()


def test_the_committed_measurement_is_of_the_commitment_and_later() -> None:
    commitment_, measured = committed(), committed_summary()
    if commitment_ is None or measured is None:
        pytest.skip("not measured yet")
    assert measured["digests"] == commitment_.digests
    assert measured["committed"] == commitment_.committed
    assert all(session["started"] > commitment_.committed for session in measured["sessions"])
    assert all(part["started"] > commitment_.committed for part in measured["parts"])


def test_unchanged_files_give_the_committed_predictions() -> None:
    commitment_ = committed()
    if commitment_ is None or digests() != commitment_.digests:
        pytest.skip("no commitment, or files have changed since")
    assert predictions() == commitment_.predictions
