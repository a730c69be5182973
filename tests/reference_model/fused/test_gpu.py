"""On a GPU a fused step in bf16 is as near to float32 as plain PyTorch in bf16 is.

The routing is given, since rounding would choose other experts and rows now and then; what kernels
choose by their own scores is compared with an exact choice by those.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from costmodel.inputs.workload import Backend
from costmodel.layers.moe import MoeFfn
from costmodel.layers.ultramem import UltraMem
from reference_model.cache import Cache
from reference_model.decode import DecodeStep
from reference_model.fused.step import FusedStep
from reference_model.model import ReferenceModel, build_model
from reference_model.routing import selectors, set_synthetic_routing
from reference_model.synthetic_routing import Popularity
from tests.reference_model.fused.models import CONTEXT, MEMORIES, MODELS, STEPS
from tests.reference_model.fused.own_scores import check_own_choice
from tests.reference_model.tiny import randomise

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
BATCHES = (1, 3, 20, 70, 150)
ROUNDING = 1.5  # times plain PyTorch's own error, and a little
LITTLE = 2e-3
EXPANDED = [
    name
    for name, config in MODELS.items()
    if any(isinstance(each, UltraMem) and each.value_expansion > 1 for each in config.memory)
]
"""Of a given row, its virtual row is chosen by scores even so: near ties, in plain PyTorch too."""


def on_gpu(name: str, dtype: torch.dtype) -> ReferenceModel:
    """The same parameters in every format."""
    model = build_model(MODELS[name], device="cuda", dtype=dtype)
    randomise(model, 5)
    return model


@torch.no_grad()
def prefilled(model: ReferenceModel, batch: int) -> Cache:
    ids = torch.arange(batch * CONTEXT, device="cuda").view(batch, CONTEXT) * 7 % 96
    cache = model.new_cache(batch, CONTEXT + STEPS)
    model(ids, cache)
    return cache


def route_alike(model: ReferenceModel, batch: int) -> None:
    set_synthetic_routing(model, Popularity(exponent=0.5), tokens=batch * CONTEXT, seed=2)


def once(model: ReferenceModel, batch: int, backend: Backend) -> Tensor:
    route_alike(model, batch)
    step = DecodeStep(model, prefilled(model, batch), graph=False, backend=backend)
    return step(torch.arange(batch, device="cuda")[:, None] % 96).double()


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", [name for name in MODELS if name not in EXPANDED])
def test_logits_are_as_exact_as_plain_pytorchs(name: str, batch: int) -> None:
    truth = once(on_gpu(name, torch.float32), batch, "torch")
    model = on_gpu(name, torch.bfloat16)
    plain = (once(model, batch, "torch") - truth).norm() / truth.norm()
    fused = (once(model, batch, "fused") - truth).norm() / truth.norm()
    assert fused <= ROUNDING * plain + LITTLE


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(
    "name", [name for name, config in MODELS.items() if isinstance(config.ffn, MoeFfn)]
)
def test_chosen_experts_are_the_top_of_the_kernels_own_logits(name: str, batch: int) -> None:
    """Layer by layer: they share the buffer of the logits, one after another."""
    model = on_gpu(name, torch.bfloat16)
    fused = DecodeStep(model, prefilled(model, batch), graph=False, backend="fused").fused
    assert fused is not None
    by_router = iter(fused.routings)
    logits: list[Tensor] = []

    @contextmanager
    def keeping(path: str) -> Iterator[None]:
        yield
        if "router" in path:
            logits.append(next(by_router).logits.clone())

    with fused.within(keeping):
        fused()
    routers = [leaf for leaf in selectors(model).values() if leaf.kind == "experts"]
    assert routers
    for leaf, of_layer in zip(routers, logits, strict=True):
        assert leaf.selected is not None
        if "groups" not in name:  # groups and corrections rank otherwise: tests of the router
            top = of_layer.topk(leaf.draws, dim=-1).indices
            assert torch.equal(top.sort(-1).values, leaf.selected.long().sort(-1).values)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", MEMORIES)
def test_chosen_rows_are_the_best_by_the_kernels_own_scores(name: str, batch: int) -> None:
    model = on_gpu(name, torch.bfloat16)
    step = DecodeStep(model, prefilled(model, batch), graph=False, backend="fused")
    step()
    assert step.fused is not None
    check_own_choice(step.fused)


@pytest.mark.parametrize("batch", [1, 20])
@pytest.mark.parametrize("name", MEMORIES)
def test_a_search_beside_the_ffn_changes_no_bit(name: str, batch: int) -> None:
    model = on_gpu(name, torch.bfloat16)
    route_alike(model, batch)
    logits: list[Tensor] = []
    for branches in (True, False):
        ids = torch.full((batch, 1), 3, device="cuda")
        cache = prefilled(model, batch)
        cache.make_static(cache.length)
        logits.append(FusedStep(model, cache, ids, branches=branches)().clone())
    assert torch.equal(*logits)


@pytest.mark.parametrize("batch", [1, 20, 70])
@pytest.mark.parametrize("name", MODELS)
def test_a_graph_generates_what_eager_steps_generate(name: str, batch: int) -> None:
    """Greedy, to the bit: sums have one order, whichever block comes last."""
    model = on_gpu(name, torch.bfloat16)
    route_alike(model, batch)
    runs: list[list[Tensor]] = []
    for graph in (False, True):
        cache = prefilled(model, batch)
        step = DecodeStep(model, cache, graph=graph, greedy=True, backend="fused")
        step.ids.fill_(3)
        runs.append([step().clone() for _ in range(STEPS)])
    for eager, replayed in zip(*runs, strict=True):
        assert torch.equal(eager, replayed)
        assert eager.isfinite().all()
