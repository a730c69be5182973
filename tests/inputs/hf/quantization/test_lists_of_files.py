"""Files whose lists mix formats: compressed-tensors, ModelOpt and its side file, KV caches."""

import json
from pathlib import Path
from typing import Any

import pytest

from costmodel.errors import InputError
from costmodel.inputs.hf.config import load_hf_config
from costmodel.layers.dtype import Dtype
from tests.inputs.hf.quantization.files import (
    DENSE,
    EXPERTS,
    LATENT,
    LLAMA_4,
    format_of,
    formats_of,
    quantised,
    storage,
)

INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True}
FP8 = {"num_bits": 8, "type": "float", "strategy": "channel", "dynamic": False}
NVFP4 = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}
MODELOPT = {"quant_method": "modelopt", "quant_algo": "NVFP4"}


def tensors(*groups: dict[str, Any], **keys: object) -> dict[str, Any]:
    return {
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
        "config_groups": {f"group_{i}": group for i, group in enumerate(groups)},
        **keys,
    }


def group(weights: dict[str, Any] | None, *targets: str, **keys: object) -> dict[str, Any]:
    return {"weights": weights, "targets": list(targets) or ["Linear"], **keys}


def test_experts_in_int4_beside_the_rest_in_bf16(tmp_path: Path) -> None:
    ignore = ["re:.*self_attn.*", "re:.*shared_experts.*", r"re:.*mlp\.(gate|up|down)_proj.*"]
    config = tensors(group(INT4), format="pack-quantized", ignore=["lm_head", *ignore])
    stated = storage(tmp_path, LATENT, quantization_config=config)
    assert quantised(stated) == {"experts"}
    assert format_of(stated, "moe.experts", 5) == Dtype(
        name="int4", bits=4, group=32, scale_bits=16
    )
    left_alone = "attention, FFN, router, shared experts, embedding, LM head in bf16"
    assert stated.origin.endswith(f"compressed-tensors, int4; {left_alone}")


def test_llama_4_calls_its_feed_forward_layers_by_another_name(tmp_path: Path) -> None:
    ignore = ["lm_head", "re:.*self_attn.*", "re:.*feed_forward.router", "re:.*shared_expert.*"]
    names = r"re:.*layers\.\d*[02468]\.feed_forward\.(gate|up|down)_proj"  # of dense blocks
    config = tensors(group(INT4), format="pack-quantized", ignore=[*ignore, names])
    stated = storage(tmp_path, LLAMA_4, quantization_config=config)
    assert quantised(stated) == {"experts"}
    assert format_of(stated, "moe.experts", 5).name == "int4"
    assert format_of(stated, "moe.shared_down", 5).name == "bf16"
    assert format_of(stated, "ffn.down", 4).name == "bf16"


def test_groups_give_modules_different_formats(tmp_path: Path) -> None:
    fp8 = group(FP8, "re:.*self_attn.*")
    fp4 = group(
        NVFP4,
        *(f"model.layers.{i}.mlp.{n}_proj" for i in range(4, 12) for n in ("gate", "up", "down")),
    )
    stated = storage(tmp_path, DENSE, quantization_config=tensors(fp8, fp4, ignore=["lm_head"]))
    assert format_of(stated, "attention.qkv", 11) == Dtype(name="fp8", bits=8, scale_bits=16)
    assert [format_of(stated, "ffn.down", i).name for i in (3, 4, 11)] == ["bf16", "nvfp4", "nvfp4"]
    assert format_of(stated, "lm_head").name == "bf16"


@pytest.mark.parametrize(
    ("weights", "dtype"),
    [
        (
            {**INT4, "symmetric": False, "actorder": "group"},
            Dtype(name="int4", bits=4, group=32, scale_bits=16, zero_bits=4, column_bits=32),
        ),
        ({**FP8, "strategy": "tensor"}, Dtype(name="fp8", bits=8, tensor_bits=16)),
        (
            {
                **FP8,
                "strategy": "block",
                "block_structure": [128, 64],
                "scale_dtype": "torch.float32",
            },
            Dtype(name="fp8", bits=8, group=64, scale_bits=32, block_rows=128),
        ),
        (NVFP4, Dtype(name="nvfp4", bits=4, group=16, scale_bits=8, tensor_bits=32)),
        (
            {**NVFP4, "strategy": "group", "group_size": 32},
            Dtype(name="mxfp4", bits=4, group=32, scale_bits=8),
        ),
    ],
)
def test_weights_of_a_group(tmp_path: Path, weights: dict[str, Any], dtype: Dtype) -> None:
    stated = storage(tmp_path, DENSE, quantization_config=tensors(group(weights)))
    assert formats_of(stated) == {dtype}
    assert quantised(stated) == {"attention", "ffn", "lm_head"}  # nothing is ignored


def test_a_fused_leaf_in_two_formats_takes_the_wider_and_says_so(tmp_path: Path) -> None:
    ignore = ["lm_head", "model.layers.2.self_attn.v_proj", "model.layers.3.self_attn.v_proj"]
    config = tensors(group(INT4), ignore=ignore)
    stated = storage(tmp_path, DENSE, quantization_config=config)
    assert [format_of(stated, "attention.qkv", i).bits for i in (1, 2, 3, 4)] == [4, 16, 16, 4]
    (note,) = stated.notes
    assert note.startswith("quantization_config: attention.qkv of layers 2-3 holds modules in 16 b")
    assert note.endswith("all are costed in the widest.")


def test_nvfp4_with_globs_as_in_a_multimodal_file(tmp_path: Path) -> None:
    ignore = [f"model.language_model.layers.{i}.self_attn*" for i in (0, 1, 11)]
    config = {
        **MODELOPT,
        "config_groups": {
            "group_0": {
                "weights": {"num_bits": 4, "type": "float", "group_size": 16, "dynamic": False},
                "input_activations": {"num_bits": 4, "type": "float", "group_size": 16},
                "targets": ["Linear"],
            }
        },
        "ignore": ["lm_head", "model.vision_tower*", *ignore],
        "kv_cache_scheme": {"dynamic": False, "num_bits": 8, "type": "float"},
    }
    stated = storage(tmp_path, DENSE, quantization_config=config)
    nvfp4 = Dtype(name="nvfp4", bits=4, group=16, scale_bits=8, tensor_bits=64)
    assert format_of(stated, "ffn.down", 0) == nvfp4
    names = [format_of(stated, "attention.output", i).name for i in (0, 1, 2, 10, 11)]
    assert names == ["bf16", "bf16", "nvfp4", "nvfp4", "bf16"]
    assert stated.kv_dtype is not None
    assert (stated.kv_dtype.bits, stated.kv_dtype.scale_bits) == (8, 0)


@pytest.mark.parametrize(
    ("algorithm", "dtype"),
    [
        ("FP8", Dtype(name="fp8", bits=8, tensor_bits=64)),
        ("FP8_PB_WO", Dtype(name="fp8", bits=8, group=128, scale_bits=32, block_rows=128)),
        ("NVFP4", Dtype(name="nvfp4", bits=4, group=16, scale_bits=8, tensor_bits=64)),
        ("W4A16_NVFP4", Dtype(name="nvfp4", bits=4, group=16, scale_bits=8, tensor_bits=32)),
        ("MXFP8", Dtype(name="mxfp8", bits=8, group=32, scale_bits=8)),
    ],
)
def test_algorithms_of_the_side_file(tmp_path: Path, algorithm: str, dtype: Dtype) -> None:
    side = {
        "producer": {"name": "modelopt", "version": "0.29.0"},
        "quantization": {
            "quant_algo": algorithm,
            "kv_cache_quant_algo": "FP8",
            "exclude_modules": ["lm_head", "model.layers.*.mlp.gate", "model.layers.0*"],
        },
    }
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(side))
    stated = storage(tmp_path, EXPERTS)
    assert format_of(stated, "moe.experts", 0).name == "bf16"
    assert format_of(stated, "moe.experts", 10) == dtype
    assert format_of(stated, "attention.qkv", 1) == dtype
    assert format_of(stated, "moe.router", 1).name == "bf16"
    assert stated.kv_dtype is not None
    assert stated.origin.startswith("hf_quant_config.json: ModelOpt, ")


def test_mixed_precision_lists_its_layers(tmp_path: Path) -> None:
    layers = {
        f"model.layers.{i}.mlp.experts": {"quant_algo": "NVFP4", "group_size": 16}
        for i in range(12)
    }
    layers |= {
        f"model.layers.{i}.self_attn.{n}_proj": {"quant_algo": "FP8"}
        for i in range(12)
        for n in "qkvo"
    }
    config = {**MODELOPT, "quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    stated = storage(tmp_path, EXPERTS, quantization_config=config)
    assert quantised(stated) == {"attention", "experts"}
    assert format_of(stated, "moe.experts").name == "nvfp4"
    assert format_of(stated, "attention.output").name == "fp8"


def test_a_cache_format_without_quantised_weights(tmp_path: Path) -> None:
    config = {"quant_method": "modelopt", "quant_algo": None, "kv_cache_quant_algo": "NVFP4"}
    stated = storage(tmp_path, DENSE, quantization_config=config)
    assert formats_of(stated) == set()
    assert stated.kv_dtype is not None
    assert stated.kv_dtype.bits == 4


def test_the_side_file_counts_beside_a_config_json_only(tmp_path: Path) -> None:
    (tmp_path / "hf_quant_config.json").write_text('{"quantization": {"quant_algo": "FP8"}}')
    other = tmp_path / "llama.json"
    other.write_text(json.dumps(DENSE))
    assert load_hf_config(other).storage is None
    same = {"quant_method": "modelopt", "quant_algo": "FP8"}
    assert quantised(storage(tmp_path, DENSE, quantization_config=same)) >= {"ffn"}
    stated = storage(tmp_path, DENSE, quantization_config={"quant_method": "awq", "bits": 4})
    assert format_of(stated, "ffn.down") == Dtype(name="fp8", bits=8, tensor_bits=64)
    assert any(
        "it differs from config.json, which says quantization_con" in n for n in stated.notes
    )


def test_a_link_to_another_folder_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text('{"quantization": {"quant_algo": "FP8"}}')
    folder, blobs = tmp_path / "model", tmp_path / "blobs"
    folder.mkdir()
    blobs.mkdir()
    (folder / "hf_quant_config.json").symlink_to(outside)
    with pytest.raises(InputError, match=r"hf_quant_config\.json': leads to another folder"):
        storage(folder, DENSE)
    (folder / "hf_quant_config.json").unlink()
    for name, blob in (("config.json", "a1"), ("hf_quant_config.json", "b2")):  # a hub's cache
        (folder / name).unlink(missing_ok=True)
        (blobs / blob).write_text(outside.read_text())
        (folder / name).symlink_to(blobs / blob)
    assert quantised(storage(folder, DENSE)) >= {"ffn"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (tensors(group({**INT4, "strategy": "x"})), "strategy='x': is not tensor, channel"),
        (tensors(group({**INT4, "group_size": None})), "group_size=None: gives no group"),
        (tensors(group({**FP8, "num_bits": 6})), "type='float': is not int, or float of 4 or 8"),
        (tensors(group({**FP8, "num_bits": 16})), "num_bits=16"),
        (tensors(group(INT4), format="marlin-24"), "format='marlin-24': is not one of"),
        (tensors(group(INT4), sparsity_config={"format": "sparse-24-bitmask"}), "is not dense"),
        (tensors(group(INT4, "re:(?!a)")), "only .* is read"),
        (tensors(group(INT4), packing="x"), "'quantization_config.packing'='x': is not underst"),
        (tensors(group(INT4), kv_cache_scheme={"num_bits": 6, "type": "float"}), "num_bits=6"),
        ({**MODELOPT, "quant_algo": "FP2"}, "quant_algo='FP2': is not one of FP8"),
        ({**MODELOPT, "quant_algo": "MIXED_PRECISION"}, "needs a list of layers"),
        ({**MODELOPT, "kv_cache_quant_algo": "FP2"}, "kv_cache_quant_algo='FP2': is not one of"),
    ],
)
def test_what_cannot_be_read_is_refused(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        storage(tmp_path, DENSE, quantization_config=config)
