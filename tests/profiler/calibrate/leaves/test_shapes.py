"""The committed shapes: as they are drawn, of no preset, and balanced from the beginning."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest

from costmodel.inputs.catalog import load_model, model_names
from costmodel.inputs.model import ModelConfig
from costmodel.layers.attention import Attention
from costmodel.layers.mla import LatentAttention
from costmodel.layers.moe import MoeFfn
from costmodel.layers.peer import Peer
from costmodel.layers.product_key import ProductKey
from costmodel.layers.ultramem import UltraMem
from profiler.calibrate.leaves.families import FAMILIES
from profiler.calibrate.leaves.shapes import (
    CACHE_BYTES,
    FEWEST_LAYERS,
    FILE,
    MOST_LAYERS,
    QUICK,
    WEIGHT_BYTES,
    drawn_shapes,
    shapes,
    shapes_text,
    small_shapes,
)
from reference_model.model import build_model

H200_L2 = 62_914_560  # bytes, by its driver
H200_BYTES = 139e9


@cache
def presets() -> tuple[ModelConfig, ...]:
    return tuple(load_model(name) for name in model_names())


def products(model: ModelConfig) -> frozenset[tuple[int, ...]]:
    """Of every weight; a stack of experts or of heads has one for each. Tucker cores are none."""
    return frozenset(
        tuple(parameter.shape[-2:])
        for name, parameter in build_model(model, device="meta").named_parameters()
        if parameter.ndim >= 2 and not name.endswith(".cores")
    )


def heads(model: ModelConfig) -> set[tuple[int, ...]]:
    of: set[tuple[int, ...]] = set()
    for mixer, _ in model.attention_groups:
        if isinstance(mixer, Attention):
            of.add((mixer.num_attention_heads, mixer.num_key_value_heads, mixer.head_dim))
        elif isinstance(mixer, LatentAttention):
            of.add(
                (
                    mixer.num_attention_heads,
                    mixer.kv_lora_rank,
                    mixer.qk_nope_head_dim,
                    mixer.v_head_dim,
                )
            )
    return of


def choices(model: ModelConfig) -> set[tuple[int, int]]:
    """Experts of a number of them, and rows of so many keys a side."""
    of = {
        (ffn.num_experts, ffn.num_experts_per_tok)
        for ffn, _ in model.ffn_groups
        if isinstance(ffn, MoeFfn)
    }
    for memory in model.memory:
        if isinstance(memory, UltraMem):
            layers = len(memory.placement(model.num_hidden_layers))
            of.add((memory.row_keys(layers), memory.knn))
        elif isinstance(memory, ProductKey | Peer):
            of.add((memory.num_keys, memory.knn))
    return of


def row_widths(model: ModelConfig) -> set[int]:
    return {each.value_dim for each in model.memory if isinstance(each, UltraMem | ProductKey)}


def test_the_file_holds_what_the_draw_gives() -> None:
    assert FILE.read_text() == shapes_text(drawn_shapes())
    assert shapes() == drawn_shapes()


@pytest.mark.slow
def test_no_product_is_one_of_a_preset() -> None:
    taken = frozenset().union(*map(products, presets()))
    assert {(4096, 4096), (2048, 1024)} <= taken  # Llama 3.1 8B, OLMoE's experts
    for shape in shapes():
        assert taken.isdisjoint(products(replace(shape.model, num_hidden_layers=1)))


@pytest.mark.parametrize(
    ("sizes", "known"),
    [
        (heads, (32, 8, 128)),  # Llama 3.1 8B
        (choices, (64, 8)),  # OLMoE
        (row_widths, 768),  # UltraMemV2-1B/7B
        (lambda model: {model.hidden_size}, 4096),
    ],
    ids=["heads", "choices", "rows", "widths"],
)
def test_no_other_size_is_one_of_a_preset(
    sizes: Callable[[ModelConfig], set[object]], known: object
) -> None:
    taken = set[object]().union(*map(sizes, presets()))
    assert known in taken
    for shape in shapes():
        assert taken.isdisjoint(sizes(shape.model)), shape.family


def test_batches_and_contexts_lie_between_the_usual_ones() -> None:
    for shape in shapes():
        work = shape.workload
        if work.phase == "decode":
            assert work.batch == 1 or work.batch & (work.batch - 1), shape
            assert work.context & (work.context - 1), shape
        else:
            assert work.context == 0


def test_every_beginning_of_the_list_has_all_families() -> None:
    families = [shape.family for shape in shapes()]
    assert families == list(FAMILIES) * (len(families) // len(FAMILIES))
    assert QUICK % len(FAMILIES) == 0


def test_decode_batches_of_each_family_range_from_one_to_hundreds() -> None:
    for family in FAMILIES:
        batches = sorted(
            shape.workload.batch
            for shape in shapes()
            if shape.family == family and shape.workload.phase == "decode"
        )
        if batches:
            assert batches[0] == 1
            assert batches[-1] > 128
            assert all(more <= 40 * less for less, more in pairwise(batches))


def test_layers_are_many_and_fit_and_their_weights_exceed_l2() -> None:
    assert WEIGHT_BYTES + CACHE_BYTES < 0.6 * H200_BYTES  # what is left holds activations
    for shape in shapes():
        assert FEWEST_LAYERS <= shape.model.num_hidden_layers <= MOST_LAYERS
        head = 2 * shape.model.hidden_size * shape.model.vocab_size
        assert head > 2.5 * H200_L2  # so each copy of it reads it anew


def test_small_shapes_are_the_same_families_in_small() -> None:
    small = small_shapes()
    assert [each.family for each in small] == [each.family for each in shapes()]
    parameters = [
        sum(p.numel() for p in build_model(each.model, device="meta").parameters())
        for each in small
    ]
    assert max(parameters) < 1e8
    assert {each.model.num_hidden_layers for each in small} == {3}
