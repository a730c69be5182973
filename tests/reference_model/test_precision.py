"""bf16 against float32 with the same weights: on given indices, leaf by leaf and as a whole.

Choices differ by a few percent in bf16, so leaves that choose are compared by what they choose, and
everything after them on the float32 model's choice.
"""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from costmodel.inputs.model import ModelConfig
from costmodel.layers.ultramem import UltraMem
from reference_model.cache import MASKED, Cache, LayerState
from reference_model.compressor import Entries, Fresh
from reference_model.indexer import IndexSelect
from reference_model.leaf import Leaf
from reference_model.model import ReferenceModel
from reference_model.moe import Router
from reference_model.msa import IndexSelect as BlockSelect
from reference_model.product_key import ProductRetrieve
from reference_model.qsa import IndexSelect as GroupSelect
from reference_model.ultramem import Retrieve
from tests.reference_model.running import LENGTH
from tests.reference_model.tiny import MODELS, ids, made, small, ultramem_v2

EPSILON = 2**-8  # bf16 rounds by half of it
SELECTORS = (Router, Retrieve, ProductRetrieve)
BATCH = 4
MOST = 0.95  # of choices agree


def pair(config: ModelConfig) -> tuple[ReferenceModel, ReferenceModel]:
    """The model in bf16, and in float32 with the very same numbers."""
    low, high = made(config, dtype=torch.bfloat16), made(config)
    high.load_state_dict({n: v.to(high.state_dict()[n].dtype) for n, v in low.state_dict().items()})
    return low, high


def cast(value: Any, cache: Cache) -> Any:  # noqa: ANN401 - any argument of a leaf
    """An argument of a float32 leaf for the bf16 one; it has its own, empty cache."""
    if isinstance(value, Cache):
        return cache
    if isinstance(value, LayerState):
        return LayerState(tensors=[torch.zeros_like(one).bfloat16() for one in value.tensors])
    if isinstance(value, Entries):
        return emptied(value)
    if isinstance(value, Fresh):
        return replace(value, latents=value.latents.bfloat16())
    return lowered(value)


def lowered(value: Any) -> Any:  # noqa: ANN401 - as it is, but for what is of float32
    """Tensors of floats in bf16, also those of a tuple."""
    if isinstance(value, tuple):
        return tuple(map(lowered, value))
    return value.bfloat16() if isinstance(value, Tensor) and value.is_floating_point() else value


def emptied(value: Entries) -> Entries:
    """Room for the same entries in bf16; gates stay in float32, and shut."""
    held = torch.zeros_like(value.held).bfloat16()
    if value.values is None or value.gates is None:
        return replace(value, held=held)
    values = torch.zeros_like(value.values).bfloat16()
    return replace(value, held=held, values=values, gates=torch.full_like(value.gates, MASKED))


def tensors(output: object) -> list[Tensor]:
    outputs = output if isinstance(output, tuple) else (output,)
    return [one for one in outputs if isinstance(one, Tensor)]


def error(got: Tensor, want: Tensor) -> float:
    """Of the whole: the norm of the difference to the norm of what is right."""
    return float((got.float() - want.float()).norm() / want.float().norm())


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_each_leaf_in_bf16_is_close_on_the_same_inputs(name: str) -> None:
    low, high = pair(MODELS[name])
    cache = low.new_cache(BATCH, LENGTH)
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any], object]] = []
    given: list[tuple[Any, ...]] = []

    def before(_: nn.Module, args: tuple[Any, ...]) -> None:
        """A leaf may overwrite what it is given: states, and past token ids."""
        given.append(tuple(arg.clone() if isinstance(arg, Tensor) else arg for arg in args))

    def note(path: str) -> Any:  # noqa: ANN401 - a hook
        def hook(_: nn.Module, args: Any, options: Any, output: object) -> None:  # noqa: ANN401
            del args
            calls.append((path, given.pop(), options, output))

        return hook

    for path, leaf in high.leaves().items():
        leaf.register_forward_pre_hook(before)
        leaf.register_forward_hook(note(path), with_kwargs=True)
    high(ids(high.config, BATCH, LENGTH), high.new_cache(BATCH, LENGTH), logits="all")
    assert {path for path, *_ in calls} == set(high.leaves())
    for path, args, options, output in calls:
        leaf = low.leaves()[path]
        taken = [cast(arg, cache) for arg in args]
        if path.endswith(".recurrence"):  # whose state is kept in float32
            taken[-1] = args[-1]
        got = leaf(*taken, **options)
        if isinstance(leaf, (*SELECTORS, IndexSelect, BlockSelect, GroupSelect)):
            assert_like_choice(leaf, tensors(got), tensors(output))
            continue
        for one, other in zip(tensors(got), tensors(output), strict=True):
            if not other.is_floating_point():  # token ids, and rows that follow from them
                assert torch.equal(one, other), path
                continue
            assert one.dtype == torch.bfloat16, path
            assert error(one, other) < 3 * EPSILON, path


def agreeing(rows: Tensor, true_rows: Tensor) -> float:
    """The share of choices, [tokens, chosen], that are right, in any order."""
    same = [Counter(a) & Counter(b) for a, b in zip(rows.tolist(), true_rows.tolist(), strict=True)]
    return sum(one.total() for one in same) / rows.numel()


def assert_like_choice(leaf: Leaf, got: list[Tensor], want: list[Tensor]) -> None:
    """Most choices agree, and the scores in order, summed over cores, are close."""
    if isinstance(leaf, IndexSelect):  # of each token and query, and a mask in place of scores
        assert torch.equal(got[1].float(), want[1])
        assert agreeing(got[0].flatten(0, 1), want[0].flatten(0, 1)) >= MOST
        return
    if isinstance(
        leaf, BlockSelect | GroupSelect
    ):  # whose masks follow the order of what is chosen
        seen, truly_seen = (rows.masked_fill(mask < 0, -1) for rows, mask in (got, want))
        assert agreeing(seen.flatten(0, -2), truly_seen.flatten(0, -2)) >= MOST
        return
    if isinstance(leaf, Router):
        got, want = got[::-1], want[::-1]
    (rows, scores), (true_rows, true_scores) = got, want
    assert agreeing(rows, true_rows) >= MOST
    if scores.dim() > rows.dim():
        scores, true_scores = scores.float().sum(-1), true_scores.sum(-1)
    assert error(scores.sort(-1).values, true_scores.sort(-1).values) < 3 * EPSILON


# Given rows keep the scores of the retrieved ones, by rank: equal in bf16 but for the split over
# cores, so with one core only.
GIVEN = {
    name: config
    for name, config in MODELS.items()
    if not any(isinstance(memory, UltraMem) for memory in config.memory)
}
GIVEN |= {
    "ultramem_one_core": small(ultramem_v2(tucker_cores=1)),
    "shortcuts_beside_one_core": replace(
        MODELS["shortcuts_beside_memory"], memory=(ultramem_v2(layers="0:1,2", tucker_cores=1),)
    ),
}


@pytest.mark.parametrize("name", GIVEN)
@torch.no_grad()
def test_logits_in_bf16_are_close_on_given_choices(name: str) -> None:
    low, high = pair(GIVEN[name])
    sequences = ids(high.config, BATCH, LENGTH)
    high(sequences, high.new_cache(BATCH, LENGTH), logits="all")
    for path, leaf in high.leaves().items():
        if isinstance(leaf, SELECTORS):
            repeat_selection(leaf)
            low_leaf: Any = low.get_submodule(path)
            low_leaf.synthetic_choice = leaf.synthetic_choice
    want = high(sequences, high.new_cache(BATCH, LENGTH), logits="all")
    got = low(sequences, low.new_cache(BATCH, LENGTH), logits="all")
    assert got.dtype == torch.bfloat16
    assert error(got, want) < 8 * EPSILON


def repeat_selection(leaf: nn.Module) -> None:
    """Make a leaf select again what it has just selected."""
    assert isinstance(leaf, SELECTORS)
    assert leaf.selected is not None
    leaf.synthetic_choice = leaf.selected
    if isinstance(leaf, Router):
        places = torch.arange(leaf.selected.shape[1], 0, -1.0).expand(leaf.selected.shape)
        experts = leaf.config.choices
        leaf.synthetic_choice = torch.zeros(len(places), experts).scatter(1, leaf.selected, places)
