"""Which recordings stand for which models: all fields are equal but for those that are named."""

from dataclasses import replace
from pathlib import Path

import pytest

from costmodel.inputs.catalog import load_model
from costmodel.inputs.model import Override
from costmodel.layers.attention import Attention
from costmodel.validation.measured_model import measured_alike
from tests.committed import FOLDER, NAMES, recording
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
def test_a_shipped_recording_is_of_its_preset(name: str) -> None:
    """Those with 4 key-value heads are of the files beside them."""
    made = recording(name)
    stem = Path(name).stem.removeprefix("h200-").removesuffix("-fused")
    preset = load_model(made.preset or str(FOLDER / "grouped" / f"{stem}.toml"))
    assert (made.model.attention, made.model.ffn, made.model.memory) == (
        preset.attention,
        preset.ffn,
        preset.memory,
    )
