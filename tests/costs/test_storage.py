"""Stored formats: bytes of checkpoints as published, matrix by matrix; layers that differ."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from costmodel.costs.footprint import stored_bytes
from costmodel.costs.operators import build_operators
from costmodel.costs.predict import Prediction, predict
from costmodel.costs.step import step_costs
from costmodel.costs.totals import stored_weights
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import OfCheckpoint, Workload
from costmodel.layers.dtype import DTYPES
from costmodel.layers.formats import Formats, LeafFormat, parse_formats
from costmodel.layers.operator import Operator, Step
from tests.steps import changed, make_step, tiny_model
from tests.strategies import PRESETS, models, steps

FP8_BLOCKS = "fp8:128x128,embedding=bf16,lm_head=bf16,router=bf16"
CHECKPOINT = OfCheckpoint(required=True, kv_dtype=None)
H200 = load_hardware("h200")


def predicted(
    name: str,
    gpu: str = "h200",
    **fields: Any,  # noqa: ANN401 - of a workload
) -> Prediction:
    return predict(PRESETS[name], Workload(**fields), load_hardware(gpu))


@pytest.mark.parametrize(
    ("name", "experts", "others"),  # parameters of experts without biases, and of all else
    [
        ("gpt-oss-20b", 24 * 32 * 3 * 2880**2, 1_804_459_584),
        ("gpt-oss-120b", 36 * 128 * 3 * 2880**2, 2_167_371_072),
    ],
)
def test_gpt_oss_stores_experts_in_four_bits_and_a_quarter(
    name: str, experts: int, others: int
) -> None:
    memory = predicted(name, of_checkpoint=CHECKPOINT).memory
    assert memory.weights_bytes == experts * 17 // 32 + others * 2


def test_the_official_checkpoints_have_the_published_bytes() -> None:
    for name, gpu, stored in (
        ("gpt-oss-20b", "rtx-4090", 13_761_264_768),
        ("gpt-oss-120b", "h100-sxm", 65_248_815_744),
    ):
        shipped = predicted(name, gpu, of_checkpoint=CHECKPOINT)
        assert shipped.memory.weights_bytes == stored
        assert shipped.memory.fits
        assert not predicted(name, gpu).memory.fits  # in bf16


def test_a_token_of_gpt_oss_20b_reads_4_of_32_experts_of_a_layer() -> None:
    prediction = predicted("gpt-oss-20b", of_checkpoint=CHECKPOINT)
    assert prediction.costs.totals.weight_bytes == 3_708_089_088


def test_deepseek_v3_has_fp32_scales_of_blocks() -> None:
    model = PRESETS["deepseek-v3"]
    found = predict(model, Workload(of_checkpoint=CHECKPOINT), H200)
    counts = found.costs.parameters
    step = found.workload.step()
    quantised = scales = 0
    for operator in found.costs.operators:
        for weight in operator.weights:
            if weight.matrix and weight.group not in ("embedding", "lm_head", "router"):
                quantised += operator.count * weight.parameters
    for rows, cols, copies in (
        *((2048, 7168, 58 * 257 * 2), (7168, 2048, 58 * 257)),  # experts and the shared one
        *((18432, 7168, 3 * 2), (7168, 18432, 3)),  # dense blocks
        *((1536, 7168, 61), (512 + 64, 7168, 61), (128 * 192, 1536, 61)),
        *((128 * 256, 512, 61), (7168, 128 * 128, 61)),
    ):
        scales += copies * -(-rows // 128) * -(-cols // 128)
    rest = counts.total - quantised
    assert found.memory.weights_bytes == quantised + 4 * scales + 2 * rest
    # The release keeps the correction biases of 58 layers in fp32.
    assert found.memory.weights_bytes == 673_150_611_808 - 58 * 256 * 2
    assert stored_bytes(found.costs.operators, step)[0] == found.memory.weights_bytes


def small_deepseek(tmp_path: Path) -> ModelConfig:
    """A DeepSeek-V3 of sizes that are no multiples of 128."""
    path = tmp_path / "config.json"
    path.write_text(
        json.dumps(
            {
                "model_type": "deepseek_v3", "hidden_size": 512, "intermediate_size": 1024,
                "moe_intermediate_size": 128, "num_hidden_layers": 5, "num_attention_heads": 8,
                "num_key_value_heads": 8, "n_routed_experts": 24, "n_shared_experts": 1,
                "num_experts_per_tok": 4, "n_group": 1, "topk_group": 1,
                "first_k_dense_replace": 1, "q_lora_rank": 96, "kv_lora_rank": 64,
                "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 32,
                "vocab_size": 8000, "tie_word_embeddings": False,
            }
        )
    )  # fmt: skip
    return replace(load_model(str(path)), storage=None)


def test_blocks_are_counted_matrix_by_matrix(tmp_path: Path) -> None:
    model = small_deepseek(tmp_path)
    formats = parse_formats(FP8_BLOCKS, field="dtype")
    memory = predict(model, Workload(formats=formats), H200).memory
    assert memory.weights_bytes == 22_687_744 + 4 * 1_411 + 2 * 8_247_680 == 39_188_748


def test_queries_keys_and_values_are_three_matrices() -> None:
    model = tiny_model()  # 4 heads of 8 over 2 KV heads: rows of 32, 16 and 16 by 32
    (qkv,) = (
        op
        for op in build_operators(model, make_step(dtype="fp8:24x24"))
        if op.leaf == "attention.qkv"
    )
    rows = [model.attention.num_attention_heads, *[model.attention.num_key_value_heads] * 2]  # type: ignore[attr-defined]
    d = model.attention.head_dim  # type: ignore[attr-defined]
    blocks = sum(-(-heads * d // 24) * -(-model.hidden_size // 24) for heads in rows)
    assert qkv.total("weight_bytes") == sum(rows) * d * model.hidden_size + 4 * blocks


# Formats that differ by layer


def by_layer(*layers: int) -> Formats:
    return Formats(
        default=DTYPES["bf16"],
        leaves=(LeafFormat(leaf="ffn.down", layers=layers, dtype=DTYPES["fp8"]),),
    )


def sums(operators: tuple[Operator, ...], name: str) -> Any:  # noqa: ANN401 - a number
    return sum(operator.count * operator.total(name) for operator in operators)


@pytest.mark.parametrize("name", ["llama-3.1-8b", "ultramemv2-227m-1.2b"])
def test_an_operator_is_split_by_the_layers_that_differ(name: str) -> None:
    model = replace(PRESETS[name], num_hidden_layers=PRESETS[name].num_hidden_layers)
    step = make_step(batch=3, cached=7)
    whole = build_operators(model, step)
    (down,) = (op for op in whole if op.leaf == "ffn.down")
    some, every = down.layers[:2], down.layers
    split = build_operators(model, changed(step, formats=by_layer(*some)))
    assert {op.layers for op in split if op.leaf == "ffn.down"} == {some, every[2:]}
    for quantity in ("flops", "activation_bytes", "row_bytes", "kv_read_bytes"):
        assert sums(split, quantity) == sums(whole, quantity)
    assert sum(w.parameters * n for w, n in stored_weights(split)) == sum(
        w.parameters * n for w, n in stored_weights(whole)
    )
    weight = down.weights[0]
    saved = len(some) * weight.rows * (2 * weight.cols - weight.cols - 4)  # an fp32 scale a row
    assert sums(whole, "weight_bytes") - sums(split, "weight_bytes") == saved
    at = changed(step, formats=by_layer(*some))
    assert stored_bytes(whole, step)[0] - stored_bytes(split, at)[0] == saved


def test_layers_that_all_differ_are_one_operator_again() -> None:
    model, step = tiny_model(), make_step(batch=2)
    layers = tuple(range(model.num_hidden_layers))
    everywhere = Formats(
        default=DTYPES["bf16"],
        leaves=(LeafFormat(leaf="ffn.down", layers=None, dtype=DTYPES["fp8"]),),
    )
    listed, all_of_them = (
        step_costs(model, changed(step, formats=formats)).totals
        for formats in (by_layer(*layers), everywhere)
    )
    assert listed == all_of_them


# Relations


@settings(max_examples=60)
@given(models(), steps(), steps())
def test_no_more_stored_bytes_never_cost_more(model: ModelConfig, one: Step, other: Step) -> None:
    other = changed(one, formats=other.formats, activation_bytes=one.activation_bytes)
    first, second = (build_operators(model, step) for step in (one, other))
    pairs = [
        (a.stored_bytes(one), b.stored_bytes(other))
        for (a, _), (b, _) in zip(stored_weights(first), stored_weights(second), strict=True)
    ]
    costs = [step_costs(model, step).totals for step in (one, other)]
    weights = [float(totals.weight_bytes) + float(totals.row_bytes) for totals in costs]
    if all(a <= b for a, b in pairs):
        assert weights[0] <= weights[1] * (1 + 1e-12)
    if all(a >= b for a, b in pairs):
        assert weights[0] * (1 + 1e-12) >= weights[1]


@settings(max_examples=60)
@given(models(), steps())
def test_a_step_touches_no_more_than_is_stored(model: ModelConfig, step: Step) -> None:
    for operator in build_operators(model, step):
        stored = sum(weight.stored_bytes(step) for weight in operator.weights)
        touched = float(operator.total("weight_bytes")) + float(operator.total("row_bytes"))
        assert touched <= stored * (1 + 1e-12), operator.path


@settings(max_examples=40)
@given(models(), steps())
def test_operators_have_matrices_of_one_format(model: ModelConfig, step: Step) -> None:
    for operator in build_operators(model, step):
        formats = {
            weight.stored_as(step).name
            for weight in operator.weights
            if weight.matrix and weight.group != "memory_values"
        }
        assert len(formats) <= 1, operator.path
