"""Which format a weight has: the narrowest statement wins; layers that differ are told apart."""

import pytest

from costmodel.errors import InputError
from costmodel.layers.dtype import DTYPES, parse_dtype
from costmodel.layers.formats import STATED, Formats, LeafFormat, parse_formats

BF16, FP8, INT8, MXFP4 = (DTYPES[name] for name in ("bf16", "fp8", "int8", "mxfp4"))


def leaf(name: str, layers: tuple[int, ...] | None = None) -> LeafFormat:
    return LeafFormat(leaf=name, layers=layers, dtype=INT8)


def test_a_leaf_comes_before_its_group_and_a_group_before_the_default() -> None:
    formats = Formats(
        default=FP8, groups=(("attention", BF16),), leaves=(leaf("attention.output"),)
    )
    assert formats.of("attention", "attention.output") == INT8
    assert formats.of("attention", "attention.qkv") == BF16
    assert formats.of("ffn", "ffn.down") == FP8
    assert formats.dtypes == (FP8, BF16, INT8)
    assert not formats.is_one
    assert Formats(default=FP8).is_one


def test_layers_are_split_where_a_leaf_differs() -> None:
    formats = Formats(
        default=FP8,
        leaves=(leaf("ffn.down", (1, 3)), leaf("ffn.gate_up", (3, 4)), leaf("attention.qkv")),
    )
    assert formats.by_layer
    assert not Formats(default=FP8, leaves=(leaf("attention.qkv"),)).by_layer
    parts = dict(formats.split(range(5)))
    assert list(parts) == [(0, 2), (1,), (3,), (4,)]
    for layers, of_part in parts.items():
        assert not of_part.by_layer
        assert of_part.of("attention", "attention.qkv") == INT8
        assert of_part.of("ffn", "ffn.down") == (INT8 if layers[0] in (1, 3) else FP8)
        assert of_part.of("ffn", "ffn.gate_up") == (INT8 if layers[0] in (3, 4) else FP8)


def test_a_statement_on_some_layers_comes_before_one_on_all() -> None:
    everywhere = LeafFormat(leaf="ffn.down", layers=None, dtype=BF16)
    for leaves in ((everywhere, leaf("ffn.down", (2,))), (leaf("ffn.down", (2,)), everywhere)):
        parts = dict(Formats(default=FP8, leaves=leaves).split(range(3)))
        assert parts[2,].of("ffn", "ffn.down") == INT8
        assert parts[0, 1].of("ffn", "ffn.down") == BF16


@pytest.mark.parametrize(
    "text",
    ["bf16", "int4:32", "experts=mxfp4", "fp8:128x128,embedding=bf16,lm_head=int8", "fp16,ffn=fp8"],
)
def test_text_reads_back(text: str) -> None:
    formats = parse_formats(text, field="dtype")
    assert formats.label == text
    assert parse_formats(formats.label, field="dtype") == formats


def test_groups_stand_over_a_default() -> None:
    formats = parse_formats("experts=mxfp4,attention=fp8:128x128", field="dtype")
    for group in STATED:
        wanted = {"experts": MXFP4, "attention": parse_dtype("fp8:128x128", field="dtype")}
        assert formats.of(group, "") == wanted.get(group, BF16)
    assert parse_formats("fp8,router=bf16", field="dtype").of("ffn", "") == FP8
    assert formats.described == (
        "16 bits; attention: 8 bits with a 32-bit scale per block of 128 x 128;"
        " experts: 4 bits with an 8-bit scale per 32 elements"
    )


def test_the_order_in_which_groups_are_stated_is_no_matter() -> None:
    """The order of keys in a file is none of its meaning."""
    texts = ("experts=mxfp4,embedding=fp8", "embedding=fp8,experts=mxfp4")
    one, other = (parse_formats(text, field="dtype") for text in texts)
    assert one == other
    assert one.label == other.label == texts[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("expert=fp8", "'expert=fp8' is no GROUP=FORMAT; the groups are embedding, lm_head"),
        ("norm=fp8", "'norm=fp8' is no GROUP=FORMAT"),
        ("fp8,bf16", "'bf16' is no GROUP=FORMAT"),
        ("experts=fp8,", "'' is no GROUP=FORMAT"),
        ("experts=fp8,experts=bf16", "experts is listed twice"),
        ("experts=", "dtype='': is one of fp32"),
        ("experts=fp9", "dtype='fp9': is one of fp32"),
        ("experts=checkpoint", "dtype='checkpoint': is one of fp32"),
        ("", "dtype='': is one of fp32"),
    ],
)
def test_other_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_formats(text, field="dtype")
    assert str(caught.value).startswith("dtype=")
    assert message in str(caught.value)
