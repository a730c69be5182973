"""Which recordings stand for which models: all fields are equal but for those that are named."""

from dataclasses import replace

import pytest

from costmodel.inputs.catalog import load_model
from costmodel.inputs.model import Override
from costmodel.layers.attention import Attention
from costmodel.validation.measured_model import measured_alike
from tests.committed import NAMES, recording
from tests.steps import TINY_ATTENTION, TINY_FFN, tiny_model

HEAD = replace(TINY_ATTENTION, qk_norm="head")
FULL = replace(TINY_ATTENTION, qk_norm="full")


def test_names_and_notes_do_not_count() -> None:
    named = tiny_model(
        name="another (reconstruction)", source="a paper", notes=("one",), assumptions=("two",),
        published={"total_parameters": 3.0},
    )  # fmt: skip
    assert measured_alike(tiny_model(), named)


@pytest.mark.parametrize(
    ("recorded", "model", "alike"),
    [(FULL, HEAD, True), (HEAD, FULL, True), (TINY_ATTENTION, HEAD, False), (FULL, FULL, True)],
)
def test_qk_norm_may_be_of_a_head_or_over_all(
    recorded: Attention, model: Attention, *, alike: bool
) -> None:
    assert measured_alike(tiny_model(attention=recorded), tiny_model(attention=model)) == alike
    overridden = [
        tiny_model(overrides=(Override(layers="0", attention=one, ffn=TINY_FFN),))
        for one in (recorded, model)
    ]
    assert measured_alike(*overridden) == alike


def test_any_other_field_counts() -> None:
    for fields in ({"vocab_size": 12}, {"attention": replace(TINY_ATTENTION, head_dim=8)}):
        assert not measured_alike(tiny_model(), tiny_model(**fields))
    assert not measured_alike(
        tiny_model(), tiny_model(overrides=(Override(layers="0", ffn=TINY_FFN),))
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recording_differs_from_its_preset_in_qk_norm_at_most(name: str) -> None:
    """Older recordings of the models of UltraMemV2's paper have QK-norm over all heads."""
    made = recording(name)
    assert made.preset is not None
    preset = load_model(made.preset)
    recorded, published = made.model.attention, preset.attention
    assert isinstance(recorded, Attention)
    assert isinstance(published, Attention)
    of_the_paper = made.preset not in ("olmoe-1b-7b", "llama-3.1-8b")
    older = name.startswith("again") or "ultramem-" in name or "memory-plus" in name
    assert (recorded.qk_norm != published.qk_norm) == (of_the_paper and older)
    assert replace(recorded, qk_norm=published.qk_norm) == published
    assert (made.model.ffn, made.model.memory) == (preset.ffn, preset.memory)
