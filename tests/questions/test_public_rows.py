"""Public measurements as they are shipped: whole, with their sources, made by the stated script."""

from pathlib import Path

from costmodel.inputs.catalog import model_names
from costmodel.questions.published.public_rows import public_rows
from docs.public_latency import COLUMNS, shipped

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
    for source in {row.source for row in public_rows()}:
        repository = source.address.partition("@")[0].partition(" ")[0]
        _, found, behind = lines.partition(repository)
        assert found, repository
        licence = source.licence.partition(" (")[0]
        assert licence in behind[:120], repository


def test_what_is_not_kept_is_left_out_and_shared_words_stand_once() -> None:
    doubtful = {**COLLECTED, "id": "abc-2", "kept": "no"}
    other = {**COLLECTED, "id": "abc-3", "source_model": "its name", "row": "line 7"}
    rows, sources = shipped([COLLECTED, doubtful, other])
    assert [row["id"] for row in rows] == ["abc-1", "abc-3"]
    assert [row["source_model"] for row in rows] == ["", "its name"]
    assert [row["row"] for row in rows] == ["", "line 7"]
    assert rows[0]["weights"] == "the weight_format"
    assert [source["licence"] for source in sources] == ["MIT"]
    assert {row["source"] for row in rows} == {sources[0]["source"]}
