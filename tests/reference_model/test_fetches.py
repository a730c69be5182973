"""Tables that move between places, and rows that are read before the layers that need them."""

from typing import Any

import pytest
import torch

from costmodel.layers.moe import MoeFfn
from reference_model.decode import DecodeStep
from reference_model.model import ReferenceModel, build_model
from reference_model.routing import renew_rows, selectors, set_synthetic_routing
from reference_model.synthetic_routing import Popularity
from tests.reference_model.tiny import MODELS, ids, made

NGRAM = next(name for name, c in MODELS.items() if c.memory and c.memory[0].kind == "ngram")


def order(model: ReferenceModel, tokens: torch.Tensor) -> list[str]:
    """The leaves of one step, in the order in which they run."""
    ran: list[str] = []

    def note(path: str) -> Any:  # noqa: ANN401 - torch's type of a hook
        return lambda *_: ran.append(path)

    hooks = [leaf.register_forward_hook(note(path)) for path, leaf in model.leaves().items()]
    with torch.no_grad():
        model(tokens, model.new_cache(*tokens.shape))
    for hook in hooks:
        hook.remove()
    return ran


def test_rows_of_token_ids_are_read_before_anything_else_and_once() -> None:
    model, tokens = made(MODELS[NGRAM]), ids(MODELS[NGRAM], 2, 3)
    usual = order(model, tokens)
    model.prefetch = True
    ahead = order(model, tokens)
    assert sorted(ahead) == sorted(usual)
    reads = [path for path in usual if path.endswith((".hash", ".rows"))]
    first = ahead.index("embed")
    assert [path for path in ahead[:first] if path != "token_history"] == reads
    assert usual.index("embed") < min(map(usual.index, reads))


def test_by_default_rows_are_fetched_ahead_where_tables_stand_in_host_memory() -> None:
    model, tokens = made(MODELS[NGRAM]), ids(MODELS[NGRAM], 2, 3)
    usual = order(model, tokens)
    model.place_tables("host")
    assert order(model, tokens) != usual
    model.prefetch = False
    assert order(model, tokens) == usual
    model.prefetch = None
    assert order(model.place_tables("hbm"), tokens) == usual


@pytest.mark.parametrize("name", [n for n, config in MODELS.items() if config.memory])
def test_all_that_is_read_by_rows_moves_and_nothing_else(name: str) -> None:
    model = made(MODELS[name])
    tables = {id(table) for table in model.memory_tables()}
    values = {
        id(parameter)
        for leaf in model.leaves().values()
        for key, parameter in leaf.named_parameters()
        if leaf.groups[key] == "memory_values"
    }
    assert tables == values
    assert tables
    assert len(tables) == len(model.memory_tables())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.place_tables("host")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", [n for n, config in MODELS.items() if config.memory])
@pytest.mark.parametrize("graph", [False, True])
def test_on_a_gpu_tables_in_host_memory_give_the_same_bits(name: str, *, graph: bool) -> None:
    config = MODELS[name]
    if graph and any(isinstance(ffn, MoeFfn) for ffn, _ in config.ffn_groups):
        pytest.skip("torch's float32 grouped product asks the host for the groups: no graph")
    model = build_model(config, device="cuda", dtype=torch.float32)
    model.load_state_dict(made(config).state_dict())
    tokens = ids(config, 2, 4).cuda()

    def stepped() -> torch.Tensor:
        cache = model.new_cache(2, 8)
        with torch.no_grad():
            model(tokens, cache)
        return DecodeStep(model, cache, graph=graph)(tokens[:, :1]).clone()

    want = stepped()
    model.place_tables("host")
    assert all(table.is_pinned() for table in model.memory_tables())
    for prefetch in (None, False, True):
        model.prefetch = prefetch
        assert torch.equal(stepped(), want)
    model.place_tables("hbm")
    assert torch.equal(stepped(), want)


@pytest.mark.parametrize("name", [n for n, config in MODELS.items() if config.memory])
def test_renewed_rows_stay_with_their_column_and_take_the_old_ones_place(name: str) -> None:
    model = made(MODELS[name])
    set_synthetic_routing(model, Popularity(exponent=0.0), tokens=6, seed=1)
    before = {
        path: (leaf.synthetic_choice, leaf.synthetic_choice.clone())
        for path, leaf in selectors(model).items()
        if leaf.synthetic_choice is not None
    }
    assert before
    renew_rows(model, torch.Generator().manual_seed(4))
    moved = 0
    for path, leaf in selectors(model).items():
        tensor, old = before[path]
        assert leaf.synthetic_choice is tensor  # where a graph reads it
        if leaf.kind == "experts":
            assert torch.equal(tensor, old)
            continue
        moved += int((tensor != old).sum())
        sizes = torch.tensor(
            leaf.populations or (leaf.population,) * (leaf.items // leaf.population)
        )
        ends = sizes.cumsum(0)
        assert torch.equal(*(torch.searchsorted(ends, rows, right=True) for rows in (tensor, old)))
        for rows, were in zip(tensor, old, strict=True):
            assert len(rows.unique()) == len(were.unique())
    assert moved
