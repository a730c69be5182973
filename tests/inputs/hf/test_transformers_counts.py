"""Families that are read equal transformers: parameters, KV bytes and FLOPs of matrix products.

tests/data/hf_sizes holds the sizes of published models, without keys that say nothing of a cost.
"""

import json
from pathlib import Path

import pytest

from costmodel.costs.operators import build_operators
from costmodel.costs.totals import kv_bytes_per_token, parameter_counts
from costmodel.inputs.hf.config import load_hf_config
from costmodel.inputs.workload import Workload
from tests.inputs.hf.flops_of_kinds import flops

SIZES = Path(__file__).parents[2] / "data" / "hf_sizes"
NEW_TOKENS = 512
PREFILL = Workload(
    phase="prefill",
    batch=1,
    context=0,
    new_tokens=NEW_TOKENS,
    logits="all",
    attention_flops="full",
)

# By transformers 5.24.0 (torch 2.13.0) on the meta device, which
# `python -m tests.inputs.hf.count_in_transformers` asks again: parameters of `AutoModelForCausalLM`
# (tied ones once, correction biases of routers among them), KV bytes of a token in bf16, and what
# `FlopCounterMode` counts in a prefill of one sequence of 512 tokens with the logits of each.
COUNTED = {
    "olmo-2-7b": (7_298_617_344, 524_288, 7_189_775_253_504),
    "olmo-2-32b": (32_234_279_936, 262_144, 32_824_287_559_680),
    "olmo-3-7b": (7_298_011_136, 524_288, 7_189_464_875_008),
    "phi-3-mini": (3_821_079_552, 393_216, 3_914_795_581_440),
    "phi-4": (14_659_507_200, 204_800, 14_699_525_570_560),
    "phi-4-mini": (3_836_021_760, 131_072, 4_030_961_025_024),
    "smollm3-3b": (3_075_098_624, 73_728, 3_226_057_310_208),
    "gemma-2-9b": (9_241_705_984, 344_064, 9_643_275_321_344),
    "gemma-7b": (8_537_680_896, 458_752, 8_862_665_015_296),
    "glm-4-9b-0414": (9_400_279_040, 40_960, 9_161_165_242_368),
    "glm-4-9b-chat": (9_399_951_360, 40_960, 9_161_165_242_368),
    "granite-3.1-8b": (8_170_848_256, 163_840, 8_538_407_567_360),
    "granite-3.1-3b-a800m": (3_298_793_472, 65_536, 955_500_724_224),
    "seed-oss-36b": (36_151_104_512, 262_144, 36_891_084_718_080),
    "ernie-4.5-21b-a3b": (21_825_437_888, 57_344, 3_507_612_549_120),
    "ernie-4.5-0.3b": (360_748_032, 18_432, 408_021_893_120),
    "hunyuan-7b": (7_504_568_320, 131_072, 7_821_835_894_784),
    "hunyuan-a13b": (80_393_183_232, 131_072, 13_190_545_014_784),
    "dots.llm1": (142_774_381_696, 1_015_808, 13_980_923_854_848),
    "qwen2-57b-a14b": (57_408_658_944, 57_344, 14_138_531_119_104),
    "starcoder2-7b": (7_173_923_840, 65_536, 7_499_012_898_816),
    "command-r7b": (8_028_033_024, 131_072, 8_358_006_358_016),
    "command-r": (34_980_831_232, 1_310_720, 36_163_624_632_320),
    "exaone-4.0-32b": (32_003_216_384, 262_144, 32_577_326_940_160),
    "ministral-3-8b": (8_489_553_920, 139_264, 8_289_286_881_280),
    "flex-olmo-7x7b": (33_270_665_216, 524_288, 24_920_339_775_488),
}


@pytest.mark.parametrize("name", COUNTED)
def test_a_model_costs_what_transformers_counts(name: str) -> None:
    model, step = load_hf_config(SIZES / f"{name}.json"), PREFILL.step()
    parameters = parameter_counts(build_operators(model, step)).total
    found = (parameters, kv_bytes_per_token(model, step), flops(model, PREFILL))
    assert found == COUNTED[name]


def test_every_file_is_counted() -> None:
    assert set(COUNTED) == {path.stem for path in SIZES.glob("*.json")}


def test_a_file_without_a_size_is_refused(tmp_path: Path) -> None:
    for path in SIZES.glob("*.json"):
        table = json.loads(path.read_text())
        del table["hidden_size"]
        (tmp_path / "config.json").write_text(json.dumps(table))
        with pytest.raises(ValueError, match="hidden_size: is missing"):
            load_hf_config(tmp_path / "config.json")
