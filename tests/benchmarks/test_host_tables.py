"""The benchmark of tables in host memory: its file of curves, and what it predicts of a model."""

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from benchmarks import host_tables
from costmodel.recordings.host_rows import Copy, Gather, load_host_rows
from reference_model.model import build_model
from tests.reference_model.tiny import MODELS


def test_the_curves_can_be_read_where_predictions_read_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    gathers = [
        Gather(
            table_bytes=size,
            row_bytes=width,
            rows=count,
            host_s=width * count * 2e-9,
            hbm_s=width * count * 1e-9,
        )
        for size in (2**30, 2**32)
        for width in (264, 768)
        for count in (24, 384)
    ]
    text = host_tables.curves_text(gathers, [Copy(bytes=2**20, bytes_per_s=42e9)])
    (path := tmp_path / "rows.json").write_text(text)
    read = load_host_rows(path)
    point = next(each for each in read.gathers if (each.row_bytes, each.rows) == (768, 24))
    assert (point.host_s, point.hbm_s) == (768 * 24 * 2e-9, 768 * 24 * 1e-9)
    assert json.loads(text)["hardware"] == "h200"


@pytest.mark.parametrize(
    ("name", "ways"),
    [("ngram", ["hbm", "host", "host, fetched ahead"]), ("ultramem", ["hbm", "host"])],
)
def test_rows_that_scores_choose_are_not_fetched_ahead(name: str, ways: list[str]) -> None:
    model = build_model(MODELS[name], dtype=torch.float32)
    told, predicted = [], {}
    for way, place in host_tables.variants(model):
        told.append(way)
        assert (model.tables, model.prefetch) == (place, way.endswith("ahead"))
        predicted[way] = host_tables.predicted_host_bytes(model, 3, 1, place)
    assert told == ways
    assert predicted["hbm"] == 0 < predicted["host"]
