"""Methods with one format: which leaves have it, its bits, scales and zero points."""

from pathlib import Path
from typing import Any

import pytest

from costmodel.errors import InputError
from costmodel.layers.dtype import DTYPES, Dtype
from tests.inputs.hf.quantization.files import (
    DENSE,
    EXPERTS,
    LATENT,
    format_of,
    formats_of,
    quantised,
    storage,
)

FP8 = {"quant_method": "fp8"}


def one_format(folder: Path, table: dict[str, Any], config: dict[str, Any]) -> Dtype:
    stated = storage(folder, table, quantization_config=config)
    (dtype,) = formats_of(stated)
    return dtype


def test_fp8_in_blocks_leaves_router_embedding_and_head_alone(tmp_path: Path) -> None:
    config = {**FP8, "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [64, 128]}
    stated = storage(tmp_path, LATENT, quantization_config=config)
    assert quantised(stated) == {"attention", "ffn", "shared_experts", "experts"}
    dtype = format_of(stated, "moe.experts", 3)
    assert (dtype.name, dtype.bits, dtype.scale_bits) == ("fp8", 8, 32)
    assert (dtype.block_rows, dtype.group) == (64, 128)
    assert stated.weights.default == DTYPES["bf16"]
    assert stated.by_default
    assert stated.origin.startswith("quantization_config: fp8 in blocks of 64 x 128; router")


@pytest.mark.parametrize(
    ("config", "scale_bits", "tensor_bits"),
    [
        (FP8, 0, 32),
        ({**FP8, "activation_scheme": "static"}, 0, 64),
        ({"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0}, 32, 0),
    ],
)
def test_fp8_scales_of_matrices_and_channels(
    tmp_path: Path, config: dict[str, Any], scale_bits: int, tensor_bits: int
) -> None:
    dtype = one_format(tmp_path, DENSE, config)
    assert dtype == Dtype(name="fp8", bits=8, scale_bits=scale_bits, tensor_bits=tensor_bits)


def test_mxfp4_is_of_experts_whatever_the_list_says(tmp_path: Path) -> None:
    stated = storage(tmp_path, EXPERTS, quantization_config={"quant_method": "mxfp4"})
    assert quantised(stated) == {"experts"}
    dtype = format_of(stated, "moe.experts")
    assert dtype.bits + dtype.scale_bits / dtype.group == 4.25
    with pytest.raises(InputError, match="mxfp4 experts: this model has no experts"):
        storage(tmp_path, DENSE, quantization_config={"quant_method": "mxfp4"})


def test_awq_has_a_scale_and_a_zero_point_a_group(tmp_path: Path) -> None:
    config = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
    stated = storage(tmp_path, DENSE, quantization_config={**config, "version": "gemm"})
    assert quantised(stated) == {"attention", "ffn"}
    dtype = format_of(stated, "ffn.down")
    assert dtype.bits + (dtype.scale_bits + dtype.zero_bits) / dtype.group == 4.15625
    assert one_format(tmp_path, DENSE, {**config, "group_size": -1}).group == 0


def test_gptq_has_an_index_for_each_input(tmp_path: Path) -> None:
    config = {"quant_method": "gptq", "bits": 8, "group_size": 32, "sym": True, "desc_act": False}
    assert one_format(tmp_path, DENSE, config) == Dtype(
        name="int8", bits=8, group=32, scale_bits=16, zero_bits=8, column_bits=32
    )
    bare = one_format(tmp_path, DENSE, {**config, "checkpoint_format": "marlin"})
    assert (bare.zero_bits, bare.column_bits) == (0, 0)
    with_head = storage(tmp_path, DENSE, quantization_config={**config, "lm_head": True})
    assert quantised(with_head) == {"attention", "ffn", "lm_head"}
    tied = storage(
        tmp_path,
        {**DENSE, "tie_word_embeddings": True},
        quantization_config={**config, "lm_head": True},
    )
    assert quantised(tied) == {"attention", "ffn"}


def test_gptq_modules_of_their_own(tmp_path: Path) -> None:
    dynamic = {"-:.*attn.*": {}, r"+:.*\.[01]\..*down.*": {"bits": 8, "group_size": 64}}
    config = {"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": dynamic}
    stated = storage(tmp_path, DENSE, quantization_config=config)
    assert format_of(stated, "attention.qkv", 1).bits == 16
    assert [format_of(stated, "ffn.down", i).bits for i in (0, 1, 2, 10, 11)] == [8, 8, 4, 4, 4]
    only = [["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], ["self_attn.o_proj"]]
    config = {"quant_method": "gptq", "bits": 4, "modules_in_block_to_quantize": only}
    assert quantised(storage(tmp_path, DENSE, quantization_config=config)) == {"attention"}


@pytest.mark.parametrize(
    ("keys", "dtype"),
    [
        ({"load_in_8bit": True}, Dtype(name="int8", bits=8, scale_bits=32)),
        (
            {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
            Dtype(name="nf4", bits=4, group=64, scale_bits=32),
        ),
        (
            {
                "load_in_4bit": True,
                "load_in_8bit": False,
                "bnb_4bit_quant_type": "nf4",
                "bnb_4bit_use_double_quant": True,
            },
            Dtype(name="nf4", bits=4, group=64, scale_bits=8),
        ),
    ],
)
def test_bitsandbytes(tmp_path: Path, keys: dict[str, Any], dtype: Dtype) -> None:
    config = {"quant_method": "bitsandbytes", "llm_int8_skip_modules": ["lm_head"], **keys}
    stated = storage(tmp_path, DENSE, quantization_config=config)
    assert format_of(stated, "ffn.down") == dtype
    assert bool(stated.notes) == (dtype.scale_bits == 8)


def test_mlx_quantises_both_ends_and_names_modules(tmp_path: Path) -> None:
    common = {"group_size": 64, "bits": 4}
    own = {
        **common,
        "model.layers.3.mlp.gate": {"group_size": 64, "bits": 8},
        "model.layers.3.mlp.switch_mlp.down_proj": False,
        "lm_head": False,
    }
    stated = storage(tmp_path, EXPERTS, quantization=own, quantization_config=own)
    assert format_of(stated, "embed") == Dtype(
        name="int4", bits=4, group=64, scale_bits=16, zero_bits=16
    )
    assert format_of(stated, "lm_head").bits == 16
    assert [format_of(stated, "moe.router", i).bits for i in (2, 3, 4)] == [4, 8, 4]
    assert [format_of(stated, "moe.experts", i).bits for i in (2, 3, 4)] == [4, 16, 4]
    assert any("moe.experts of layers 3 holds modules in" in note for note in stated.notes)
    stated = storage(tmp_path, EXPERTS, quantization={"group_size": 32, "bits": 4, "mode": "mxfp4"})
    assert format_of(stated, "embed").scale_bits == 8


def test_what_is_not_quantised_is_in_the_format_of_the_file(tmp_path: Path) -> None:
    for stated, name in (("float16", "fp16"), ("torch.float32", "fp32"), ("bfloat16", "bf16")):
        assert (
            storage(tmp_path, DENSE, quantization_config=FP8, torch_dtype=stated).weights.default
            == DTYPES[name]
        )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"quantization_config": {"quant_method": "hqq"}}, "quant_method='hqq': is not one of awq"),
        ({"quantization_config": {}}, "quantization_config.quant_method=None: is not one of awq"),
        ({"quantization_config": {**FP8, "weight_block_size": [128]}}, "weight_block_size="),
        ({"quantization_config": {**FP8, "weight_block_size": [0, 1]}}, "weight_block_size.0=0"),
        ({"quantization_config": {**FP8, "modules_to_not_convert": "a"}}, "not_convert='a'"),
        ({"quantization_config": {**FP8, "modules_to_not_convert": ["re:(a"]}}, "'[(]a': as a"),
        ({"quantization_config": {**FP8, "expert_dtype": "int2"}}, "expert_dtype='int2': is not"),
        ({"quantization_config": {"quant_method": "awq", "bits": 16}}, "bits=16"),
        (
            {"quantization_config": {"quant_method": "gptq", "checkpoint_format": "x"}},
            "checkpoint_format='x': is not gptq",
        ),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "exactly one of them is true"),
        ({"quantization": {"bits": 4}}, "quantization.group_size: is missing"),
        ({"quantization": {"bits": 4, "group_size": 32, "mode": "x"}}, "mode='x': is not affine"),
        ({"quantization": {"bits": 4, "group_size": 32, "x": 1}}, "'quantization.x'=1: is not un"),
        (
            {"quantization": {"bits": 4, "group_size": 64}, "quantization_config": FP8},
            "quantization: MLX.*: differs from quantization_config: fp8",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        storage(tmp_path, DENSE, **keys)
