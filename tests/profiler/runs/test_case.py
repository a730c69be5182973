"""A case is the same data each time it is made and run, and follows the synthetic routing."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import sqrt
from statistics import mean, stdev
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from costmodel.layers.moe import MoeFfn
from costmodel.layers.peer import Peer
from costmodel.routing.by_population import ByPopulation
from costmodel.routing.popularity import Routing, Uniform, Zipf
from profiler.runs import case as module
from profiler.runs.case import PreparedCase, captured_or_reason, synthetic_popularities
from reference_model.mla import LatentLayer
from reference_model.routing import selectors
from reference_model.synthetic_routing import Popularity
from tests.profiler.runs.cases import (
    DECODE,
    PREFILL,
    cached,
    case_of,
    logits_of,
    model_of,
    states_of,
    work,
)
from tests.profiler.runs.gpu_runs import can_capture
from tests.reference_model.tiny import MODELS, small, ultramem_v2

PHASES = {"decode": DECODE, "prefill": PREFILL}
phases = pytest.mark.parametrize("phase", PHASES)
SPARSE = small(
    ultramem_v2(layers="0", knum=12, num_heads=2),
    Peer(layers="1", num_keys=10, num_heads=2, knn=4, key_dim=6, replaces_ffn=False),
    num_hidden_layers=2,
    ffn=MoeFfn(num_experts=24, num_experts_per_tok=2, moe_intermediate_size=8),
)


def data(case: PreparedCase) -> dict[str, list[Tensor]]:
    """All that is drawn for a case, and what a run then chooses."""
    before = {"ids": [case.ids.clone()], "cache": [tensor.clone() for tensor in cached(case)]}
    case.run()
    leaves = selectors(case.model).values()
    synthetic = [leaf.synthetic_choice for leaf in leaves if leaf.synthetic_choice is not None]
    selected = [leaf.selected for leaf in leaves if leaf.selected is not None]
    assert len(synthetic) == len(selected) == len(leaves) == 4
    return {**before, "synthetic": synthetic, "selected": selected}


@phases
@pytest.mark.parametrize("routing", ["uniform", "zipf:1.0"])
def test_a_seed_repeats_all_of_a_case_and_another_changes_all_of_it(
    phase: str, routing: str
) -> None:
    first, again, other = (
        data(case_of(SPARSE, seed=seed, **PHASES[phase], routing=routing)) for seed in (1, 1, 2)
    )
    for name, tensors in first.items():
        assert all(map(torch.equal, tensors, again[name])), name
        assert not any(map(torch.equal, tensors, other[name])), name


@pytest.mark.parametrize("at_once", [7, 2**28])
@pytest.mark.parametrize("name", MODELS)
def test_no_number_of_the_cache_is_zero(
    name: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FILL_ELEMENTS", at_once)
    numbers = torch.cat([tensor.flatten() for tensor in cached(case_of(name))])
    assert numbers.count_nonzero() == numbers.numel()
    assert abs(float(numbers.std()) - 1) < 0.2
    assert len(numbers.unique()) > 0.99 * len(numbers), "pieces repeat each other"


def test_ids_are_drawn_from_the_whole_vocabulary() -> None:
    ids = case_of("dense", phase="prefill", batch=8, context=0, new_tokens=64).ids
    assert ids.shape == (8, 64)
    assert set(ids.flatten().tolist()) == set(range(23))


@phases
@pytest.mark.parametrize("name", MODELS)
def test_a_run_leaves_the_cache_where_it_stood(name: str, phase: str) -> None:
    case = case_of(name, **PHASES[phase])
    first = logits_of(case)
    again = logits_of(case)
    assert case.cache.length == case.workload.context
    if case.cache.past_ids is None and not case.cache.state_bytes():  # which move on
        assert torch.equal(again, first)


def test_a_prefill_goes_on_after_its_context_each_time() -> None:
    case = case_of("mla", **{**PREFILL, "context": 5})
    first = logits_of(case)
    assert torch.equal(logits_of(case), first)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_a_decode_step_is_one_more_token_after_the_context(name: str) -> None:
    """A cache that grows, with the same numbers in it, gives the same logits."""
    case = case_of(name)
    grown = case.model.new_cache(3, 7)
    grown.length = 6
    for theirs, ours in zip(grown.kv_layers, case.cache.kv_layers, strict=True):
        for empty, full in zip(theirs.tensors, ours.tensors, strict=True):
            empty.copy_(full)
    for theirs_state, state in zip(states_of(grown), states_of(case.cache), strict=True):
        theirs_state.copy_(state)
    if grown.past_ids is not None and case.cache.past_ids is not None:
        grown.past_ids.copy_(case.cache.past_ids)
    want = case.model(case.ids, grown)
    assert (logits_of(case) - want).abs().max() < 1e-5 * want.abs().max()


@pytest.mark.parametrize(("phase", "mode"), [("decode", "absorbed"), ("prefill", "expanded")])
def test_latent_attention_is_absorbed_in_decode_and_expanded_in_prefill(
    phase: str, mode: str
) -> None:
    model = case_of("mla", **PHASES[phase]).model
    assert {each.mode for each in model.modules() if isinstance(each, LatentLayer)} == {mode}


@pytest.mark.parametrize(
    ("word", "routing"),
    [
        ("uniform", Uniform()),
        ("zipf:1.0", Zipf(1.0)),
        ("zipf:2", Zipf(2.0)),
        ("experts=zipf:2,rows=uniform", ByPopulation(experts=Zipf(2.0), rows=Uniform())),
    ],
)
def test_a_synthetic_routing_touches_what_the_cost_model_expects(
    word: str, routing: Routing
) -> None:
    """Over 40 seeds the mean lies within 5 standard errors."""
    model, workload, seeds = model_of(SPARSE), work(batch=16, context=0, routing=word), 40
    touched: dict[str, list[int]] = {path: [] for path in selectors(model)}
    for seed in range(seeds):
        PreparedCase(model, workload, seed).run()
        for path, leaf in selectors(model).items():
            assert leaf.selected is not None
            touched[path].append(len(set(leaf.selected.flatten().tolist())))
    assert len(touched) == 4
    for path, leaf in selectors(model).items():
        want = routing.expected_distinct(
            leaf.population, leaf.draws, 16 * leaf.heads, kind=leaf.kind
        )
        error = stdev(touched[path]) / sqrt(seeds)
        assert abs(mean(touched[path]) - float(want)) < 5 * error, path


def test_scores_select_again_after_a_case_of_synthetic_routing() -> None:
    model, workload = model_of(SPARSE), work(routing="scores")
    PreparedCase(model, work(routing="zipf:1.0"), 1).run()
    synthetic = [leaf.selected for leaf in selectors(model).values() if leaf.selected is not None]
    PreparedCase(model, workload, 1).run()
    assert all(leaf.synthetic_choice is None for leaf in selectors(model).values())
    fresh = model_of(SPARSE)
    PreparedCase(fresh, workload, 1).run()
    selected = [leaf.selected for leaf in selectors(model).values() if leaf.selected is not None]
    wanted = [leaf.selected for leaf in selectors(fresh).values() if leaf.selected is not None]
    assert all(map(torch.equal, selected, wanted))
    assert not any(map(torch.equal, selected, synthetic))


def test_a_word_of_a_routing_is_a_popularity() -> None:
    even, steep = Popularity(exponent=0.0), Popularity(exponent=0.75)
    assert synthetic_popularities("uniform") == (even, even)
    assert synthetic_popularities("zipf:0.75") == (steep, steep)
    assert synthetic_popularities("experts=uniform,rows=zipf:0.75") == (even, steep)
    assert synthetic_popularities("experts=zipf:0.75,rows=uniform") == (steep, even)
    assert synthetic_popularities("scores") == (None, None)


def test_all_captures_share_one_stream_on_which_they_warm_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """cuBLAS keeps a workspace for each stream, which would look like memory of the step."""
    module._side_stream.cache_clear()
    made, happened = list[SimpleNamespace](), list[object]()
    on: list[object] = ["the usual stream"]

    def stream() -> SimpleNamespace:
        made.append(SimpleNamespace(wait_stream=lambda _: None))
        return made[-1]

    @contextmanager
    def within(what: object) -> Iterator[None]:
        on.append(what)
        yield
        on.pop()

    @contextmanager
    def graph(of: SimpleNamespace, *, stream: object) -> Iterator[None]:
        with within((of, stream)):
            yield

    monkeypatch.setattr(torch.cuda, "Stream", stream)
    monkeypatch.setattr(torch.cuda, "stream", within)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=object()))
    monkeypatch.setattr(
        torch.cuda, "current_stream", lambda: SimpleNamespace(wait_stream=lambda _: None)
    )
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(PreparedCase, "run", lambda _: happened.append(on[-1]))
    replays = [case_of("dense").captured() for _ in range(2)]
    (side,) = made
    graphs = [each for each in happened if isinstance(each, tuple)]
    assert happened == [*[side] * 3, graphs[0], *[side] * 3, graphs[1]]
    assert [(of.replay, stream) for of, stream in graphs] == [(each, side) for each in replays]
    module._side_stream.cache_clear()


def test_a_long_reason_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    can_capture(monkeypatch, RuntimeError("x" * 5000))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    replay, reason = captured_or_reason(case_of("dense"))
    assert replay is None
    assert len(reason) < 300


def test_another_mistake_is_no_missing_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    can_capture(monkeypatch, TypeError("ours"))
    with pytest.raises(TypeError):
        captured_or_reason(case_of("dense"))


def test_a_device_lost_in_the_capture_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> None:
        raise RuntimeError("CUDA error: the device is gone")

    can_capture(monkeypatch, RuntimeError("capture failed"))
    monkeypatch.setattr(torch.cuda, "synchronize", lost)
    with pytest.raises(RuntimeError, match="gone"):
        captured_or_reason(case_of("dense"))
