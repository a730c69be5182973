"""Numbers of a model set by path: the same model as its file would give with that number in it."""

import re
from dataclasses import replace

import pytest

from costmodel.errors import InputError
from costmodel.inputs.catalog import FOLDER, load_model
from costmodel.inputs.model import ModelConfig, load_model_toml
from costmodel.inputs.set_fields import MAX_DESIGNS, Value, designs, parse_set

MEMORY, MOE, SINKS, DENSE = "ultramemv2-1b-7b", "deepseek-v3", "gpt-oss-120b", "llama-3.1-8b"


def made(model: str, *texts: str) -> list[tuple[dict[str, Value], ModelConfig]]:
    return designs(load_model(model), parse_set(texts))


@pytest.mark.parametrize(
    ("preset", "path", "line", "value"),
    [
        (MEMORY, "memory.knum", "knum = 528", 256),
        (MEMORY, "memory.0.knum", "knum = 528", 256),
        (MEMORY, "memory.share_ratio", "share_ratio = 0.5", 0.25),
        (MEMORY, "attention.num_key_value_heads", "num_key_value_heads = 16", 4),
        (MOE, "hidden_size", "hidden_size = 7168", 3584),
        (MOE, "ffn.num_experts", "num_experts = 256", 128),
    ],
)
def test_a_set_number_is_that_of_an_edited_file(
    preset: str,
    path: str,
    line: str,
    value: Value,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    text = (FOLDER / f"{preset}.toml").read_text()
    name = line.partition(" ")[0]
    edited, times = re.subn(rf"(?m)^{re.escape(line)}\b", f"{name} = {value}", text)
    assert times == 1, "the preset no longer has this line once"
    file = tmp_path_factory.mktemp("model") / f"{preset}.toml"
    file.write_text(edited)
    assert made(preset, f"{path}={value}") == [({path: value}, load_model_toml(file))]


def test_fields_cross_in_the_order_of_their_options() -> None:
    values = [chosen for chosen, _ in made(MEMORY, "memory.knum=256-512/256", "memory.knn=8,16")]
    assert values == [
        {"memory.knum": knum, "memory.knn": knn} for knum in (256, 512) for knn in (8, 16)
    ]


def test_rules_see_all_fields_at_once() -> None:
    """Llama's 32 heads share 8 caches; 12 heads cannot share these 8, nor its 32 heads share 6."""
    both = ("attention.num_attention_heads=12", "attention.num_key_value_heads=6")
    ((_, model),) = made(DENSE, *both)
    assert model.attention.num_key_value_heads == 6  # type: ignore[attr-defined]
    for alone in both:
        with pytest.raises(InputError, match="is not a multiple"):
            made(DENSE, alone)


def test_layers_that_differ_stay_as_they_are() -> None:
    """The 3 dense first layers of DeepSeek-V3 have no experts; its experts' width is not theirs."""
    base = load_model(MOE)
    ((_, model),) = made(MOE, "ffn.num_experts=128")
    assert model.overrides == base.overrides
    ((_, model),) = made(MOE, "overrides.0.ffn.intermediate_size=9216")
    assert model == replace(
        base,
        overrides=(
            replace(base.overrides[0], ffn=replace(base.overrides[0].ffn, intermediate_size=9216)),  # type: ignore[type-var]
        ),
    )


def test_layers_without_the_field_set_stay_without() -> None:
    """Every other layer of gpt-oss has a window of 128 tokens; the others see all."""
    ((_, model),) = made(SINKS, "attention.sliding_window=64")
    windows = [attention.sliding_window for attention, _ in model.attention_groups]  # type: ignore[attr-defined]
    assert windows == [64, None]


def test_a_field_that_no_layer_sets_is_set_in_all() -> None:
    ((_, model),) = made(DENSE, "attention.sliding_window=4096")
    ((attention, layers),) = model.attention_groups
    assert (attention.sliding_window, len(layers)) == (4096, 32)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["memory.knum"], "set='memory.knum': must be FIELD=LIST, such as memory.knum=256,512"),
        (["=3"], "set='=3': must be FIELD=LIST"),
        (["a=1", "a=2"], "set='a=2': the field is set twice"),
        (
            ["memory.knums=3"],
            "set='memory.knums': is no number of 'Ultra.*did you mean memory.knum",
        ),
        (["memory.1.knum=3"], "set='memory.1.knum': is no number"),
        (["memory.layers=3"], "set='memory.layers': is no number"),
        (["memory.kind.__class__=3"], "is no number"),
        (["tie_word_embeddings=1"], "set='tie_word_embeddings': is no number"),
        (["altup=1"], "set='altup': is no number"),
        (["memory=1"], "set='memory': is no number"),
        (["name=1"], "set='name': is no number"),
        (["memory.knum=x"], "memory.knum='x': must be a whole number from 0"),
        (["memory.knum=4,4"], "memory.knum='4,4': a value is listed twice"),
        (["memory.share_ratio=x"], "memory.share_ratio='x': must be a number from 0"),
        (["memory.share_ratio=1,1"], "memory.share_ratio='1,1': a value is listed twice"),
        (["memory.knum=65536"], "set='memory.knum=65536': knum=65536: Input should be less"),
        (["memory.knum=1-128", "memory.knn=1-64"], f"set=8192: .* at most {MAX_DESIGNS:,} designs"),
    ],
)
def test_a_mistake_names_field_value_and_rule(texts: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        made(MEMORY, *texts)
