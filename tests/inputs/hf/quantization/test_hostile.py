"""Any quantization_config gives a model or an InputError, and in bounded time."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.errors import InputError
from costmodel.inputs.hf.config import load_hf_config
from tests.inputs.hf.quantization.files import EXPERTS
from tests.slowness import guarded

GOOD: list[dict[str, Any]] = [
    {"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": ["gate"]},
    {"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": {"-:.*attn.*": {}}},
    {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True},
    {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    {
        "quant_method": "compressed-tensors",
        "config_groups": {"g": {"targets": ["Linear"], "weights": {"num_bits": 8}}},
        "ignore": ["re:.*mlp[.]gate$"],
        "kv_cache_scheme": {"num_bits": 8, "type": "float"},
    },
    {
        "quant_method": "modelopt",
        "quant_algo": "MIXED_PRECISION",
        "quantized_layers": {"model.layers.0.mlp.experts": {"quant_algo": "NVFP4"}},
        "exclude_modules": ["*attn*"],
        "kv_cache_quant_algo": "FP8",
    },
]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(["re:(", "re:.*", "*", "", "[", "Linear", "fp8", "NVFP4", "float", "group"])
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


def changed(table: dict[str, Any], places: list[int], value: object) -> None:
    """Set what stands where `places` lead, key by key, to `value`."""
    key = sorted(table)[places[0] % len(table)]
    inner = table[key]
    if len(places) > 1 and isinstance(inner, dict) and inner:
        changed(inner, places[1:], value)
    else:
        table[key] = value


def refusal(path: Path) -> str:
    """Why a file is refused; nothing if it is read."""
    try:
        load_hf_config(path)
    except InputError as error:
        return str(error)
    return ""


@given(
    good=st.sampled_from(GOOD),
    places=st.lists(st.integers(0, 20), min_size=1, max_size=4),
    value=VALUES,
)
def test_a_model_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, good: dict[str, Any], places: list[int], value: object
) -> None:
    config = json.loads(json.dumps(good))
    changed(config, places, value)
    path = tmp_path_factory.getbasetemp() / "quantised.json"
    path.write_text(json.dumps({**EXPERTS, "quantization_config": config}))
    message = refusal(path)
    assert "\n" not in message
    assert len(message) < 1000


@pytest.mark.parametrize(
    "config",
    [
        {"quant_method": "fp8", "modules_to_not_convert": [f"*a*b*{i}*" for i in range(3000)]},
        {"quant_method": "fp8", "modules_to_not_convert": ["re:" + "(a|b|.)*" * 120]},
        {
            "quant_method": "gptq",
            "dynamic": {f"+:(.*a.*{i}.*(e|l)+.{{0,50}}){{0,3}}x$": {} for i in range(32)},
        },
        {
            "quant_method": "modelopt",
            "quant_algo": "MIXED_PRECISION",
            "quantized_layers": {
                f"model.layers.{i}.mlp.experts.{e}.{name}_proj": {"quant_algo": "FP8"}
                for i in range(12)
                for e in range(256)
                for name in ("gate", "up", "down")
            },
        },
    ],
)
def test_long_lists_are_read_or_refused_soon(tmp_path: Path, config: dict[str, Any]) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**EXPERTS, "quantization_config": config}))
    with guarded(2.5):
        message = refusal(path)
    assert not message or "patterns" in message
