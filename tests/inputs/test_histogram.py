"""A histogram file: what is read of it, and how a broken one is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from costmodel.errors import InputError
from costmodel.inputs.histogram import read_histogram


def section(**changes: object) -> dict[str, Any]:
    return {
        "population": 4,
        "trials": 10,
        "draws": 2,
        "counts": [[10, 1], [5, 2], [0, 1]],
    } | changes


def written(folder: Path, name: str = "trace.json", **changes: object) -> Path:
    path = folder / name
    data = {"schema_version": 1, "source": "by hand", "experts": section()} | changes
    path.write_text(json.dumps({key: value for key, value in data.items() if value != "left out"}))
    return path


def test_a_histogram_file(tmp_path: Path) -> None:
    routing = read_histogram(written(tmp_path, "OLMoE trace (2)_v1.0.json", rows=None))
    assert routing.label == "histogram:OLMoEtrace2_v1.0"
    assert routing.source == "by hand"
    assert routing.rows is None
    assert routing.expected_distinct(4, 2, 1, kind="experts") == 2
    rows = read_histogram(written(tmp_path, "é.json", experts="left out", rows=section()))
    assert rows.label == "histogram:unnamed"
    assert rows.expected_distinct(4, 2, 10, kind="rows") == 3
    with pytest.raises(InputError, match="no section 'experts'"):
        rows.expected_distinct(4, 2, 1, kind="experts")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experts": "left out"}, "experts, rows, ngrams: at least one of these is needed"),
        ({"schema_version": 2}, "schema_version=2"),
        ({"schema_version": "left out"}, "schema_version: is missing"),
        ({"source": "left out"}, "source: is missing"),
        ({"source": "x" * 3000}, "source="),
        ({"extra": 1}, "extra=1"),
        ({"experts": []}, "experts="),
        ({"experts": section(population=5)}, "experts: counts: hold 4 items; population=5"),
        ({"experts": section(draws=5)}, "experts: draws=5: exceeds population=4"),
        ({"experts": section(draws=1)}, "counts: hold 20 accesses; trials \\* draws = 10"),
        ({"experts": section(trials=9)}, "counts: hold an item of 10 accesses; trials=9"),
        ({"experts": section(trials=0)}, "experts.trials=0"),
        ({"experts": section(trials=10.0)}, "experts.trials=10.0"),
        ({"experts": section(trials=True)}, "experts.trials=True"),
        ({"experts": section(population=2**60)}, "experts.population="),
        ({"experts": section(counts=[])}, "experts.counts="),
        ({"experts": section(counts=[[1]])}, "experts.counts.0"),
        ({"experts": section(counts=[[1, 2, 3]])}, "experts.counts.0"),
        ({"experts": section(counts=[[-5, 2], [10, 2]])}, "experts.counts.0.0=-5"),
        ({"experts": section(counts=[[0.5, 2]])}, "experts.counts.0.0=0.5"),
        ({"experts": section(counts={"1": 2})}, "experts.counts="),
        ({"rows": section(more=1)}, "rows.more=1"),
        ({"ngrams": {}}, "ngrams="),
        ({"ngrams": {"2": section()}}, "ngrams.2.draws=2: a token ends one n-gram, so it is 1"),
        ({"ngrams": {"0": section()}}, "ngrams.0"),
        ({"ngrams": {"9": section()}}, "ngrams.9"),
        ({"ngrams": {"two": section()}}, "ngrams.two"),
        ({"ngrams": {"2": section(draws=1)}}, "hold 20 accesses"),
    ],
)
def test_a_broken_histogram_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=rf"^file='.*': .*{message}"):
        read_histogram(written(tmp_path, **changes))


def test_a_folder_or_other_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory"):
        read_histogram(tmp_path)
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(InputError, match="an object is expected"):
        read_histogram(tmp_path / "list.json")


def test_n_grams_have_a_section_for_each_order(tmp_path: Path) -> None:
    bigrams = section(draws=1, population=3, counts=[[7, 1], [2, 1], [1, 1]])
    trigrams = section(draws=1, population=10, counts=[[1, 10]])
    path = written(tmp_path, experts=None, ngrams={"3": trigrams, "2": bigrams})
    routing = read_histogram(path)
    assert [order for order, _ in routing.ngrams] == [2, 3]
    rows = routing.expected_distinct_hashed(1000, 10, order=2)
    assert rows == pytest.approx(1000 * (1 - 0.999**3), rel=1e-12)  # the three bigrams it holds
    assert routing.expected_distinct_hashed(1, 10, order=3) == 1
