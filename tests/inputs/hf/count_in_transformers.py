"""Asks transformers, where it is installed, for the counts of two tests.

They are `test_transformers_counts.py` and `test_towers.py`.
"""

import copy
import json
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from reference_model.flop_formulas import grouped_mm
from tests.inputs.hf.test_towers import DATA, SMALL, WHOLE
from tests.inputs.hf.test_transformers_counts import COUNTED, NEW_TOKENS, SIZES

CORRECTION = "correction_bias"  # a buffer in some families, a parameter in others


def counted(config: dict[str, Any]) -> tuple[int, int, int]:
    """What transformers builds and computes for a config.json, on the meta device."""
    model_type = config.pop("model_type")
    built = transformers.AutoConfig.for_model(model_type, **config)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(
            built, attn_implementation="eager", dtype=torch.bfloat16
        ).eval()
    if any("experts" in name for name, _ in model.named_parameters()):
        model.set_experts_implementation("grouped_mm")
    biases = [buffer for name, buffer in model.named_buffers() if CORRECTION in name]
    ids = torch.zeros(1, NEW_TOKENS, dtype=torch.int64, device="meta")
    cache = transformers.DynamicCache(config=built)
    formulas = {torch.ops.aten._grouped_mm: grouped_mm}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        model(input_ids=ids, use_cache=True, cache=cache)
    return (
        sum(tensor.numel() for tensor in (*model.parameters(), *biases)),
        sum(
            tensor.numel() * tensor.element_size() // NEW_TOKENS
            for layer in cache.layers
            for tensor in (layer.keys, layer.values)
        ),
        counter.get_total_flops(),
    )


def counted_whole(config: dict[str, Any]) -> int:
    """The parameters of a multimodal model: the text model, towers and projector."""
    built = transformers.AutoConfig.for_model(config.pop("model_type"), **config)
    with torch.device("meta"):
        model = transformers.AutoModelForImageTextToText.from_config(built, dtype=torch.bfloat16)
    return sum(tensor.numel() for tensor in model.parameters())


def read(path: Path) -> dict[str, Any]:
    """A config.json."""
    config: dict[str, Any] = json.loads(path.read_text())
    return config


if __name__ == "__main__":
    print(f"transformers {transformers.__version__}, torch {torch.__version__}")
    for name, known in COUNTED.items():
        found = counted(read(SIZES / f"{name}.json"))
        print(name, "as stated" if found == known else found)
    wholes = {name: (read(DATA / f"{name}.json"), known) for name, known in WHOLE.items()}
    for name, (config, parameters) in (wholes | SMALL).items():
        whole = counted_whole(copy.deepcopy(config))
        print(name, "as stated" if whole == parameters else whole)
