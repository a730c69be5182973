"""Stored formats: bytes of checkpoints as published, layers that differ, peaks of mixed formats."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from costmodel.costs.footprint import footprint, stored_bytes
from costmodel.costs.operators import build_operators
from costmodel.costs.predict import Prediction, predict, step_costs
from costmodel.costs.totals import stored_weights
from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.parse import parse_workload
from costmodel.inputs.workload import OfCheckpoint, Workload
from costmodel.layers.dtype import DTYPES, parse_dtype
from costmodel.layers.formats import Formats, LeafFormat, Storage, parse_formats
from costmodel.layers.operator import Operator, Step
from costmodel.routing.popularity import Uniform
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


# Peaks


def floor_by_hand(prediction: Prediction, peaks: dict[str, float]) -> float:
    """The compute term: FLOPs of each operator at the peak named for its kind or leaf."""
    seconds = 0.0
    for operator in prediction.costs.operators:
        name = "attention" if operator.kind == "attention" else operator.leaf
        peak = peaks.get(name, peaks[""])
        seconds += operator.count * float(operator.total("flops")) / peak
    return seconds


def prefill(
    model: ModelConfig,
    gpu: str = "h200",
    **fields: Any,  # noqa: ANN401 - of a workload
) -> Prediction:
    work = Workload(phase="prefill", batch=4, context=0, new_tokens=4096, **fields)
    return predict(model, work, load_hardware(gpu))


BF16_PEAK, FP8_PEAK = 989.4e12, 1978.9e12  # of an H200


@pytest.mark.parametrize(
    ("dtype", "kv", "peaks"),
    [
        ("bf16", "fp8", {"": BF16_PEAK, "attention": FP8_PEAK}),  # products with an fp8 cache
        ("fp8", "bf16", {"": FP8_PEAK, "attention": BF16_PEAK}),
        ("fp8", "fp8:tensor", {"": FP8_PEAK}),
        ("experts=mxfp4", "bf16", {"": BF16_PEAK}),  # no fp4 units: widened to bf16
        ("experts=fp8", "bf16", {"": BF16_PEAK, "moe.experts": FP8_PEAK}),
        ("fp8,experts=mxfp4", "fp8", {"": FP8_PEAK, "moe.experts": BF16_PEAK}),
    ],
)
def test_each_operator_is_priced_at_the_peak_of_its_format(
    dtype: str, kv: str, peaks: dict[str, float]
) -> None:
    found = prefill(
        PRESETS["gpt-oss-20b"],
        formats=parse_formats(dtype, field="dtype"),
        kv_dtype=parse_dtype(kv, field="kv_dtype"),
    )
    assert found.bound_by == "compute"
    assert found.floor_s == pytest.approx(floor_by_hand(found, peaks), rel=1e-12)
    for operator in found.costs.operators:
        peak = peaks.get(operator.leaf if operator.kind != "attention" else "attention", peaks[""])
        moved = float(operator.compulsory_bytes) / 4.8e12
        by_hand = max(moved, float(operator.total("flops")) / peak)
        assert found.operator_floor_s(operator) == pytest.approx(by_hand, rel=1e-12)


def test_a_b200_multiplies_mxfp4_in_its_fp4_units() -> None:
    found = prefill(
        PRESETS["gpt-oss-20b"], "b200", formats=parse_formats("experts=mxfp4", field="dtype")
    )
    by_hand = floor_by_hand(found, {"": 2250e12, "moe.experts": 9000e12})
    assert found.floor_s == pytest.approx(by_hand, rel=1e-12)


def test_fp32_may_be_multiplied_as_tf32() -> None:
    fp32 = {"formats": Formats(default=DTYPES["fp32"]), "kv_dtype": DTYPES["fp32"]}
    model = PRESETS["llama-3.1-8b"]
    full, rounded = prefill(model, **fp32), prefill(model, **fp32, fp32_math="tf32")
    assert rounded.ceilings.peak_name == "tf32"
    assert full.floor_s / rounded.floor_s == pytest.approx(494.7 / 66.9, rel=1e-12)
    with pytest.raises(InputError, match=r"dense_peak_flops_per_s\.tf32"):
        prefill(model, "mi300x", **fp32, fp32_math="tf32")


# Whose formats


STORAGE = Storage(
    weights=parse_formats("experts=mxfp4", field="dtype"),
    kv_dtype=parse_dtype("fp8:tensor", field="kv_dtype"),
    origin="a file",
)


@pytest.mark.parametrize(
    ("dtype", "kv", "source", "weights", "cache"),
    [
        (None, None, "file", "experts=mxfp4", "fp8:tensor"),
        (None, "int8", "file", "experts=mxfp4", "int8"),
        (None, None, "preset", "bf16", "bf16"),
        (None, "int8", "preset", "bf16", "int8"),
        ("checkpoint", None, "preset", "experts=mxfp4", "fp8:tensor"),
        ("checkpoint", "bf16", "preset", "experts=mxfp4", "bf16"),
        ("bf16", None, "file", "bf16", "bf16"),
        ("experts=fp8", None, "file", "experts=fp8", "bf16"),
    ],
)
def test_a_file_states_its_default_and_a_user_has_the_last_word(
    dtype: str | None,
    kv: str | None,
    source: str,
    weights: str,
    cache: str,
) -> None:
    model = replace(tiny_model(), storage=replace(STORAGE, by_default=source == "file"))
    asked = parse_workload(
        phase="decode", batch=1, context=0, dtype=dtype, kv_dtype=kv, routing=Uniform()
    )
    resolved = predict(model, asked, H200).workload
    assert resolved.formats.label == weights
    assert resolved.kv_dtype.label == cache
    from_file = dtype == "checkpoint" or (dtype is None and source == "file")
    assert (resolved.dtype_label == "checkpoint") == from_file
    assert resolved.of_model(tiny_model()) == resolved


def test_a_model_without_a_checkpoint_refuses_its_formats() -> None:
    with pytest.raises(InputError, match="dtype='checkpoint': needs a model that states"):
        predict(tiny_model(), Workload(of_checkpoint=CHECKPOINT), H200)


def test_the_largest_batch_is_found_with_the_stored_bytes() -> None:
    model = PRESETS["gpt-oss-20b"]
    found = predict(model, Workload(of_checkpoint=CHECKPOINT), load_hardware("rtx-4090"))
    step = found.workload.step(batch=found.memory.max_batch)
    costs = step_costs(model, step)
    at = footprint(costs.operators, step, costs.kv_cache, 2880, 25_250_627_584)
    assert at.fits
    assert found.memory.max_batch > 1
