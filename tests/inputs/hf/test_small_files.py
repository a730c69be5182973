"""Small config.json files whose parameters, KV bytes and stored bytes were worked out by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from costmodel.costs.predict import predict
from costmodel.errors import InputError
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.hf.config import load_hf_config
from costmodel.inputs.hf.fields import IgnoredKeys
from costmodel.inputs.workload import Workload
from tests.inputs.hf.small_configs import DEEPSEEK, GPT_OSS, LLAMA, MISTRAL, QWEN3_MOE

OF_LLAMA = (
    6000 * 576 + 10 * (576 * (9 + 6) * 64 + 576 * 576 + 2 * 576 + 3 * 576 * 1536) + 576,
    10 * 2 * 3 * 64 * 2,
)
OF_QWEN3_MOE = (
    2 * 8000 * 512
    + 6 * (512 * (8 + 4) * 96 + 8 * 96 * 512 + 2 * 96 + 2 * 512 + 512 * 16 + 16 * 3 * 512 * 256)
    + 512,
    6 * 2 * 2 * 96 * 2,
)
OF_MISTRAL = (
    2 * 9000 * 640 + 7 * (640 * (10 + 4) * 128 + 10 * 128 * 640 + 2 * 640 + 3 * 640 * 1600) + 640,
    7 * 2 * 2 * 128 * 2,
)
OF_DEEPSEEK = (  # + 1: the correction bias of an expert
    2 * 8000 * 512
    + 5 * (512 * 96 + 96 + 96 * 8 * (32 + 16) + 512 * (64 + 16) + 64 + 2 * 512)
    + 5 * (64 * 8 * (32 + 32) + 8 * 32 * 512)
    + 3 * 512 * 1024
    + 4 * ((512 + 1) * 24 + (24 + 1) * 3 * 512 * 128)
    + 512,
    5 * (64 + 16) * 2,
)


def predicted(folder: Path, table: dict[str, Any]) -> Any:  # noqa: ANN401 - a prediction
    path = folder / "config.json"
    path.write_text(json.dumps(table))
    return predict(load_hf_config(path), Workload(context=64), load_hardware("h200"))


@pytest.mark.parametrize(
    ("table", "counts"),
    [
        (LLAMA, OF_LLAMA),
        ({**LLAMA, "quantization": {"group_size": 64, "bits": 4}}, OF_LLAMA),
        ({**LLAMA, "attention_bias": None}, OF_LLAMA),
        ({**LLAMA, "model_max_length": 4096}, OF_LLAMA),
        ({**LLAMA, "is_llama_config": True, "rope_interleaved": False}, OF_LLAMA),
        ({**LLAMA, "num_local_experts": 0, "num_experts_per_tok": 0}, OF_LLAMA),
        ({**LLAMA, "sliding_window": None, "use_sliding_window": False}, OF_LLAMA),
        ({**LLAMA, "layer_types": ["full_attention"] * 10}, OF_LLAMA),
        ({**LLAMA, "partial_rotary_factor": 1.0}, OF_LLAMA),
        (
            {
                **QWEN3_MOE,
                "use_qk_norm": True,
                "qkv_bias": False,
                "shared_expert_intermediate_size": 0,
            },
            OF_QWEN3_MOE,
        ),
        ({"model_type": "mistral3", "text_config": MISTRAL, "vision_config": {}}, OF_MISTRAL),
        (
            {
                "model_type": "kimi_k25",
                "architectures": ["KimiK25ForConditionalGeneration"],
                "text_config": {**DEEPSEEK, "model_type": "kimi_k2"},
                "vision_config": {"hidden_size": 64},
            },
            OF_DEEPSEEK,
        ),
    ],
)
def test_keys_that_say_nothing_change_nothing(
    tmp_path: Path, table: dict[str, Any], counts: tuple[int, int]
) -> None:
    prediction = predicted(tmp_path, table)
    costs = prediction.costs
    assert (costs.parameters.total, costs.kv_cache.bytes_per_token) == counts


def test_the_sums_are_those_worked_out_apart() -> None:
    totals = (OF_LLAMA, OF_QWEN3_MOE, OF_MISTRAL, OF_DEEPSEEK)
    assert totals == (
        (38_857_536, 7_680),
        (51_895_936, 4_608),
        (46_796_160, 7_168),
        (30_935_424, 800),
    )


@pytest.mark.parametrize(
    ("table", "weights_bytes"),
    [
        (  # experts 6,291,456 values at 4.25 bits, the other 3,397,952 at 16
            {
                **GPT_OSS,
                "quantization_config": {
                    "quant_method": "mxfp4",
                    "modules_to_not_convert": [
                        "model.layers.*.self_attn",
                        "model.layers.*.mlp.router",
                        "model.embed_tokens",
                        "lm_head",
                    ],
                },
            },
            10_138_240,
        ),
        (  # 22,687,744 values at 8 bits, 1,411 block scales of 4 bytes, 8,247,680 values at 16
            {
                **DEEPSEEK,
                "quantization_config": {
                    "quant_method": "fp8",
                    "fmt": "e4m3",
                    "weight_block_size": [128, 128],
                },
            },
            39_188_748,
        ),
    ],
)
def test_the_storage_of_the_file(tmp_path: Path, table: dict[str, Any], weights_bytes: int) -> None:
    model = predicted(tmp_path, table).model
    workload = Workload(context=64, formats=model.storage.weights)
    found = predict(model, workload, load_hardware("h200")).memory.weights_bytes
    assert found == pytest.approx(weights_bytes, rel=2e-4)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({**LLAMA, "num_local_experts": 4}, "num_local_experts=4: is not modelled"),
        ({**LLAMA, "use_qk_norm": True}, "use_qk_norm=True: is not modelled"),
        ({**LLAMA, "sliding_window": 512}, "sliding_window=512: is not modelled"),
        (
            {**LLAMA, "layer_types": ["sliding_attention"] * 10},
            "has windows, which are not modelled for model_type 'llama'",
        ),
        (
            {**QWEN3_MOE, "shared_expert_intermediate_size": 64},
            "shared_expert_intermediate_size=64: is not modelled",
        ),
        ({**LLAMA, "model_type": "bamba"}, "model_type='bamba'"),
        (
            {**{k: v for k, v in DEEPSEEK.items() if k != "n_routed_experts"},
             "num_routed_experts": 24},
            "num_routed_experts",
        ),
    ],
)  # fmt: skip
def test_keys_that_change_a_cost_stay_refused(
    tmp_path: Path, table: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError) as caught:
        predicted(tmp_path, table)
    assert said in str(caught.value)


def test_a_key_to_ignore_is_noted_and_one_that_is_understood_is_not(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**LLAMA, "foo": [1], "use_qk_norm": True}))
    with pytest.raises(InputError, match="use_qk_norm=True: is not modelled"):
        load_hf_config(path, IgnoredKeys(["foo", "use_qk_norm"]))
    path.write_text(json.dumps({**LLAMA, "foo": [1]}))
    ignored = IgnoredKeys(["foo", "hidden_size"])
    model = load_hf_config(path, ignored)
    assert ignored.met == {"foo": [1]}
    assert len(model.notes) == 1
    assert model.notes[0].startswith("foo=[1]: is not understood")


def test_a_key_within_an_object_is_named_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    table = {"model_type": "mistral3", "text_config": {**MISTRAL, "foo": 7}}
    path.write_text(json.dumps(table))
    with pytest.raises(InputError, match=r"field 'text_config.foo'=7"):
        load_hf_config(path, IgnoredKeys(["foo"]))
    assert "text_config.foo=7" in str(load_hf_config(path, IgnoredKeys(["text_config.foo"])).notes)
