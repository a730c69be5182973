"""The gather of rows by a table's own pointer, and all memory layers by way of it, to the bit."""

import pytest
import torch

from reference_model import value_tables
from reference_model.kernels import host_rows
from reference_model.kernels.host_rows import gather_rows
from reference_model.model import ReferenceModel
from tests.reference_model.kernels.making import poisoned
from tests.reference_model.tiny import MODELS, ids, made


@pytest.mark.parametrize("count", [1, 7, 40])  # of rows; three programs read twelve at once
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_each_row_lands_where_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, count: int, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(host_rows, "TILE", 32)  # four rows of eight elements
    width, rows = 5, torch.randint(9, (count,), generator=torch.Generator().manual_seed(count))
    table = torch.arange(9 * width).to(dtype).view(9, width)
    out = torch.full((count + 1, width), 200, dtype=dtype)
    gather_rows(table, rows, out[:count], programs=3)
    want = [[width * row + column for column in range(width)] for row in rows.tolist()]
    assert out[:count].tolist() == want
    assert out[count].tolist() == [200] * width  # nothing is written beyond


def logits(model: ReferenceModel, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model(tokens, model.new_cache(*tokens.shape), logits="all")
    return out


@pytest.mark.parametrize("name", [n for n, config in MODELS.items() if config.memory])
def test_a_table_out_of_reach_changes_no_bit_of_the_logits(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    model, tokens = made(MODELS[name]), ids(MODELS[name], 2, 4)
    want = logits(model, tokens)
    gathered: list[int] = []

    def counting(table: torch.Tensor, rows: torch.Tensor, out: torch.Tensor) -> None:
        gathered.append(rows.numel())
        out.copy_(poisoned(*out.shape))
        gather_rows(table, rows, out)

    monkeypatch.setattr(value_tables, "apart", lambda _table, _rows: True)
    monkeypatch.setattr(host_rows, "gather_rows", counting)
    assert torch.equal(logits(model, tokens), want)
    assert gathered
    model.prefetch = True
    assert torch.equal(logits(model, tokens), want)
