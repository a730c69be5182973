"""A fused step against the same model in plain PyTorch: logits, choices, cache, launches."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from costmodel.errors import InputError
from costmodel.inputs.workload import Backend
from reference_model.decode import DecodeStep
from reference_model.kernels.launch import INTERPRETED
from reference_model.model import ReferenceModel
from reference_model.routing import selectors, set_synthetic_routing
from reference_model.synthetic_routing import Popularity
from tests.reference_model.fused.models import CONTEXT, MEMORIES, MODELS
from tests.reference_model.fused.own_scores import check_own_choice
from tests.reference_model.tiny import made

STEPS = 2  # the second reads what the first has written; a third would do what the second does
CLOSE = 3e-6  # float32 on the interpreter: sums in another order
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not INTERPRETED, reason="a GPU has tests of its own"),
]


@torch.no_grad()
def decoded(
    reference: ReferenceModel,
    batch: int,
    backend: Backend,
    steps: int = STEPS,
) -> tuple[list[Tensor], list[Tensor], DecodeStep]:
    """Logits of some greedy steps behind the same prefill; the choices of the last; the step."""
    ids = torch.arange(batch * CONTEXT).view(batch, CONTEXT) * 7 % 96
    cache = reference.new_cache(batch, CONTEXT + steps)
    reference(ids, cache)
    step = DecodeStep(reference, cache, graph=False, greedy=True, backend=backend)
    step.ids.copy_(torch.arange(batch)[:, None])
    logits = [step().clone() for _ in range(steps)]
    chosen = [leaf.selected for leaf in selectors(reference).values()]
    return logits, [ids.long().sort(-1).values for ids in chosen if ids is not None], step


CASES = [(name, batch) for name in MODELS if name not in MEMORIES for batch in (1, 3, 20)]
CASES += [(name, batch) for name in MEMORIES for batch in (1, 3)]
CASES += [(name, 20) for name in MEMORIES if "experts" in name]  # a router in tiles, were it alone


@pytest.mark.parametrize(("name", "batch"), CASES)
def test_a_fused_step_gives_the_logits_choices_and_cache_of_plain_pytorch(
    name: str, batch: int
) -> None:
    reference = made(MODELS[name], seed=batch)
    steps = 1 if name in MEMORIES else STEPS
    plain, chosen, at = decoded(reference, batch, "torch", steps)
    fused, chosen_too, at_too = decoded(reference, batch, "fused", steps)
    for expected, logits in zip(plain, fused, strict=True):
        assert (logits - expected).norm() <= CLOSE * expected.norm()
    assert all(map(torch.equal, chosen, chosen_too))
    assert at_too.fused is not None
    if name in MEMORIES:
        check_own_choice(at_too.fused)
    for layer, layer_too in zip(at.cache.kv_layers, at_too.cache.kv_layers, strict=True):
        for kept, kept_too in zip(layer.tensors, layer_too.tensors, strict=True):
            torch.testing.assert_close(kept_too, kept, rtol=1e-4, atol=1e-4)


def test_expanded_latent_attention_is_refused() -> None:
    reference = made(MODELS["latents, unlike layers"])
    reference.set_mla("expanded")
    with pytest.raises(InputError, match="absorbed latent attention, not mla=expanded"):
        decoded(reference, 1, "fused", 1)


@pytest.mark.parametrize(
    "name",
    [
        "full QK-norm, softmax",
        "memory, heads, groups, skips",
        "PEER beside experts, tables of heads",
    ],
)
def test_a_given_routing_is_followed(name: str) -> None:
    reference = made(MODELS[name])
    set_synthetic_routing(reference, Popularity(exponent=1.0), tokens=3 * CONTEXT)
    plain, chosen, _ = decoded(reference, 3, "torch", 1)
    fused, chosen_too, _ = decoded(reference, 3, "fused", 1)
    assert all(map(torch.equal, chosen, chosen_too))
    for leaf in selectors(reference).values():
        assert leaf.synthetic_choice is not None
        if leaf.kind == "rows":
            assert leaf.selected is not None
            assert torch.equal(leaf.selected.long(), leaf.synthetic_choice[:3])
    assert (fused[0] - plain[0]).norm() <= CLOSE * plain[0].norm()


@pytest.mark.parametrize(
    ("name", "batch", "expected"),
    [
        ("full QK-norm, softmax", 1, 7),
        ("full QK-norm, softmax", 3, 9),
        ("full QK-norm, softmax", 20, 9),  # the norm is in the router: one path fewer
        ("dense, tied", 1, 6),
        ("latents, unlike layers", 1, 10),
        ("latents, unlike layers", 3, 12),
        ("latents, compressed queries, groups", 20, 14),
        ("memory, pre-values, ring windows", 1, 11),  # 6, product, scores, sides, rows, output
        ("memory, pre-values, ring windows", 3, 13),
        ("memory, heads, groups, skips", 1, 12),  # two heads sum their rows apart
        ("memory, heads, groups, skips", 3, 14),
        ("PEER in place of an FFN", 1, 6),  # of a layer without; layer 0 is looked at below
    ],
)
def test_a_layer_takes_few_launches_and_every_region_is_entered_once(
    name: str, batch: int, expected: int
) -> None:
    """Of one token and of more, as counted by hand; paths cover each leaf of the model once."""
    from costmodel.layers.site import region_leaves

    reference = made(MODELS[name])
    _, _, step = decoded(reference, batch, "fused", 1)
    assert step.fused is not None
    layer = [x.path for x in step.fused.plan.launches if x.path.startswith("layers.1.")]
    assert len(layer) <= expected
    leaves = [leaf for path in step.regions for leaf in region_leaves(path)]
    assert sorted(leaves) == sorted(reference.leaves())
    entered: list[str] = []

    @contextmanager
    def context(path: str) -> Iterator[None]:
        entered.append(path)
        yield

    with step.within(context):
        step.fused()
    assert tuple(entered) == step.regions
