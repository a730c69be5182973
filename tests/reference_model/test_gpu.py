"""On a GPU the models give what they give on a CPU, where oracles hold them to the formulas.

float32 throughout; bf16 on given choices, since a few percent of choices differ by its rounding.
"""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from costmodel.inputs.model import ModelConfig, Override
from costmodel.layers.attention import Attention
from costmodel.layers.mla import LatentAttention
from costmodel.layers.moe import MoeFfn
from costmodel.layers.peer import Peer
from costmodel.layers.product_key import ProductKey
from costmodel.layers.ultramem import UltraMem
from reference_model.decode import DecodeStep
from reference_model.leaf import Leaf
from reference_model.model import ReferenceModel, build_model
from tests.reference_model.tiny import made
from tests.steps import tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

HEADS: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
WIDE: dict[str, Any] = {
    "hidden_size": 64,
    "vocab_size": 96,
    "num_hidden_layers": 3,
    "attention": Attention(**HEADS),
}
MOE: dict[str, Any] = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
V2: dict[str, Any] = {"knum": 16, "share_ratio": 0.5, "knn": 8, "key_dim": 32, "value_dim": 32}
KINDS: dict[str, ModelConfig] = {
    "dense": tiny_model(**WIDE),
    "windows": tiny_model(
        **WIDE,
        overrides=(Override(layers="0,2", attention=Attention(**HEADS, sliding_window=5)),),
    ),
    "sinks": tiny_model(**(WIDE | {"attention": Attention(**HEADS, sinks=True, qk_norm="head")})),
    "mla": tiny_model(
        **(
            WIDE
            | {
                "attention": LatentAttention(
                    num_attention_heads=4,
                    kv_lora_rank=32,
                    qk_nope_head_dim=16,
                    qk_rope_head_dim=16,
                    v_head_dim=16,
                    q_lora_rank=24,
                )
            }
        )
    ),
    "moe": tiny_model(
        **WIDE, ffn=MoeFfn(**MOE, shared_intermediate_size=16, scoring="sigmoid", n_group=2)
    ),
    "ultramemv2": tiny_model(**WIDE, memory=(UltraMem(**V2, pre_value_dim=16),)),
    "ultramem": tiny_model(
        **WIDE,
        memory=(
            UltraMem(
                layers="0:1", knum=16, knn=8, key_dim=32, value_dim=32, num_heads=2,
                value_expansion=2,
            ),
        ),
    ),
    "memory+": tiny_model(
        **WIDE,
        memory=(
            ProductKey(
                layers="1", num_keys=16, num_heads=2, knn=8, key_dim=32, value_dim=32, gate=True,
                output_projection=True,
            ),
        ),
    ),
    "peer": tiny_model(
        **WIDE, memory=(Peer(layers="1", num_keys=16, num_heads=2, knn=8, key_dim=32),)
    ),
}  # fmt: skip


def on_gpu(model: ReferenceModel, dtype: torch.dtype) -> ReferenceModel:
    """The same weights on the GPU."""
    moved = build_model(model.config, device="cuda", dtype=dtype)
    moved.load_state_dict(model.state_dict())
    return moved


def choosing(model: ReferenceModel) -> dict[str, Leaf]:
    """The leaves that choose experts or rows, and weigh them."""
    return {p: leaf for p, leaf in model.leaves().items() if p.endswith(("router", "retrieve"))}


def give_choices(model: ReferenceModel, like: ReferenceModel) -> None:
    """Let the choices of `model` be those that `like` makes in the next run."""
    kept: dict[str, tuple[Tensor, ...]] = {}

    def keep(path: str, _leaf: nn.Module, _inputs: object, output: tuple[Tensor, ...]) -> None:
        kept[path] = output

    def replay(path: str, *_: object) -> tuple[Tensor, ...]:
        return tuple(
            t.to(model.device, model.dtype if t.is_floating_point() else t.dtype)
            for t in kept[path]
        )

    for path, leaf in choosing(like).items():
        leaf.register_forward_hook(partial(keep, path))
    for path, leaf in choosing(model).items():
        leaf.register_forward_hook(partial(replay, path))


@torch.no_grad()
def logits(model: ReferenceModel, ids: Tensor) -> Tensor:
    ids = ids.to(model.device)
    logits: Tensor = model(ids, model.new_cache(*ids.shape), logits="all")
    return logits.float().cpu()


IDS = torch.randint(0, 96, (2, 24), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", KINDS)
def test_float32_equals_the_cpu(name: str) -> None:
    model = made(KINDS[name])
    want = logits(model, IDS)
    got = logits(on_gpu(model, torch.float32), IDS)
    assert (got - want).abs().max() < 1e-4 * want.abs().max()


@pytest.mark.parametrize("name", KINDS)
def test_bf16_is_close_on_given_choices(name: str) -> None:
    model = made(KINDS[name])
    model.to(torch.bfloat16).to(torch.float32)  # the same rounded weights on both
    moved = on_gpu(model, torch.bfloat16)
    give_choices(moved, model)
    want, got = logits(model, IDS), logits(moved, IDS)
    assert (got - want).abs().max() < 0.05 * want.abs().max()
    assert (got - want).square().mean().sqrt() < 0.01 * want.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", KINDS)
@torch.no_grad()
def test_a_graph_decodes_what_eager_steps_decode(name: str, dtype: torch.dtype) -> None:
    if name == "moe" and dtype == torch.float32:
        pytest.skip("torch's float32 grouped product asks the host for the groups: no graph")
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    try:
        model = on_gpu(made(KINDS[name]), dtype).fold()
        ids = IDS.cuda()
        both = []
        for graph in (False, True):
            cache = model.new_cache(2, 24)
            model(ids[:, :12], cache)
            step = DecodeStep(model, cache, graph=graph, greedy=True)
            step.ids.copy_(ids[:, 12:13])
            both.append(torch.cat([step().clone() for _ in range(10)], dim=1))
        assert torch.equal(*both)
    finally:
        torch.use_deterministic_algorithms(mode=False)


@pytest.mark.parametrize("name", KINDS)
@torch.no_grad()
def test_static_decode_equals_prefill(name: str) -> None:
    model = on_gpu(made(KINDS[name]), torch.float32).fold()
    ids = IDS.cuda()
    whole = model(ids, model.new_cache(2, 24), logits="all")
    cache = model.new_cache(2, 24)
    model(ids[:, :10], cache)
    step = DecodeStep(model, cache, graph=False)
    for position in range(10, 24):
        got = step(ids[:, position : position + 1])[:, 0]
        assert (got - whole[:, position]).abs().max() < 1e-4 * whole.abs().max()
        if position < 23:
            cache.advance_static()
