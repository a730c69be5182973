"""Whole models of every kind against the oracle, over every way to feed the cache."""

from functools import cache

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Mla
from costmodel.layers.mla import LatentAttention
from reference_model.model import ReferenceModel, build_model
from tests.reference_model import model_oracle
from tests.reference_model.oracles import Array, Choice
from tests.reference_model.running import LENGTH, WAYS, in_way, model_step
from tests.reference_model.tiny import MODELS, arrays, assert_close, ids, made, with_gap
from tests.strategies import models

BATCH = 2
TOLERANCE = 5e-6


@cache
def truths(name: str) -> tuple[ReferenceModel, Tensor, list[Array]]:
    """A model, two sequences that no rounding can send to other rows or experts, their logits."""
    config = MODELS[name]
    model = made(config)

    def truth(seed: int, choice: Choice) -> tuple[Tensor, list[Array]]:
        sequences = ids(config, BATCH, LENGTH, seed)
        runs = [model_oracle.run(config, arrays(model), one.tolist()) for one in sequences]
        choice.gap = min(one.choice.gap for one in runs)
        return sequences, [one.logits for one in runs]

    return model, *with_gap(truth)


def modes(config: ModelConfig) -> tuple[Mla, ...]:
    latent = isinstance(config.attention, LatentAttention)
    return ("absorbed", "expanded") if latent else ("absorbed",)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_equals_the_oracle_however_it_is_fed(name: str, way: str) -> None:
    model, sequences, want = truths(name)
    for mode in modes(model.config):
        model.set_mla(mode)
        got = in_way(way, model_step(model), sequences, model.new_cache(BATCH, LENGTH + 1))
        for one, logits in zip(got, want, strict=True):
            assert_close(one, logits, TOLERANCE)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_a_batch_equals_its_sequences_alone(name: str) -> None:
    model, sequences, _ = truths(name)
    whole = model(sequences, model.new_cache(BATCH, LENGTH), logits="all")
    for index in range(BATCH):
        alone = model(sequences[index : index + 1], model.new_cache(1, LENGTH), logits="all")
        assert_close(alone[0], whole[index], TOLERANCE)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_the_last_logits_are_the_last_of_all(name: str) -> None:
    model, sequences, _ = truths(name)
    whole = model(sequences, model.new_cache(BATCH, LENGTH), logits="all")
    last = model(sequences, model.new_cache(BATCH, LENGTH))
    assert last.shape == (BATCH, 1, model.config.vocab_size)
    assert_close(last, whole[:, -1:], TOLERANCE)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_folding_changes_no_logits_however_often(name: str) -> None:
    config = MODELS[name]
    _, sequences, want = truths(name)
    folded = made(config).fold().fold()
    got = folded(sequences, folded.new_cache(BATCH, LENGTH), logits="all")
    for one, logits in zip(got, want, strict=True):
        assert_close(one, logits, TOLERANCE)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_what_comes_later_changes_nothing_before(name: str) -> None:
    model, sequences, _ = truths(name)
    changed = sequences.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % model.config.vocab_size
    before = model(sequences, model.new_cache(BATCH, LENGTH), logits="all")
    after = model(changed, model.new_cache(BATCH, LENGTH), logits="all")
    assert_close(after[:, :6], before[:, :6], TOLERANCE)
    assert not torch.allclose(after[:, 6:], before[:, 6:], rtol=0.01)


def test_a_seed_makes_the_same_model_and_another_one_another() -> None:
    for config in MODELS.values():
        first, second, other = (made_by_seed(config, seed) for seed in (3, 3, 4))
        for name, value in first.items():
            assert torch.equal(value, second[name])
        assert any(not torch.equal(value, other[name]) for name, value in first.items())


def made_by_seed(config: ModelConfig, seed: int) -> dict[str, Tensor]:
    return build_model(config, dtype=torch.float32, seed=seed).state_dict()


@settings(max_examples=40)
@given(
    config=models(multiple_of=4),
    way=st.sampled_from(sorted(WAYS)),
    mode=st.sampled_from(["absorbed", "expanded"]),
    seed=st.integers(0, 2**16),
)
def test_random_models_equal_the_oracle(
    config: ModelConfig, way: str, mode: Mla, seed: int
) -> None:
    model = made(config, seed=seed)
    model.set_mla(mode)
    sequences = ids(config, 1, LENGTH, seed)
    truth = model_oracle.run(config, arrays(model), sequences[0].tolist())
    assume(truth.choice.gap > 5e-5)
    got = in_way(way, model_step(model), sequences, model.new_cache(1, LENGTH + 1))
    assert_close(got[0], truth.logits, 1e-4)
