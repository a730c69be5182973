"""The keystone: leaf by leaf, the reference model is what the cost model says (no GPU needed).

For every preset, at full depth, on the meta device: paths, parameters by group and by leaf, buffers
by leaf, and cache bytes of the tokens held are those predicted; so are the FLOPs by path of one
decode and one prefill step. The other workloads (three of decode and three of prefill in all), and
latent attention in both modes, run on a copy that keeps two blocks of each sort and so every layer
kind and option: at full depth they would take minutes. Random small models of every layer kind do
all of it.

FLOPs are those of matrix products, attention, gathers, causal convolutions and the products of
recurrences, whose elementwise decay PyTorch does not count. Attention is counted with
`attention_flops="full"`: on the meta device, as on a CPU, it computes the whole square and masks
it. The causal count is enumerated in tests/layers/test_attention.py.
"""

from collections import Counter
from dataclasses import replace
from typing import Any, TypeAlias, get_args

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from costmodel.costs.operators import build_operators
from costmodel.costs.totals import kv_cache, parameter_counts, totals
from costmodel.inputs.model import ModelConfig, Override
from costmodel.inputs.workload import Logits
from costmodel.layers.absent import NoFfn
from costmodel.layers.base import FfnKind, MemoryKind
from costmodel.layers.mla import LatentAttention
from costmodel.layers.operator import Operator, Step
from costmodel.layers.recurrent import PRODUCTS
from costmodel.layers.site import expanded_paths
from reference_model.flop_formulas import count_flops
from reference_model.leaf import Leaf
from reference_model.model import ReferenceModel, build_model
from tests.steps import changed, make_step
from tests.strategies import PRESETS, models

COUNTED = ("matmul", "attention", "gather")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# B sequences, S cached and T new tokens each, around the presets' window of 128; the first is run
# at full depth
DECODE = [(2, 130, 1), (1, 0, 1), (3, 127, 1)]
PREFILL = [(2, 125, 6), (3, 0, 7), (1, 3, 130)]
RANDOM_MODELS = 40

Sizes: TypeAlias = tuple[int, int, int]
every_preset = pytest.mark.parametrize("name", PRESETS)


def step_of(sizes: Sizes, *, dtype: str = "bf16", logits: Logits = "last") -> Step:
    """Latent attention is absorbed in decode and expanded in prefill, as usual."""
    batch, cached, new = sizes
    return make_step(
        batch=batch,
        cached=cached,
        new_tokens=new,
        dtype=dtype,
        kv_dtype=dtype,
        attention_flops="full",
        logits=logits,
        mla="absorbed" if new == 1 else "expanded",
    )


def both_modes(config: ModelConfig, step: Step) -> list[Step]:
    if any(isinstance(attention, LatentAttention) for attention, _ in config.attention_groups):
        return [changed(step, mla="absorbed"), changed(step, mla="expanded")]
    return [step]


def by_path(config: ModelConfig, step: Step) -> dict[str, Operator]:
    pairs = [(path, op) for op in build_operators(config, step) for path in expanded_paths(op.path)]
    assert len(pairs) == len(dict(pairs)), "a path is listed twice"
    return dict(pairs)


def structure_is_predicted(model: ReferenceModel, step: Step) -> None:
    """Paths; by leaf what it reads; over the model each tensor once, be it shared or tied."""
    leaves, operators = model.leaves(), by_path(model.config, step)
    childless = {path for path, module in model.named_modules() if not list(module.children())}
    assert set(operators) == set(leaves) == childless
    for path, op in operators.items():
        parameters = {w.name: (w.group, w.parameters, w.stored_bytes(step)) for w in op.weights}
        assert parameters == owned(leaves[path]), path
        buffers = {b.name: (b.elements, b.element_bytes) for b in op.buffers}
        held = leaves[path].named_buffers()
        assert buffers == {name: (b.numel(), b.element_size()) for name, b in held}, path
    by_group: Counter[str] = Counter()
    for name, parameter in model.named_parameters():  # gives each tensor once
        path, _, last = name.rpartition(".")
        by_group[leaves[path].groups[last]] += parameter.numel()
    assert by_group == parameter_counts(build_operators(model.config, step)).by_group


def owned(leaf: Leaf) -> dict[str, tuple[str, int, int]]:
    """Group, elements and bytes of each parameter."""
    return {n: (leaf.groups[n], p.numel(), p.nbytes) for n, p in leaf.named_parameters()}


def cache_is_predicted(model: ReferenceModel, step: Step) -> None:
    """What is held of a larger cache, and all of one that is just large enough."""
    costs = totals(build_operators(model.config, step))
    kept = kv_cache(model.config, step, costs)
    stored, state = kept.stored_bytes, kept.state_bytes
    held = int(step.cached + step.new_tokens)
    assert model.new_cache(int(step.batch), held + 9).held_bytes(held) == stored
    exact = model.new_cache(int(step.batch), held)
    keeping = (*exact.layers, *exact.memories.values())
    allocated = sum(tensor.nbytes for layer in keeping for tensor in layer.tensors)
    assert exact.allocated_bytes() == stored
    assert exact.state_bytes() == state
    assert allocated == stored + state


def flops_are_predicted(model: ReferenceModel, step: Step) -> None:
    model.set_mla(step.mla)
    cache = model.new_cache(int(step.batch), int(step.cached + step.new_tokens))
    cache.length = int(step.cached)
    counted = count_flops(model, cache, int(step.new_tokens), logits=step.logits)
    stated = {
        path: sum(part.flops for part in op.parts if part.kind in COUNTED or part.name in PRODUCTS)
        for path, op in by_path(model.config, step).items()
    }
    assert counted == stated


def shortened(config: ModelConfig) -> ModelConfig:
    """The first two blocks of each sort: the same attention, FFN and memory, in and out."""
    blocks = range(config.num_hidden_layers)
    attentions = [config.attention_of(i) for i in blocks]
    ffns: dict[int, FfnKind] = {i: ffn for ffn, layers in config.own_ffn_groups for i in layers}
    ffns |= dict.fromkeys(set(blocks).difference(config.fed_layers), NoFfn())
    inputs: dict[int, list[MemoryKind]] = {}  # by block
    outputs: list[int] = []
    for memory in config.memory:
        for a, b in memory.placement(len(blocks)):
            inputs.setdefault(a, []).append(memory)
            outputs.append(b)
    beside: dict[int, FfnKind] = {}  # by block
    for shortcut, placement in zip(config.shortcuts, config.shortcut_placements, strict=True):
        beside |= dict.fromkeys([a for a, _ in placement], shortcut.ffn)
        outputs += [b for _, b in placement]
    sorts: dict[object, list[int]] = {}
    for i in blocks:
        own = attentions[i], ffns.get(i), beside.get(i)
        sort = *own, tuple(inputs.get(i, ())), outputs.count(i)
        sorts.setdefault(sort, []).append(i)
    kept = sorted(i for alike in sorts.values() for i in alike[:2])
    return replace(
        config,
        num_hidden_layers=len(kept),
        overrides=tuple(
            Override(layers=str(new), attention=attentions[old], ffn=ffns.get(old))
            for new, old in enumerate(kept)
        ),
        shortcuts=tuple(
            replace(shortcut, layers=str(kept.index(a)), skips=kept.index(b) - kept.index(a))
            for shortcut, pairs in zip(config.shortcuts, config.shortcut_placements, strict=True)
            for a, b in pairs
            if a in kept
        ),
        memory=tuple(_placed(memory, kept, len(blocks)) for memory in config.memory),
    )


def _placed(memory: MemoryKind, kept: list[int], num_layers: int) -> MemoryKind:
    """The memory at the blocks that are left; an output goes after the next of them."""
    if memory.position == "input":
        return memory
    pairs = []
    for a, b in memory.placement(num_layers):
        if a in kept:
            after = min((i for i in kept if i >= b), default=kept[-1])
            skips = memory.position == "beside_ffn"
            pairs.append(f"{kept.index(a)}:{kept.index(after)}" if skips else f"{kept.index(a)}")
    kind: Any = memory  # every kind is a dataclass, which their base does not say
    placed: MemoryKind = replace(kind, layers=",".join(pairs))
    return placed


def kinds_of(config: ModelConfig) -> set[object]:
    kinds = {kind for kind, _ in (*config.attention_groups, *config.ffn_groups)}
    return kinds | {type(memory) for memory in config.memory}


@every_preset
@pytest.mark.parametrize("dtype", DTYPES)
def test_all_but_flops_at_full_depth(name: str, dtype: str) -> None:
    model = build_model(PRESETS[name], device="meta", dtype=DTYPES[dtype])
    structure_is_predicted(model, step_of(DECODE[0], dtype=dtype))
    for sizes in (*DECODE, *PREFILL):
        cache_is_predicted(model, step_of(sizes, dtype=dtype))


@pytest.mark.slow
@every_preset
def test_flops_at_full_depth(name: str) -> None:
    model = build_model(PRESETS[name], device="meta")
    for sizes in (DECODE[0], PREFILL[0]):
        flops_are_predicted(model, step_of(sizes))


@every_preset
def test_flops_in_every_workload(name: str) -> None:
    config = shortened(PRESETS[name])
    assert kinds_of(config) == kinds_of(PRESETS[name])
    model = build_model(config, device="meta")
    for sizes in (*DECODE, *PREFILL):
        for step in both_modes(config, step_of(sizes)):
            flops_are_predicted(model, step)


@pytest.mark.slow
@given(
    config=models(multiple_of=8),  # bf16 elements in the 16 bytes that grouped products want
    dtype=st.sampled_from([*DTYPES]),
    logits=st.sampled_from(get_args(Logits)),
    decode=st.tuples(st.integers(1, 3), st.integers(0, 12), st.just(1)),
    prefill=st.tuples(st.integers(1, 3), st.integers(0, 12), st.integers(2, 12)),
)
@settings(max_examples=RANDOM_MODELS)
def test_random_models(
    *, config: ModelConfig, dtype: str, logits: Logits, decode: Sizes, prefill: Sizes
) -> None:
    # PyTorch's sum over the scores of a single index head is no product, so that it counts none.
    mixers = [mixer for mixer, _ in config.attention_groups]
    assume(
        not any(isinstance(mixer, LatentAttention) and mixer.index_n_heads == 1 for mixer in mixers)
    )
    model = build_model(config, device="meta", dtype=DTYPES[dtype])
    structure_is_predicted(model, step_of(decode, dtype=dtype))
    for sizes in (decode, prefill):
        cache_is_predicted(model, step_of(sizes, dtype=dtype))
    model = build_model(config, device="meta")  # bf16: all that grouped products take on meta
    for sizes in (decode, prefill):
        for step in both_modes(config, step_of(sizes, logits=logits)):
            flops_are_predicted(model, step)
