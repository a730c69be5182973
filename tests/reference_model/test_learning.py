"""Gradients: tiny models of every kind learn to copy; memory layers against finite differences.

Left out by design: `u` and `v` are buffers set from the cores, so cores get gradients through the
scores of the rows only; a router's correction bias takes part in the choice alone.
"""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from costmodel.layers.ngram import Ngram
from costmodel.layers.ultramem import UltraMem
from reference_model.model import ReferenceModel, build_model
from tests.reference_model.tiny import GQA, MODELS, made, noise, small, ultramem_v2
from tests.steps import tiny_model

pytestmark = pytest.mark.slow  # each test trains, or takes differences

BATCH, LENGTH, STEPS = 16, 12, 150
ROUTERS_BIASES = ("score_correction_bias", "image_correction_bias")
INDEXER = ".attention.index_"


def loss_of(model: ReferenceModel, generator: torch.Generator) -> Tensor:
    """Copy what stood one token back: cross-entropy over the positions that have one."""
    ids = torch.randint(model.config.vocab_size, (BATCH, LENGTH), generator=generator)
    logits = model(ids, model.new_cache(BATCH, LENGTH), logits="all")
    return nn.functional.cross_entropy(logits[:, 1:].flatten(0, 1), ids[:, :-1].flatten())


@pytest.mark.parametrize("name", MODELS)
def test_a_tiny_model_learns_to_copy(name: str) -> None:
    """From a guess, ln 23 = 3.1, to less than half of it in 150 steps.

    On some CPUs 100 are enough, on others not.
    """
    model = build_model(MODELS[name], dtype=torch.float32)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(STEPS):
        loss = loss_of(model, generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    guess = math.log(model.config.vocab_size)
    assert abs(losses[0] - guess) < 0.5
    assert sum(losses[-5:]) / 5 < guess / 2


def test_a_table_of_bigrams_learns_a_rule_that_no_attention_sees() -> None:
    """The next id is a random function of the last two, and attention reaches one token back.

    At its head the layer knows the bigram: from ln 23 to nearly 0 on bigrams that it has seen. With
    one token alone the best guess is a uniform one.
    """
    window = replace(GQA, sliding_window=1)  # a token sees itself
    table = Ngram(layers="0", max_ngram_size=2, num_heads=4, vocab_size_base=1000, head_dim=8)
    losses = {}
    for memory in ((), (table,)):
        config = small(*memory, attention=window, num_hidden_layers=1)
        model = build_model(config, dtype=torch.float32)
        optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
        generator = torch.Generator().manual_seed(0)
        vocabulary = config.vocab_size
        rule = torch.randint(vocabulary, (vocabulary, vocabulary), generator=generator)
        for _ in range(STEPS):
            ids = torch.randint(vocabulary, (4 * BATCH, LENGTH), generator=generator)
            logits = model(ids, model.new_cache(4 * BATCH, LENGTH), logits="all")[:, 1:]
            wanted = rule[ids[:, :-1], ids[:, 1:]]
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        losses[len(memory)] = loss.item()
    guess = math.log(vocabulary)
    assert losses[0] > 0.8 * guess
    assert losses[1] < 0.1 * guess


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_but_those_that_only_choose_gets_a_gradient(name: str) -> None:
    """A router's bias and an indexer only choose: they are trained by losses of their own."""
    model = made(MODELS[name])
    loss_of(model, torch.Generator().manual_seed(0)).backward()
    without = {
        path
        for path, parameter in model.named_parameters()
        if parameter.grad is None or not bool(parameter.grad.any())
    }
    biases = {path for path, _ in model.named_parameters() if path.endswith(ROUTERS_BIASES)}
    assert without - biases == {path for path in dict(model.named_parameters()) if INDEXER in path}
    assert biases <= without
    assert bool(biases) == (name in {"deepseek", "hyper_connections"})


@pytest.mark.parametrize("name", ["ultramem_v2", "ultramem", "memory_plus", "peer", "ngram"])
def test_only_the_rows_that_were_read_get_a_gradient(name: str) -> None:
    model = made(MODELS[name])
    loss_of(model, torch.Generator().manual_seed(0)).backward()
    read: dict[int, set[int]] = {}
    for path, leaf in model.leaves().items():
        if path.endswith("memory.retrieve"):
            memory = path.rpartition(".")[0]
            table = "up" if name == "peer" else "values"
            view: Any = model.get_submodule(f"{memory}.{table}").view
            selected: Any = leaf.selected
            rows = selected + view.offset
            rows_read = read.setdefault(id(view.table), set())
            rows_read |= set((rows % len(view.table)).flatten().tolist())
        elif path.endswith("ngram.hash"):
            addressed: Any = leaf.selected
            whole = model.get_parameter(path.replace("hash", "rows.weight"))
            read[id(whole)] = set(addressed.flatten().tolist())
    assert read
    tables = {id(parameter): parameter for parameter in model.parameters()}
    for key, rows_read in read.items():
        gradient = tables[key].grad
        assert gradient is not None
        assert set(gradient.any(1).nonzero()[:, 0].tolist()) == rows_read


@pytest.mark.parametrize(
    "config",
    [
        ultramem_v2(),
        ultramem_v2(value_expansion=2, num_heads=2, first_stage_topk=3),
        ultramem_v2(share_ratio=None, pre_value_dim=None, tucker_cores=1),
    ],
    ids=["v2", "expanded", "v1"],
)
def test_gradients_of_a_memory_layer_are_finite_differences(config: UltraMem) -> None:
    """In float64, by every parameter and the input; the chosen rows must not change nearby."""
    model = made(tiny_model(hidden_size=8, memory=(config,)), dtype=torch.float64)
    layer = model.get_submodule("layers.1.memory")
    names = [name for name, _ in layer.named_parameters()]
    buffers = dict(layer.named_buffers())

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        given = dict(zip(names, parameters, strict=True)) | buffers
        out: Tensor = functional_call(layer, given, (x,))
        return out

    x = noise(1, 3, 8, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(run, (x, *(p for _, p in layer.named_parameters())))
