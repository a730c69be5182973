"""Random weights as published, and a stream that stays healthy through depth.

Published (arXiv 2508.18756, appendix A, and the authors' public code): linear layers
sqrt(2 / (5 D)), tables 0.02, query and keys 1 / sqrt(Dk), their norms Dk^-0.4, cores U(0, 1).
"""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from costmodel.inputs.model import ModelConfig
from costmodel.layers.attention import Attention
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.mla import LatentAttention
from costmodel.layers.moe import MoeFfn
from costmodel.layers.peer import Peer
from costmodel.layers.product_key import ProductKey
from reference_model.model import ReferenceModel, build_model
from tests.reference_model.tiny import GROUPED_MOE, MODELS, ids, small, ultramem_v2

HIDDEN, BLOCKS = 128, 20

ATTENTION = Attention(
    num_attention_heads=4, num_key_value_heads=2, head_dim=32, qk_norm="full", sinks=True
)
LATENT = LatentAttention(
    num_attention_heads=4,
    kv_lora_rank=64,
    q_lora_rank=96,
    qk_nope_head_dim=32,
    qk_rope_head_dim=16,
    v_head_dim=32,
)
EXPERTS = MoeFfn(num_experts=16, num_experts_per_tok=4, moe_intermediate_size=128)


def deep(**fields: object) -> ModelConfig:
    """Twenty blocks of D = 128, with an FFN of 3.25 D as the published pairs have."""
    given: dict[str, object] = {
        "hidden_size": HIDDEN,
        "vocab_size": 300,
        "num_hidden_layers": BLOCKS,
        "attention": ATTENTION,
        "ffn": DenseFfn(intermediate_size=416),
    }
    return small(**(given | fields))


V2 = ultramem_v2(knum=40, share_ratio=0.5, knn=32, key_dim=64, value_dim=32, pre_value_dim=32)
MEMORY_PLUS = ProductKey(
    layers="4,8,12,16",
    num_keys=40,
    num_heads=2,
    knn=32,
    key_dim=64,
    value_dim=HIDDEN,
    gate=True,
    output_projection=True,
)
DEEP: dict[str, ModelConfig] = {
    "dense": deep(),
    "tied": deep(tie_word_embeddings=True),
    "mla": deep(attention=LATENT),
    "moe": deep(ffn=EXPERTS),
    "sigmoid_moe": deep(ffn=replace(EXPERTS, scoring="sigmoid", norm_topk_prob=True)),
    "ultramem_v2": deep(memory=(V2,)),
    "ultramem": deep(
        memory=(
            replace(
                V2,
                layers="2:5,6:9,10:13,14:17",
                share_ratio=None,
                pre_value_dim=None,
                num_heads=2,
                value_expansion=2,
            ),
        )
    ),
    "memory_plus": deep(memory=(MEMORY_PLUS,)),
    "peer": deep(memory=(Peer(layers="all", num_keys=40, num_heads=8, knn=16, key_dim=64),)),
}


def expected_std(model: ReferenceModel, path: str, name: str) -> float | None:
    """Standard deviation of a matrix; None for cores, which are uniform, and constants."""
    leaf = path.rpartition(".")[2]
    if leaf == "embed" and not model.config.tie_word_embeddings:
        return 1.0
    if leaf in ("values", "pre_values") or ".memory.down" in path or ".memory.up" in path:
        return 0.02
    if ".memory.query" in path or name == "keys":
        memory = model.config.memory[0]
        assert isinstance(memory, type(V2) | ProductKey | Peer)
        return 1 / math.sqrt(memory.key_dim)
    return math.sqrt(2 / (5 * model.config.hidden_size))


def expected_constant(path: str, name: str, parameter: Tensor) -> float | None:
    if name in ("norm", "key_norm"):  # of memory layers
        return float(len(parameter) ** -0.4)
    if "norm" in name or path.endswith("_norm"):
        return 1.0
    return 0.0 if "bias" in name or name == "sinks" else None


@pytest.mark.parametrize(
    "config",
    [*DEEP.values(), small(hidden_size=64, ffn=GROUPED_MOE), MODELS["gpt_oss"]],
    ids=[*DEEP, "deepseek", "gpt_oss"],
)
@torch.no_grad()
def test_every_parameter_is_drawn_as_published(config: ModelConfig) -> None:
    model = build_model(config, dtype=torch.float32, seed=5)
    for path, leaf in model.leaves().items():
        for name, parameter in leaf.named_parameters():
            constant = expected_constant(path, name, parameter)
            if constant is not None:
                assert torch.equal(parameter, torch.full_like(parameter, constant)), path
                continue
            centre, std = 0.0, expected_std(model, path, name)
            if name == "cores":
                centre, std = 0.5, math.sqrt(1 / 12)
                assert 0 <= float(parameter.min()) <= float(parameter.max()) <= 1
            assert std is not None
            many = math.sqrt(parameter.numel())
            assert abs(float(parameter.mean()) - centre) < 5 * std / many, (path, name)
            if parameter.numel() > 1:
                spread = float(parameter.std()) / std
                assert abs(spread - 1) < 5 / math.sqrt(2) / many, (path, name)


def streams(model: ReferenceModel) -> list[float]:
    """Variance of the residual stream before the first block and after each."""
    seen: list[float] = []

    def note(_module: nn.Module, _inputs: object, outputs: tuple[Tensor, Tensor]) -> None:
        seen.append(float(outputs[0].float().var()))

    handles = [
        leaf.register_forward_hook(note)
        for path, leaf in model.leaves().items()
        if path == "final_norm" or path.endswith(".attention_norm")
    ]
    with torch.no_grad():
        model(ids(model.config, 2, 24), model.new_cache(2, 24), logits="all")
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", DEEP)
def test_the_stream_stays_healthy_through_twenty_blocks(name: str, dtype: torch.dtype) -> None:
    """Each sublayer reads a vector of variance 1 and adds to the stream, which starts at s.

    A projection multiplies variance by D 2 / (5 D) = 0.4. Attention adds at most 0.4^2 = 0.16 (two
    projections; averaging values takes away). A SwiGLU of width 3.25 D has silu(g) u of variance
    0.4 E[silu(g)^2] = 0.05 for g ~ N(0, 0.4), and adds 3.25 * 0.4 * 0.05 = 0.065; experts and
    memory add less. So the stream stays below s + 0.23 a block (0.3 leaves room for the outputs'
    correlation), and it must not fade: a sublayer that added nothing would be a broken one.
    """
    config = DEEP[name]
    start = 2 / (5 * HIDDEN) if config.tie_word_embeddings else 1.0
    seen = streams(build_model(config, dtype=dtype))
    assert len(seen) == BLOCKS + 1
    assert seen[0] == pytest.approx(start, rel=0.1)
    for block, variance in enumerate(seen[1:], 1):
        assert start + 0.02 * block < variance < start + 0.3 * block, f"after block {block - 1}"


def test_with_norms_after_sublayers_each_adds_variance_one() -> None:
    seen = streams(build_model(deep(post_norms=True), dtype=torch.float32))
    for block, variance in enumerate(seen[1:], 1):
        assert 1 + block < variance < 1 + 3 * block


@pytest.mark.parametrize("name", [*DEEP])
@torch.no_grad()
def test_the_first_loss_is_that_of_a_guess(name: str) -> None:
    """Logits have variance 0.4 at first, which costs 0.2 more than the logarithm of V."""
    model = build_model(DEEP[name], dtype=torch.float32)
    sequences = ids(model.config, 4, 33)
    logits = model(sequences[:, :-1], model.new_cache(4, 32), logits="all")
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), sequences[:, 1:].flatten())
    assert abs(float(loss) - math.log(300) - 0.2) < 0.3


def test_weights_are_made_in_the_models_dtype() -> None:
    model = build_model(DEEP["ultramem_v2"], dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    kinds = {name.rpartition(".")[2]: buffer.dtype for name, buffer in model.named_buffers()}
    assert kinds == {"permutation": torch.int64, "u": torch.float32, "v": torch.float32}
