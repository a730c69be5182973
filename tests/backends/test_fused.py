"""The backend `fused`: launches and regions by tokens, counted by hand, and what it refuses."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from costmodel.backends import BACKENDS, kernels_of
from costmodel.backends.fused import few, many
from costmodel.backends.step_kernels import StepKernels, region_paths
from costmodel.costs.operators import build_operators
from costmodel.inputs.model import ModelConfig, Override
from costmodel.inputs.workload import Workload
from costmodel.layers.absent import NoFfn, NoMixer
from costmodel.layers.attention import Attention
from costmodel.layers.dtype import BF16, DTYPES
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.formats import Formats, LeafFormat, parse_formats
from costmodel.layers.mla import LatentAttention
from costmodel.layers.moe import MoeFfn
from costmodel.layers.operator import Operator
from costmodel.layers.peer import Peer
from costmodel.layers.product_key import ProductKey
from costmodel.layers.site import expanded_paths
from costmodel.layers.ultramem import UltraMem
from tests.strategies import PRESETS

OLMOE, LLAMA, GPT_OSS = "olmoe-1b-7b", "llama-3.1-8b", "gpt-oss-20b"  # 64, none, 32 experts
V2_LITE, V3 = "deepseek-v2-lite", "deepseek-v3"  # latent attention; V3 compresses its queries
FILL = 1  # zeroes the counters of all layers with experts


def fused(model: ModelConfig | str, workload: Workload) -> tuple[StepKernels, tuple[Operator, ...]]:
    config = PRESETS[model] if isinstance(model, str) else model
    operators = build_operators(config, workload.step())
    return kernels_of("fused", operators, workload.step()), operators


def of_layer(model: str, batch: int, layer: int = 1) -> dict[str, Any]:
    """Launches of the regions and operators of one layer, by path without the layer."""
    kernels, operators = fused(model, Workload(batch=batch))
    prefix = f"layers.{layer}."
    return {
        path.removeprefix(prefix): kernels.region_launches(region)
        for region in kernels.regions(operators)
        for path in expanded_paths(region.path)
        if path.startswith(prefix)
    }


ATTENTION_ONE = {
    "{attention_norm,attention.qkv}": 1,
    "attention.rope": 1,
    "attention.core": 1,
    "attention.output": 1,
}
ATTENTION = {
    "attention_norm": 1,
    "attention.qkv": 1,
    "attention.rope": 1,
    "attention.core": 1,
    "attention.output": 1,
}


def test_a_layer_of_one_token_takes_seven_launches_with_experts_and_six_without() -> None:
    experts = {"{ffn_norm,moe.router}": 1, "moe.experts": 2}
    assert of_layer(OLMOE, 1) == ATTENTION_ONE | experts
    assert of_layer(LLAMA, 1) == ATTENTION_ONE | {"{ffn_norm,ffn.gate_up}": 1, "ffn.down": 1}


def test_a_layer_of_more_tokens_takes_nine_launches_with_experts_and_eight_without() -> None:
    apart = ATTENTION | {"ffn_norm": 1, "moe.router": 1, "moe.experts": 2}
    together = ATTENTION | {"{ffn_norm,moe.router}": 2, "moe.experts": 2}
    assert of_layer(OLMOE, 2) == of_layer(OLMOE, 16) == apart
    assert of_layer(OLMOE, 17) == of_layer(OLMOE, 256) == together
    assert of_layer(GPT_OSS, 64) == apart  # few experts: a token of its own pays for longer
    assert of_layer(GPT_OSS, 65) == together
    dense = ATTENTION | {"ffn_norm": 1, "ffn.gate_up": 1, "ffn.down": 1}
    assert of_layer(LLAMA, 2) == of_layer(LLAMA, 256) == dense


LATENT = {
    "attention.{latent_norm,rope,k_up}": 1,
    "attention.core": 1,
    "attention.v_up": 1,
    "attention.output": 1,
}
COMPRESSED = {
    "attention.latent_norm": 1,
    "attention.q_up": 1,
    "attention.{rope,k_up}": 1,
    "attention.core": 1,
    "attention.v_up": 1,
    "attention.output": 1,
}


@pytest.mark.parametrize(("model", "layer", "latent"), [(V2_LITE, 1, LATENT), (V3, 3, COMPRESSED)])
def test_latent_attention_takes_one_launch_more_and_compressed_queries_two_besides(
    model: str, layer: int, latent: dict[str, int]
) -> None:
    """With shared experts; at 2 tokens the norms stand apart, at 17 one goes to the router."""
    shared = {"moe.experts": 2, "moe.shared_gate_up": 1, "moe.shared_down": 1}
    down = {"{attention_norm,attention.qkv_down}": 1}
    assert of_layer(model, 1, layer) == (down | latent | {"{ffn_norm,moe.router}": 1} | shared)
    down = {"attention_norm": 1, "attention.qkv_down": 1}
    apart = {"ffn_norm": 1, "moe.router": 1}
    assert of_layer(model, 2, layer) == down | latent | apart | shared
    assert of_layer(model, 17, layer) == down | latent | {"{ffn_norm,moe.router}": 2} | shared


def test_a_step_takes_its_layers_both_ends_and_a_fill() -> None:
    for model, layers, batch, expected in (
        (OLMOE, 16, 1, 7),
        (OLMOE, 16, 4, 9),
        (OLMOE, 16, 64, 9),
        (LLAMA, 32, 1, 6),
        (LLAMA, 32, 8, 8),
    ):
        kernels, operators = fused(model, Workload(batch=batch))
        ends = 2 if batch == 1 else 3  # embedding; final norm and LM head, together at one token
        fill = FILL if model == OLMOE else 0
        assert kernels.step_launches(operators) == layers * expected + ends + fill
    kernels, operators = fused(OLMOE, Workload())
    assert [region.path for region in kernels.regions(operators)][-1] == "{final_norm,lm_head}"
    kernels, operators = fused(OLMOE, Workload(batch=2))
    paths = [region.path for region in kernels.regions(operators)]
    assert paths[-2:] == ["final_norm", "lm_head"]


def test_the_router_alone_is_what_routing_launches() -> None:
    for batch in (1, 4):
        kernels, operators = fused(OLMOE, Workload(batch=batch))
        assert kernels.routing_launches(operators) == 16
    kernels, operators = fused(OLMOE, Workload(batch=64))
    assert kernels.routing_launches(operators) == 16  # the choice; the product begins at the norm


def test_a_step_of_latent_attention_by_hand() -> None:
    """Layer 0 of DeepSeek-V2-Lite is dense, the other 26 have experts and shared experts."""
    for batch, dense, moe, ends in ((1, 7, 10, 2), (4, 9, 12, 3), (64, 9, 12, 3)):
        kernels, operators = fused(V2_LITE, Workload(batch=batch))
        assert kernels.step_launches(operators) == dense + 26 * moe + ends + FILL


def test_a_dense_layer_in_a_model_of_experts_keeps_its_norm_apart() -> None:
    """At 100 tokens the norm before a router is part of the router's kernels, and no other is."""
    base = PRESETS[OLMOE]
    first = replace(base, overrides=(Override(ffn=DENSE, layers="0"),))
    kernels, operators = fused(first, Workload(batch=100))
    paths = {path for region in kernels.regions(operators) for path in expanded_paths(region.path)}
    assert "layers.0.ffn_norm" in paths
    assert "layers.1.{ffn_norm,moe.router}" in paths
    assert kernels.step_launches(operators) == 15 * 9 + 8 + 3 + FILL


@pytest.mark.parametrize(
    "model",
    [OLMOE, LLAMA, GPT_OSS, V2_LITE, V3, "ultramemv2-227m-1.2b", "memory-plus-1.3b"],
)
@pytest.mark.parametrize("count", [np.int64, object])
def test_launches_over_a_grid_are_those_of_its_points(model: str, count: type) -> None:
    batches = (1, 2, 16, 17, 64, 65, 1000)
    workload = Workload()
    step = workload.step(batch=np.array(batches, dtype=count).reshape(-1, 1))
    operators = build_operators(PRESETS[model], step)
    grid = kernels_of("fused", operators, step)
    for method in ("step_launches", "routing_launches"):
        over_grid = np.broadcast_to(getattr(grid, method)(operators), (len(batches), 1))
        for row, batch in zip(over_grid[:, 0].tolist(), batches, strict=True):
            kernels, of_one = fused(model, Workload(batch=batch))
            assert row == getattr(kernels, method)(of_one), (method, batch)


HEADS = Attention(num_attention_heads=4, num_key_value_heads=2, head_dim=16)
LATENTS = LatentAttention(
    num_attention_heads=4,
    kv_lora_rank=64,
    qk_nope_head_dim=24,
    qk_rope_head_dim=16,
    v_head_dim=20,
)
DENSE = DenseFfn(intermediate_size=128)
SMALL = ModelConfig(
    name="small",
    source="made up",
    hidden_size=64,
    num_hidden_layers=2,
    vocab_size=100,
    attention=HEADS,
    ffn=DENSE,
)
EXPERTS = MoeFfn(num_experts=32, num_experts_per_tok=2, moe_intermediate_size=64)


def of(**fields: Any) -> ModelConfig:  # noqa: ANN401 - any field of a model
    return replace(SMALL, **fields)


def refusal(model: ModelConfig | str = SMALL, **fields: Any) -> str | None:  # noqa: ANN401
    kernels, _ = fused(model, Workload(**fields))
    return kernels.refusal


def test_what_has_no_kernels_is_named() -> None:
    for model, reason in (
        (
            "peer-12l-1m",
            "has no kernels for an ungated feed-forward layer with activation=gelu",
        ),
        (
            replace(SMALL, post_norms=True),
            "has no kernels for norms behind a layer (post_norms)",
        ),
        (replace(SMALL, hidden_size=96), "needs a hidden_size that is a multiple of 64, not 96"),
        (
            of(attention=replace(HEADS, head_dim=48)),
            "needs a head_dim that is a power of two from 16, not 48",
        ),
        (of(attention=replace(HEADS, rotary_dim=5)), "needs an even rotary_dim, not 5"),
        (
            of(attention=replace(LATENTS, kv_lora_rank=96)),
            "needs kv_lora_rank to be a power of two from 16 to 512, not 96",
        ),
        (
            of(attention=replace(LATENTS, kv_lora_rank=1024)),
            "needs kv_lora_rank to be a power of two from 16 to 512, not 1024",
        ),
        (
            of(attention=replace(LATENTS, qk_rope_head_dim=8)),
            "needs qk_rope_head_dim to be a power of two from 16 to 64, not 8",
        ),
        (
            of(ffn=replace(DENSE, activation="relu")),
            "has no kernels for a gated feed-forward layer with activation=relu",
        ),
        (
            of(ffn=replace(EXPERTS, moe_latent_size=64)),
            "has no kernels for experts in a latent space",
        ),
        (
            of(ffn=replace(EXPERTS, scoring="sqrtsoftplus")),
            "has no kernels for experts that token ids choose, or scores of sqrtsoftplus",
        ),
        (
            of(ffn=replace(EXPERTS, zero_expert_num=8)),
            "has no kernels for zero-computation experts, or a correction that is a buffer",
        ),
        (
            replace(
                SMALL,
                overrides=(
                    Override(layers="0", ffn=NoFfn()),
                    Override(layers="1", attention=NoMixer()),
                ),
            ),
            "has no kernels for layers that are a mixer or an FFN alone",
        ),
        (
            of(ffn=replace(DENSE, intermediate_size=100)),
            "needs intermediate_size to be a multiple of 8, not 100",
        ),
        (
            of(ffn=replace(EXPERTS, moe_intermediate_size=92)),
            "needs moe_intermediate_size to be a multiple of 8, not 92",
        ),
        (replace(SMALL, norm="layer"), "has no kernels for LayerNorm"),
        (replace(SMALL, logit_softcap=True), "has no kernels for a softcap of the logits"),
        (
            replace(SMALL, block="parallel"),
            "has no kernels for blocks without a norm before the FFN",
        ),
        (
            replace(SMALL, block="norms_behind"),
            "has no kernels for norms behind a layer (post_norms)",
        ),
        (
            of(attention=replace(HEADS, softcap=True)),
            "has no kernels for a softcap of attention scores",
        ),
        (
            of(attention=replace(HEADS, output_gate=True)),
            "has no kernels for a gate of attention's output",
        ),
        (
            of(ffn=replace(EXPERTS, shared_intermediate_size=64, shared_expert_gate=True)),
            "has no kernels for a gate of the shared experts",
        ),
        (
            of(ffn=replace(EXPERTS, shared_intermediate_size=64, expert_bias=True)),
            "has no kernels for shared experts with biases",
        ),
    ):
        assert refusal(model) == f"the backend fused {reason}"
    latents = of(attention=LATENTS)
    assert refusal(latents) is None
    assert refusal(mla="expanded") is None  # no layer has a mode
    assert refusal(latents, mla="expanded") == (
        "the backend fused runs absorbed latent attention, not mla=expanded"
    )
    for dtype in ("fp8", "experts=mxfp4"):
        of_weights = refusal(formats=parse_formats(dtype, field="dtype"))
        assert of_weights == f"the backend fused runs bf16, not dtype={dtype} with kv_dtype=bf16"
    leaf = LeafFormat(leaf="lm_head", layers=None, dtype=DTYPES["fp8"])
    of_a_leaf = refusal(formats=Formats(default=BF16, leaves=(leaf,)))
    assert of_a_leaf == (
        "the backend fused runs bf16, not dtype=bf16 and single leaves with kv_dtype=bf16"
    )
    of_cache = refusal(kv_dtype=DTYPES["fp8"])
    assert of_cache == "the backend fused runs bf16, not dtype=bf16 with kv_dtype=fp8"


def memory(**fields: Any) -> ModelConfig:  # noqa: ANN401 - any field of UltraMem
    given: dict[str, Any] = {"knum": 16, "knn": 4, "key_dim": 8, "value_dim": 8}
    return of(memory=(UltraMem(**(given | fields)),))


PRODUCT_KEY = ProductKey(
    layers="0", num_keys=200, num_heads=2, knn=4, key_dim=8, value_dim=64, replaces_ffn=False
)
PEER = Peer(layers="0", num_keys=16, num_heads=2, knn=4, key_dim=8)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (memory(key_dim=12), "needs key_dim to be a multiple of 8, not 12"),
        (
            memory(knum=2**14, share_ratio=1.0, value_expansion=2),
            "has kernels for at most 32768 keys a side, not 46340",  # 2 isqrt(2 2^28)
        ),
        (
            memory(knum=200, knn=129),
            "has kernels for at most 128 lines and columns of a grid, not 129",
        ),
        (
            memory(knum=200, knn=1025, first_stage_topk=128),
            "has kernels for at most 1024 rows read a head (knn), not 1025",
        ),
        (memory(value_dim=4098), "has kernels for at most 4096 elements in a row, not 4098"),
        (
            memory(pre_value_dim=8192, value_dim=64),
            "has kernels for at most 4096 elements in a row, not 8192",
        ),
        (
            memory(tucker_rank=6, tucker_cores=2),
            "needs tucker_rank^2 tucker_cores of at most 64, not 72",
        ),
        (
            memory(value_expansion=6, value_dim=512),
            "needs at most 16384 elements in all groups of values, not 18432",
        ),
        (
            of(memory=(replace(PRODUCT_KEY, knn=130),)),
            "has kernels for at most 128 lines and columns of a grid, not 130",
        ),
        (
            of(memory=(replace(PEER, layers="0:1", replaces_ffn=False),)),
            "has no kernels for PEER layers whose output skips blocks (layers=0:1)",
        ),
    ],
)
def test_memory_layers_beyond_their_kernels_are_refused(model: ModelConfig, reason: str) -> None:
    assert refusal(model) == f"the backend fused {reason}"


@pytest.mark.parametrize(
    "model",
    [
        "ultramemv2-1b-7b",
        "ultramemv2-227m-1.2b",
        "ultramemv2-2.5b-120b",
        "ultramemv2-2.5b-60b",
        "ultramem-227m-1.2b",
        "memory-plus-1.3b",
        "memory-plus-227m-1.2b",
        of(memory=(PEER,)),
    ],
)
def test_models_with_memory_layers_have_kernels(model: ModelConfig | str) -> None:
    assert refusal(model) is None


def of_memory(model: str, batch: int, layer: int) -> dict[str, Any]:
    """Launches of the second half of one layer."""
    launches = of_layer(model, batch, layer)
    return {path: count for path, count in launches.items() if "attention" not in path}


def test_a_memory_layer_takes_six_launches_and_five_where_one_head_reads_few_rows() -> None:
    """With the FFN's two, and its norm, which is apart beyond one token."""
    ffn_one = {"{ffn_norm,ffn.gate_up}": 1, "ffn.down": 1}
    ffn = {"ffn_norm": 1, "ffn.gate_up": 1, "ffn.down": 1}
    many = {
        "memory.{query,pre_projection}": 1,
        "memory.retrieve": 3,
        "memory.{pre_values,values}": 1,
        "memory.output": 1,
    }
    assert of_memory("ultramemv2-1b-7b", 1, 3) == ffn_one | many
    assert of_memory("ultramemv2-1b-7b", 64, 3) == ffn | many
    assert sum(of_layer("ultramemv2-1b-7b", 256).values()) == 14
    few_rows = {
        "memory.{query,pre_projection}": 1,
        "memory.{retrieve,pre_values,values}": 3,
        "memory.output": 1,
    }
    assert of_memory("ultramemv2-227m-1.2b", 1, 3) == ffn_one | few_rows
    assert of_memory("ultramemv2-227m-1.2b", 256, 3) == ffn | few_rows
    gated = {
        "memory.{query,gate}": 1,
        "memory.retrieve": 3,
        "memory.values": 1,
        "memory.output": 1,
    }
    assert of_memory("memory-plus-227m-1.2b", 1, 4) == ffn_one | gated
    assert of_memory("memory-plus-227m-1.2b", 4, 4) == ffn | gated


def test_a_memory_layer_in_place_of_an_ffn_takes_the_norm_along() -> None:
    at_one = of_memory("memory-plus-1.3b", 1, 3)
    assert at_one == {
        "{ffn_norm,memory.query,memory.gate}": 1,
        "memory.retrieve": 3,
        "memory.values": 1,
        "memory.output": 1,
    }
    assert of_memory("memory-plus-1.3b", 2, 3)["ffn_norm"] == 1


def test_a_recording_has_a_column_for_each_region_that_may_run_and_no_other() -> None:
    config = PRESETS["ultramemv2-1b-7b"]
    paths = region_paths(build_operators(config, Workload().step()), BACKENDS["fused"])
    assert {path.removeprefix("layers.5.") for path in paths if path.startswith("layers.5.")} == {
        "{attention_norm,attention.qkv}",
        "{ffn_norm,ffn.gate_up}",
        "memory.{query,pre_projection}",
        "memory.{pre_values,values}",
    }


def test_neurons_of_one_token_have_their_norm_apart() -> None:
    """Two layers of 6 or 8 launches, of which one has PEER in place of an FFN's 2; both ends."""
    peer = of(memory=(PEER,))
    for batch, attention, ffn, ends in ((1, 4, 2, 2), (4, 5, 3, 3)):
        kernels, operators = fused(peer, Workload(batch=batch))
        chosen = 3
        neurons = 2 + chosen + 1  # norm and query, the choice, the rows of both tables
        assert kernels.step_launches(operators) == 2 * attention + ffn + neurons + ends


def test_prompts_that_have_no_kernels_are_named() -> None:
    prompt: dict[str, Any] = {"phase": "prefill", "context": 0, "new_tokens": 9}
    assert refusal(**prompt) is None
    assert refusal(OLMOE, **prompt) is None
    head = "the backend fused has no kernels for "
    assert refusal(**(prompt | {"context": 1})) == (
        head + "prefill after a context: it takes whole prompts, context=0"
    )
    assert refusal(**prompt, logits="all") == (
        head + "the logits of all tokens of a prompt: it gives the last one's"
    )
    assert refusal(of(attention=LATENTS), **prompt) == head + "prefill by latent attention"
    window = of(attention=replace(HEADS, sliding_window=7))
    assert refusal(window, **prompt) == head + "prefill with sliding_window=7"
    sinks = of(attention=replace(HEADS, sinks=True))
    assert refusal(sinks, **prompt) == head + "prefill with attention sinks"


def test_many_tokens_take_a_launch_more_for_activations_and_for_the_order_of_experts() -> None:
    """By hand: 513 tokens of a decode step or of prompts, against 512."""
    apart = {"ffn_norm": 1, "moe.router": 2, "moe.experts": 3}
    assert of_layer(OLMOE, 513) == ATTENTION | apart
    assert of_layer(OLMOE, 512) == ATTENTION | {"{ffn_norm,moe.router}": 2, "moe.experts": 2}
    assert of_layer(LLAMA, 513) == ATTENTION | {"ffn_norm": 1, "ffn.gate_up": 2, "ffn.down": 1}
    few_experts = ATTENTION | {"ffn_norm": 1, "moe.router": 1, "moe.experts": 3}
    assert of_layer("mixtral-8x7b", 513) == few_experts  # 8 experts: a router of one launch
    for model, layer, ends in ((OLMOE, 11, 3 + FILL), (LLAMA, 9, 3)):
        workload = Workload(phase="prefill", batch=3, context=0, new_tokens=171)
        kernels, operators = fused(model, workload)
        layers = PRESETS[model].num_hidden_layers
        assert kernels.step_launches(operators) == layers * layer + ends


def test_biases_sinks_and_shared_experts_have_kernels() -> None:
    assert refusal(of(ffn=replace(DENSE, bias=True))) is None
    assert refusal(of(ffn=replace(EXPERTS, expert_bias=True, router_bias=True))) is None
    assert refusal(of(ffn=replace(EXPERTS, shared_intermediate_size=64))) is None
    odd = replace(HEADS, attention_bias=True, sinks=True, sliding_window=9)
    assert refusal(of(attention=odd)) is None


def test_shared_experts_take_two_launches_more() -> None:
    shared = of(ffn=replace(EXPERTS, shared_intermediate_size=64))
    for batch, layer, ends in ((1, 9, 2), (4, 11, 3)):
        kernels, operators = fused(shared, Workload(batch=batch))
        assert kernels.step_launches(operators) == 2 * layer + ends + FILL


@pytest.mark.parametrize(
    "model",
    [OLMOE, LLAMA, GPT_OSS, "olmoe-227m-1.2b", "qwen3-30b-a3b", "mixtral-8x7b", V2_LITE, V3],
)
def test_moe_and_dense_models_have_kernels(model: str) -> None:
    assert refusal(model) is None


def test_a_router_of_few_tokens_is_what_the_kernels_take_for_one() -> None:
    router = pytest.importorskip("reference_model.kernels.router")
    tiles = pytest.importorskip("reference_model.kernels.tiles")
    for experts in (8, 32, 33, 40, 64, 128):
        for tokens in (1, 16, 17, 64, 65, 256):
            assert few(tokens, experts) == router.few(tokens, experts)
    for tokens in (1, 512, 513, 8192):
        assert many(tokens) == tiles.many(tokens)
