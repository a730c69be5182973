"""Claims: each line of the list has figures and a verdict that follows from them; some by hand."""

import csv
import json
from pathlib import Path

import pytest

from costmodel.inputs.catalog import load_model
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.ultramem import UltraMem
from costmodel.questions.claims.answers import answers
from costmodel.questions.claims.claim import Answer, by_parts, claims
from costmodel.questions.claims.figures import alike, measured, value
from costmodel.questions.claims.paper import fewer_experts
from costmodel.questions.claims.variants import (
    BASE,
    COUNTS,
    PARAMETERS,
    changes,
    expansions,
    product_key_memory,
    with_layers,
)
from costmodel.recordings.folders import SHIPPED
from docs.measured_steps import FILE, text
from tests.commands import output

IDS = [*(f"C{n}" for n in range(1, 8)), *(f"R{n}" for n in range(1, 8))]


def answer_of(claim: str) -> Answer:
    return next(answer for answer in answers() if answer.claim.id == claim)


def test_every_line_of_the_list_has_its_answer() -> None:
    assert [answer.claim.id for answer in answers()] == list(claims()) == IDS
    for answer in answers():
        assert answer.figures
        assert answer.verdict.because
        for figure in answer.figures:
            assert len(figure.sides) == len(figure.values) in (1, 2), figure.what
            assert any(one is not None for one in figure.values), figure.what
            assert (figure.reason is None) == all(one is not None for one in figure.values)


def test_a_verdict_follows_from_its_parts() -> None:
    assert by_parts([(True, "a"), (True, "b")]).word == "holds"
    limits = by_parts([(True, "1.2x"), (False, "0.9x")], also="More.")
    assert (limits.word, limits.because) == (
        "holds within limits",
        "Holds: 1.2x. Does not: 0.9x. More.",
    )
    assert by_parts([(False, "a")]).word == "does not hold"
    assert alike(1.05, 0.05)
    assert alike(1 / 1.05, 0.05)
    assert not alike(1.06, 0.05)
    assert not alike(None, 0.05)


def _graph_s(name: str, batch: int) -> float:
    """A decode step at 2,048 tokens, from a recording's JSON without our reader."""
    file = json.loads((SHIPPED / name).read_text(encoding="utf-8"))
    at = {"phase": "decode", "routing": "uniform", "batch": batch, "context": 2048}
    (case,) = (case for case in file["cases"] if at.items() <= case["workload"].items())
    return float(case["runs"]["time"]["step"]["graph_s"]["median"])


def test_measured_figures_are_those_of_the_recordings() -> None:
    """Of both backends the median of one run; without a recording that of the benchmark."""
    pair = ("olmoe-1b-7b", "ultramemv2-1b-7b")
    for backend, suffix in (("torch", ""), ("fused", "-fused")):
        for batch in (16, 64):
            medians = [_graph_s(f"h200-{model}{suffix}.json", batch) for model in pair]
            assert list(measured("graph_s", pair, batch=batch, backend=backend).values) == medians
    benchmark = measured("graph_s", ("gpt-oss-20b", "qwen3-30b-a3b"), batch=16, backend="fused")
    assert benchmark.values == pytest.approx((9.193e-3, 11.245e-3), abs=1e-6)  # fused_backend.md
    lacking = measured("graph_s", pair, batch=2)
    assert lacking.values == (None, None)
    assert lacking.reason == "not measured of OLMoE-1B-7B and UltraMemV2-1B/7B at this batch"


def test_the_shipped_table_is_what_the_recordings_hold() -> None:
    assert FILE.read_text(encoding="utf-8") == text()


def test_both_sides_of_every_change_have_the_same_parameters() -> None:
    base = load_model(BASE)
    matrices = 3 * base.hidden_size * base.num_hidden_layers
    models = [m for change in changes() for m in (change.without, change.after)]
    wanted = value(base, PARAMETERS, 1) or 0
    for model in (*models, *map(with_layers, COUNTS)):
        assert abs((value(model, PARAMETERS, 1) or 0) - wanted) <= matrices / 2
    assert len(changes()) == 5
    like = value(load_model("memory-plus-227m-1.2b"), PARAMETERS, 1) or 0
    assert abs((value(product_key_memory(), PARAMETERS, 1) or 0) - like) <= matrices / 2


def test_a_sparser_placement_by_hand() -> None:
    """20 x 360^2 rows in 4 layers are 805^2 each; 20 x 32 rows a token are 160 in each."""
    sparse = with_layers(4)
    (memory,) = sparse.memory
    assert isinstance(memory, UltraMem)
    assert (memory.layers, memory.knum, memory.knn) == ("4,9,14,19", 805, 160)
    assert with_layers(20) == load_model(BASE)


def test_a_projection_for_each_group_by_hand() -> None:
    """t = 2: 4 groups of 192 values to 768 instead of one, in 20 layers, out of 3 D I."""
    change = expansions()
    grouped, shared = change.without.ffn, change.after.ffn
    assert isinstance(grouped, DenseFfn)
    assert isinstance(shared, DenseFfn)
    assert shared.intermediate_size - grouped.intermediate_size == 3 * 192 * 768 / (3 * 768)


def test_moe_of_two_experts_has_the_parameters_and_bytes_of_eight() -> None:
    """2 of 16 experts four times as wide: the same weights, but for a router of 48 experts less."""
    eight = load_model("olmoe-227m-1.2b")
    two = fewer_experts(eight, 4)
    router = 20 * 768 * 48
    assert (value(eight, PARAMETERS, 1) or 0) - (value(two, PARAMETERS, 1) or 0) == router
    bytes_of = [value(model, "hbm_bytes.weights", 16) or 0 for model in (eight, two)]
    assert bytes_of[0] - bytes_of[1] == pytest.approx(2 * router, rel=1e-9)


@pytest.mark.parametrize(
    ("claim", "what", "ratio"),
    [
        ("C2", "compulsory HBM bytes, batch 16, context 2,048", 2.54),  # docs/comparison.md
        ("C2", "compulsory HBM bytes, batch 64, context 2,048", 1.57),
        ("R1", "KV cache stored, batch 64, context 2,048", 1.0),
    ],
)
def test_ratios_that_were_known_before(claim: str, what: str, ratio: float) -> None:
    found = [figure.ratio for figure in answer_of(claim).figures if figure.what == what]
    assert found
    assert found[-1] == pytest.approx(ratio, abs=0.005)


def test_the_command_tells_the_same(tmp_path: Path) -> None:
    told = json.loads(output("reproduce", "--claims", "--json"))
    assert [claim["id"] for claim in told["claims"]] == IDS
    for claim, answer in zip(told["claims"], answers(), strict=True):
        assert claim["verdict"] == answer.verdict.word
        assert claim["because"] == answer.verdict.because
        assert claim["address"].partition("?")[0] == answer.claim.view.page
        assert [one["ratio"] for one in claim["figures"]] == [one.ratio for one in answer.figures]
    output("reproduce", "--claims", "--csv", str(tmp_path / "claims.csv"))
    with (tmp_path / "claims.csv").open(encoding="utf-8", newline="") as file:
        assert sum(1 for _ in csv.DictReader(file)) == sum(len(a.figures) for a in answers())
    printed = output("reproduce", "--claims")
    assert "Claims of UltraMemV2 and points of its reviewers" in printed
