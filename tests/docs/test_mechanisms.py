"""The page of mechanisms names every layer kind, with numbers that were worked out elsewhere."""

from dataclasses import fields

import pytest

from costmodel.inputs.model import ModelConfig
from docs.mechanisms import OPTIONS, TABLES
from docs.write import ROOT
from tests.strategies import PRESETS

PAGE = (ROOT / "docs" / "mechanisms.md").read_text()


def kinds_of(model: ModelConfig) -> set[str]:
    layers = (*model.attention_groups, *model.ffn_groups)
    return {kind.kind for kind, _ in layers} | {memory.kind for memory in model.memory}


def test_every_kind_of_a_preset_has_its_section_once() -> None:
    for kind in set().union(*map(kinds_of, PRESETS.values())):
        assert PAGE.count(f"\n### {kind}\n") == 1, kind


def test_every_block_stands_on_the_page() -> None:
    for name in TABLES:
        assert f"<!-- {name}:begin -->" in PAGE


@pytest.mark.parametrize(
    ("kind", "facts"),
    [  # the sizes of released models, worked out from their configurations
        ("gated_delta_net", "88,523,008 parameters"),  # 88,522,880 and a norm of 128
        ("gated_delta_net", "4,268,032 bytes of state a sequence"),  # 4,194,304 + 73,728
        ("kimi_delta_attention", "39,514,272 parameters"),  # 39,514,144 and a norm of 128
        ("mamba2", "102,286,976 parameters"),  # 102,278,784 and a norm of 8,192
        ("msa", "110,887,424 parameters"),  # 106,954,752, 3,932,160 and four norms of 128
        ("qsa", "2,304 bytes of KV cache a token"),  # 2 x 2 x 256 x 2 and an index key of 256
        ("qsa", "51,446,528 parameters"),  # 49,807,360, 1,638,400 and four norms
        ("msa", "2,304 bytes of KV cache a token"),  # 2,048 and an index key of 256
        # 106,954,816, a compressor of 8,392,704, an indexer of 10,748,928 and norms of 2,176
        ("compressed", "126,098,624 parameters"),
        ("compressed", "1,344 bytes of KV cache a token"),  # 1,024 and a quarter of 1,280
        ("compressed", "61,440 bytes of state a sequence"),  # 8 tokens of 2 x 640 in 2 and 4 bytes
        ("mla", "1,408 bytes of KV cache a token"),  # 576 elements and 128 of an index key, 2 bytes
    ],
)
def test_a_section_has_the_numbers_of_a_layer(kind: str, facts: str) -> None:
    section = PAGE.partition(f"\n### {kind}\n")[2].partition("\n### ")[0]
    assert facts in section
    assert "**Keeps of a sequence**" in section


def test_options_are_fields_of_their_kinds() -> None:
    kinds = {
        kind.kind: kind
        for model in PRESETS.values()
        for kind, _ in (*model.attention_groups, *model.ffn_groups)
    }
    for kind_name, field, says in OPTIONS:
        named = {each.name for each in fields(kinds[kind_name])}  # type: ignore[arg-type]  # kinds are dataclasses
        assert field in named, (kind_name, field)
        assert says
