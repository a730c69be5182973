"""Shapes against the costs of their parts: two ways of writing the same work must agree."""

import pytest
from hypothesis import given, settings

from costmodel.costs.operators import build_operators
from costmodel.costs.step import step_costs
from costmodel.inputs.model import ModelConfig
from costmodel.layers.base import LayerKind
from costmodel.layers.compressed_attention import CompressedAttention
from costmodel.layers.kernel_shape import Attend, Gemm, Grouped, Rows, TopK
from costmodel.layers.mla import LatentAttention
from costmodel.layers.msa import BlockSparseAttention
from costmodel.layers.operator import Operator, Part, Step
from costmodel.layers.qsa import PooledKeyAttention
from tests.steps import make_step, parts
from tests.strategies import PRESETS, models, steps

ELEMENT = 2  # bytes, in bf16
OF_KIND = {"matmul": (Gemm, Grouped), "attention": (Attend,), "gather": (Rows,)}


def near(value: object) -> object:
    return pytest.approx(value, rel=1e-12)


def check(operator: Operator, part: Part, step: Step) -> None:
    """FLOPs, compares and bytes of a bf16 step, from the shape alone."""
    shape = part.shape
    if isinstance(shape, Gemm):
        assert part.flops == 2 * shape.m * shape.n * shape.k * shape.calls
        held = operator.leaf != "altup.correct" or part.name != "router"  # of altup.predict
        assert part.weight_bytes == (shape.n * shape.k * shape.calls * ELEMENT if held else 0)
    elif isinstance(shape, Grouped):
        assert part.flops == 2 * shape.rows * shape.n * shape.k
        assert part.weight_bytes == near(shape.groups * shape.n * shape.k * ELEMENT)
    elif isinstance(shape, Rows):
        assert part.flops == near(shape.reads * shape.row_bytes / ELEMENT * 2)
        assert part.row_bytes <= shape.reads * shape.row_bytes * (1 + 1e-12)
    elif isinstance(shape, TopK):
        groups = step.tokens if part.name == "group_choice" else 0
        if groups:  # the groups' own scores come on top
            assert part.compares == shape.rows * shape.width + shape.rows
        else:
            assert part.compares == shape.rows * shape.width * shape.calls
        assert shape.chosen <= shape.width
    elif isinstance(shape, Attend):
        split = parts(operator)  # an indexer has no values
        both = split["scores"].flops + (split["values"].flops if "values" in split else 0)
        square = shape.batch * shape.heads * shape.queries * shape.keys * shape.head_dim
        of_entries = isinstance(operator.layer_kind, PooledKeyAttention | CompressedAttention)
        if of_entries and operator.leaf != "attention.core":
            return  # pooled keys and entries: by hand in their own tests
        new = range(step.cached + 1, step.cached + step.new_tokens + 1)  # tokens that each sees
        chosen = [attended(operator.layer_kind, seen) for seen in new]
        entries = isinstance(operator.layer_kind, CompressedAttention)
        if operator.leaf != "attention.core" or (chosen == list(new) and not entries):
            assert both == near(2 * 2 * square)  # of a step that counts the square
        else:  # priced as the causal attention that has the pairs of what is chosen
            triangle = shape.queries * (shape.queries - 1) // 2
            left_over = sum(chosen) - (shape.queries * shape.keys - triangle)
            fewest = shape.keys == (shape.queries + 1) // 2  # that this attention can have
            assert left_over < shape.queries
            assert left_over >= 0 or fewest


def attended(kind: LayerKind | None, seen: int) -> int:
    """How many of the tokens that it sees a query attends to, windows aside."""
    if isinstance(kind, LatentAttention) and kind.index_topk is not None:
        return min(seen, kind.index_topk)
    if isinstance(kind, BlockSparseAttention):
        block = kind.index_block_size
        return min(seen, (kind.index_topk_blocks - 1) * block + (seen - 1) % block + 1)
    if isinstance(kind, PooledKeyAttention):
        group = kind.index_compress_ratio
        return min(seen // group * group, kind.index_budget) + seen % group
    if isinstance(kind, CompressedAttention):
        entries = seen // kind.compress_ratio if kind.compress_ratio else 0
        return min(seen, kind.sliding_window or seen) + min(entries, kind.index_topk or entries)
    return seen


def model_agrees(model: ModelConfig, step: Step) -> None:
    for operator in build_operators(model, step):
        for part in operator.parts:
            check(operator, part, step)


@settings(max_examples=100)
@given(models(), steps(dtype="bf16", kv_dtype="bf16", attention_flops="full"))
def test_random_models(model: ModelConfig, step: Step) -> None:
    model_agrees(model, step)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("mla", ["absorbed", "expanded"])
def test_presets(name: str, mla: str) -> None:
    for fields in ({"batch": 16, "cached": 2048}, {"batch": 2, "new_tokens": 300, "cached": 7}):
        model_agrees(PRESETS[name], make_step(**fields, attention_flops="full", mla=mla))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", PRESETS)
def test_what_computes_has_a_shape_and_only_tiny_products_go_without(name: str) -> None:
    for operator in step_costs(PRESETS[name], make_step(batch=16, cached=2048)).operators:
        for part in operator.parts:
            copies = part.kind == "gather" and not part.flops  # whole rows, which have no bags
            if part.kind not in OF_KIND or copies:
                assert part.shape is None or isinstance(part.shape, TopK)
            elif part.name in ("grid", "mix", "entry_gemm"):
                assert part.shape is None  # of a token: A^2 products of streams; of few entries
            elif operator.leaf.endswith("index_select") and part.name == "weighted_sum":
                assert part.shape is None  # a product and a sum an element
            elif part.name == "values":  # within the launch of the scores
                assert part.operations == 0
            else:
                assert isinstance(part.shape, OF_KIND[part.kind]), (operator.path, part.name)


def test_keys_and_values_are_read_as_the_cache_holds_them() -> None:
    for name in ("llama-3.1-8b", "olmoe-1b-7b", "gpt-oss-20b"):  # the last with windows
        for operator in build_operators(PRESETS[name], make_step(batch=16, cached=5000)):
            for part in operator.parts:
                shape = part.shape
                if isinstance(shape, Attend):
                    one = shape.batch * shape.kv_heads * shape.head_dim * 2 * ELEMENT
                    assert part.kv_read_bytes == one * (shape.keys - 1)  # the new one is at hand
