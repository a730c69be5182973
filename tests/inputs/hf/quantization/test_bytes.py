"""Weights as files store them, in bytes: sums over tensors, worked out beside each case."""

import json
from pathlib import Path
from typing import Any

import pytest

from costmodel.costs.predict import Prediction, predict
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.parse import parse_workload
from costmodel.routing.popularity import Uniform
from tests.inputs.hf.quantization.files import DENSE
from tests.inputs.hf.small_configs import DEEPSEEK, GPT_OSS

OSS_LIST = [
    "model.layers.*.self_attn",
    "model.layers.*.mlp.router",
    "model.embed_tokens",
    "lm_head",
]

# Of `DENSE`: 12 layers of q 256 x 256, k and v 64 x 256, o 256 x 256, gate and up 512 x 256 and
# down 256 x 512; embedding and LM head of 1000 x 256; 25 norms of 256.
PROJECTIONS, TABLES, NORMS = 6_684_672, 512_000, 6_400
MATRICES, OUTPUTS, INPUTS = 12 * 7, 12 * 1920, 12 * 2048
ENDS = 2 * (TABLES + NORMS)


def predicted(folder: Path, table: dict[str, Any], **keys: object) -> Prediction:
    path = folder / "config.json"
    path.write_text(json.dumps({**table, **keys}), encoding="utf-8")
    workload = parse_workload(
        phase="decode", batch=1, context=64, dtype=None, kv_dtype=None, routing=Uniform()
    )
    return predict(load_model(str(path)), workload, load_hardware("h200"))


@pytest.mark.parametrize(
    ("key", "config", "weights_bytes"),
    [
        # 4 bits, and 16 + 4 for 128
        ("quantization_config", {"quant_method": "awq"}, PROJECTIONS * 4.15625 / 8 + ENDS),
        (  # the same, and 4 bytes an input
            "quantization_config",
            {"quant_method": "gptq", "bits": 4, "group_size": 128},
            PROJECTIONS * 4.15625 / 8 + 4 * INPUTS + ENDS,
        ),
        (  # 4 bits, 8 for 16, and two of 32 bits a matrix
            "quantization_config",
            {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]},
            PROJECTIONS * 4.5 / 8 + 8 * MATRICES + ENDS,
        ),
        (  # 4 bits, and 16 + 16 for 64, both tables too
            "quantization",
            {"bits": 4, "group_size": 64},
            (PROJECTIONS + TABLES) * 4.5 / 8 + 2 * NORMS,
        ),
        ("quantization_config", {"quant_method": "fp8"}, PROJECTIONS + 4 * MATRICES + ENDS),
        (
            "quantization_config",
            {"quant_method": "bitsandbytes", "load_in_8bit": True},
            PROJECTIONS + 4 * OUTPUTS + ENDS,
        ),
    ],
)
def test_a_dense_model(
    tmp_path: Path, key: str, config: dict[str, Any], weights_bytes: float
) -> None:
    assert predicted(tmp_path, DENSE, **{key: config}).memory.weights_bytes == weights_bytes


def test_experts_in_mxfp4(tmp_path: Path) -> None:
    config = {"quant_method": "mxfp4", "modules_to_not_convert": OSS_LIST}
    prediction = predicted(tmp_path, GPT_OSS, quantization_config=config)
    assert prediction.memory.weights_bytes == 6_291_456 * 4.25 / 8 + 3_397_952 * 2 == 10_138_240
    # Norms, router, attention and head, 2 of 8 experts, one row of the embedding.
    assert prediction.costs.totals.weight_bytes == 5_547_136


def test_blocks_of_fp8(tmp_path: Path) -> None:
    config = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}
    prediction = predicted(tmp_path, DEEPSEEK, quantization_config=config)
    weights_bytes = 22_687_744 + 1_411 * 4 + 8_247_680 * 2
    assert prediction.memory.weights_bytes == weights_bytes == 39_188_748


def test_a_format_that_is_asked_for_overrides_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**DENSE, "quantization_config": {"quant_method": "fp8"}}))
    workload = parse_workload(
        phase="decode", batch=1, context=64, dtype="bf16", kv_dtype=None, routing=Uniform()
    )
    prediction = predict(load_model(str(path)), workload, load_hardware("h200"))
    assert prediction.memory.weights_bytes == 2 * PROJECTIONS + ENDS
