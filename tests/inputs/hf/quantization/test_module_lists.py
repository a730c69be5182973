"""What lists of modules name: each tool's rules, prefixes, and the traps of unfinished names."""

import pytest

from costmodel.inputs.hf.quantization.module_lists import ModuleList, Style, looked_at
from costmodel.inputs.hf.quantization.modules import Module, ModuleKind, without_front


def named(style: Style, entry: str, path: str, kind: ModuleKind = "linear") -> bool:
    module = Module(leaf="-", layer=0, kind=kind, names=(path,))
    return ModuleList([entry], style=style, field="ignore").names(module)


@pytest.mark.parametrize(
    ("entry", "path", "is_named"),
    [
        ("gate", "layers.3.mlp.gate", True),
        ("gate", "layers.3.mlp.gate_proj", False),
        ("model.layers.3.mlp.gate", "layers.3.mlp.gate_proj", False),
        ("model.layers.1", "layers.1.self_attn.q_proj", True),
        ("model.layers.1", "layers.10.self_attn.q_proj", False),
        ("model.layers.1*", "layers.1.self_attn.q_proj", True),
        ("model.layers.1*", "layers.10.self_attn.q_proj", False),
        ("model.layers.1.", "layers.1.mlp.down_proj", True),
        ("model.layers.*.self_attn", "layers.61.self_attn.kv_b_proj", True),
        ("model.layers.*.self_attn", "layers.61.mlp.down_proj", False),
        ("self_attn.kv_b_proj", "layers.0.self_attn.kv_b_proj", True),
        ("b_proj", "layers.0.self_attn.kv_b_proj", False),
        ("mlp.experts.*.down_proj", "layers.0.mlp.experts.7.down_proj", True),
        ("mlp.experts", "layers.0.mlp.experts.7.down_proj", True),
        ("mlp.experts.1", "layers.0.mlp.experts.12.down_proj", False),
        ("language_model.lm_head", "lm_head", True),
        ("model.language_model.layers.0.mlp", "layers.0.mlp.up_proj", True),
        (r"model\.layers\.\d+\.mlp\.gate", "layers.5.mlp.gate", True),
        (r"model\.layers\.\d+\.mlp\.gate", "layers.5.mlp.gate_proj", False),
        ("re:.*self_attn.*", "layers.5.self_attn.o_proj", True),
        ("visual", "layers.5.self_attn.o_proj", False),
        ("", "layers.5.self_attn.o_proj", False),
    ],
)
def test_paths_name_modules_by_whole_steps(entry: str, path: str, is_named: object) -> None:
    assert named("paths", entry, path) is is_named


@pytest.mark.parametrize(
    ("entry", "path", "is_named"),
    [
        ("model.language_model.layers.1.self_attn*", "layers.1.self_attn.q_proj", True),
        ("model.language_model.layers.1.self_attn*", "layers.10.self_attn.q_proj", False),
        ("model.layers.1*", "layers.10.self_attn.q_proj", True),  # a glob, as its tool reads it
        ("model.layers.1.*", "layers.10.self_attn.q_proj", False),
        ("*.mlp.gate", "layers.4.mlp.gate", True),
        ("*.mlp.gate", "layers.4.mlp.gate_proj", False),
        ("model.layers.*.self_attn", "layers.4.self_attn.o_proj", True),
        ("lm_head", "lm_head", True),
        ("model.layers.4.mlp", "layers.4.mlp.up_proj", True),
        ("*", "layers.4.mlp.up_proj", True),
    ],
)
def test_globs_span_dots(entry: str, path: str, is_named: object) -> None:
    assert named("globs", entry, path) is is_named


@pytest.mark.parametrize(
    ("entry", "path", "is_named"),
    [
        ("model.layers.0.mlp.up_proj", "layers.0.mlp.up_proj", True),
        ("model.layers.0.mlp", "layers.0.mlp.up_proj", False),
        ("re:.*mlp.gate$", "layers.0.mlp.gate", True),
        ("re:.*mlp.gate$", "layers.0.mlp.gate_proj", False),
        ("re:model[.]layers[.](0|1)[.]", "layers.1.mlp.up_proj", True),
        ("re:model[.]layers[.](0|1)[.]", "layers.2.mlp.up_proj", False),
        ("re:mlp", "layers.1.mlp.up_proj", False),  # from the beginning of the name
        ("Linear", "layers.1.mlp.up_proj", True),
    ],
)
def test_names_are_whole(entry: str, path: str, is_named: object) -> None:
    assert named("names", entry, path) is is_named


def test_the_class_of_linear_layers_holds_neither_tables_nor_routers() -> None:
    assert named("names", "Linear", "-", "expert")
    assert named("globs", "Linear", "-", "lm_head")
    assert not named("names", "Linear", "-", "embedding")
    assert not named("names", "Linear", "-", "router")


def test_experts_that_entries_name_are_looked_at() -> None:
    entries = ["model.layers.0.mlp.experts.7.up_proj", r"re:.*experts\.12\..*", "experts.64", "3"]
    assert looked_at(entries, 64) == {0, 7, 12, 32, 63}
    assert looked_at(["lm_head", "re:.*self_attn.*"], 64) == {0}


def test_fronts_are_taken_off_once() -> None:
    assert without_front("model.language_model.layers.0.mlp") == "layers.0.mlp"
    assert without_front("language_model.model.embed_tokens") == "embed_tokens"
    assert without_front("model.layers.0.model.x") == "layers.0.model.x"
    assert without_front("lm_head") == "lm_head"
