"""Public measurements as they are shipped: whole, with their sources, made by the stated script."""

from pathlib import Path

import pytest

from costmodel.inputs.catalog import model_names
from costmodel.questions.published.public_bounds import public_bounds
from costmodel.questions.published.public_energy import energy_rows
from costmodel.questions.published.public_rows import public_rows
from docs.public_latency import COLUMNS, shipped, sources

NOTICE = (Path(__file__).parents[2] / "NOTICE").read_text(encoding="utf-8")
COLLECTED = {
    **{name: f"the {name}" for name in COLUMNS},
    "id": "abc-1",
    "model": "one",
    "source_model": "one",
    "source": "owner/repo@1:file.csv",
    "origin": "who, when",
    "context_rule": "osl/2",
    "license": "MIT",
    "row": "= id",
    "kept": "yes",
}


def test_all_rows_that_were_kept_are_there_once() -> None:
    rows = public_rows()
    assert len(rows) == len({row.id for row in rows}) == 2838
    assert sum(row.gpus == 1 for row in rows) == 875
    assert {row.model for row in rows} & set(model_names())


def test_a_row_reads_as_its_source_prints_it() -> None:
    """AMD's latency table of vLLM: one sequence, 128 tokens in, 2048 out, on eight MI300X."""
    (row,) = (row for row in public_rows() if row.id == "rocm-llama-3.1-70b-instruct-fp8-kv-128-b1")
    assert (row.gpu, row.gpus, row.tp, row.engine, row.weights) == (
        *("mi300x", 8, 8),
        *("vllm", "fp8"),
    )
    assert (row.batch, row.running, row.isl, row.osl, row.context) == (1, 1, 128, 2048, 1152)
    assert (row.measured_s, row.ttft_s, row.timed) == (8.416e-3, None, "e2e")
    assert row.source.licence == "Apache-2.0"


def test_numbers_are_those_of_a_step() -> None:
    for row in public_rows():
        assert 0 < row.measured_s < 3, row.id
        assert 0.5 < row.running <= row.batch, row.id
        assert 0 < row.context <= 2**17, row.id
        assert row.gpus in (1, 2, 4, 8), row.id


def test_the_notice_names_every_source_with_its_licence() -> None:
    lines = " ".join(NOTICE.split())
    times = {row.source for row in public_rows()}
    for source in times | {power.row.source for power in energy_rows()}:
        repository = source.address.partition("@")[0].partition(" ")[0]
        _, found, behind = lines.partition(repository)
        assert found, repository
        licence = source.licence.partition(" (")[0]
        assert licence in behind[:120], repository


def test_what_is_not_kept_is_left_out_and_shared_words_stand_once() -> None:
    doubtful = {**COLLECTED, "id": "abc-2", "kept": "no"}
    other = {**COLLECTED, "id": "abc-3", "source_model": "its name", "row": "line 7"}
    keys: dict[tuple[str, ...], str] = {}
    renamed = {**COLLECTED, "id": "abc-4", "model": "Qwen/Qwen3-32B"}
    *rows, of_preset = shipped([COLLECTED, doubtful, other, renamed], COLUMNS, keys)
    assert of_preset["model"] in model_names()
    assert [row["id"] for row in rows] == ["abc-1", "abc-3"]
    assert [row["source_model"] for row in rows] == ["", "its name"]
    assert [row["row"] for row in rows] == ["", "line 7"]
    assert rows[0]["weights"] == "the weight_format"
    assert [source["licence"] for source in sources(keys)] == ["MIT"]
    assert {row["source"] for row in rows} == {sources(keys)[0]["source"]}


def test_energies_are_power_over_tokens_and_no_bound_exceeds_their_times() -> None:
    """ML.ENERGY, Qwen3-14B on an H100: 483.6 W over 553.28 tokens/s are 0.874 J."""
    rows = energy_rows()
    assert len(rows) == len({power.row.id for power in rows}) == 394
    (first,) = (
        p for p in rows if p.row.id.startswith("mle-Qwen__Qwen3-14B__gpqa-h100-sxmx1-tp1ep1-seqs8")
    )
    assert (first.power_w, first.tokens_per_s, first.j_per_token) == (483.6, 553.28, 0.87409)
    for power in rows:
        assert power.j_per_token == pytest.approx(power.power_w / power.tokens_per_s, rel=0.01)
    bounds = public_bounds(power.row for power in rows).bounds
    assert len(bounds) > 300
    assert max(bound.share for bound in bounds) <= 1
