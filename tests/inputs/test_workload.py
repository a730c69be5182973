"""A workload: its bounds, its defaults, and the step it stands for."""

from typing import Any

import numpy as np
import pytest

from costmodel.errors import InputError
from costmodel.inputs.workload import MAX_BATCH, MAX_CONTEXT, MAX_NEW_TOKENS, Workload
from costmodel.layers.dtype import DTYPES, KV_LAYOUTS, parse_dtype
from costmodel.layers.formats import Formats
from costmodel.layers.operator import Step
from costmodel.routing.popularity import Uniform, Zipf
from costmodel.strict import validated


def workload(**fields: Any) -> Workload:  # noqa: ANN401
    return validated(Workload, fields, where="workload")


def test_defaults_are_one_decode_step_in_bf16() -> None:
    assert workload() == Workload()
    assert Workload().step() == Step(
        batch=1,
        new_tokens=1,
        cached=2048,
        tokens=1,
        formats=Formats(default=DTYPES["bf16"]),
        kv_dtype=DTYPES["bf16"],
        routing=Uniform(),
        attention_flops="causal",
        logits="last",
        mla="absorbed",
        mla_cache="latent",
        window_cache="window",
        activation_bytes=2,
    )


def test_every_field_reaches_the_step() -> None:
    given = Workload(
        phase="prefill",
        batch=3,
        context=7,
        new_tokens=5,
        formats=Formats(default=parse_dtype("int4:32", field="dtype")),
        kv_dtype=DTYPES["fp8"],
        routing=Zipf(1.0),
        attention_flops="full",
        logits="all",
        mla_cache="expanded",
        window_cache="whole",
    )
    assert given.step() == Step(
        batch=3,
        new_tokens=5,
        cached=7,
        tokens=15,
        formats=Formats(default=parse_dtype("int4:32", field="dtype")),
        kv_dtype=DTYPES["fp8"],
        routing=Zipf(1.0),
        attention_flops="full",
        logits="all",
        mla="expanded",
        mla_cache="expanded",
        window_cache="whole",
        activation_bytes=2,
    )


@pytest.mark.parametrize(
    ("phase", "mla", "mode"),
    [
        ("decode", None, "absorbed"),
        ("prefill", None, "expanded"),
        ("decode", "expanded", "expanded"),
        ("prefill", "absorbed", "absorbed"),
    ],
)
def test_mla_follows_the_phase_unless_chosen(phase: str, mla: str | None, mode: str) -> None:
    given = workload(phase=phase, mla=mla)
    assert given.mla_mode == mode
    assert given.step().mla == mode


def test_an_expanded_cache_holds_no_latents_to_attend_to() -> None:
    assert workload(mla_cache="expanded").mla_mode == "expanded"
    with pytest.raises(InputError, match=r"mla='absorbed': .*mla_cache='expanded'"):
        workload(mla_cache="expanded", mla="absorbed")
    with pytest.raises(ValueError, match=r"kv_dtype=fp8_ds_mla: .*mla_cache='expanded'"):
        Workload(mla_cache="expanded", kv_dtype=KV_LAYOUTS["fp8_ds_mla"])


@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_have_16_bits_or_32(dtype: str) -> None:
    step = Workload(formats=Formats(default=DTYPES[dtype]), kv_dtype=DTYPES["fp32"]).step()
    assert step.activation_bytes == (4 if dtype == "fp32" else 2)


def test_arrays_take_the_place_of_single_values() -> None:
    step = Workload(phase="prefill", batch=2, new_tokens=3).step(
        batch=np.array([1, 4]), context=np.array([[0], [9]]), routing=Zipf(2.0)
    )
    assert isinstance(step.batch, np.ndarray)
    assert isinstance(step.cached, np.ndarray)
    assert isinstance(step.tokens, np.ndarray)
    assert step.batch.tolist() == [1, 4]
    assert step.cached.tolist() == [[0], [9]]
    assert step.tokens.tolist() == [3, 12]
    assert step.new_tokens == 3
    assert step.routing == Zipf(2.0)
    assert Workload(phase="prefill").step(new_tokens=4).tokens == 4


@pytest.mark.parametrize(
    ("fields", "given", "rule"),
    [
        ({"phase": "train"}, "phase='train'", "'decode' or 'prefill'"),
        ({"batch": 0}, "batch=0", "greater than or equal to 1"),
        ({"batch": -1}, "batch=-1", "greater than or equal to 1"),
        ({"batch": MAX_BATCH + 1}, "batch=1048577", "less than or equal to 1048576"),
        ({"batch": 1.0}, "batch=1.0", "valid integer"),
        ({"batch": "1"}, "batch='1'", "valid integer"),
        ({"batch": True}, "batch=True", "valid integer"),
        ({"context": -1}, "context=-1", "greater than or equal to 0"),
        ({"context": MAX_CONTEXT + 1}, "context=134217729", "less than or equal to 134217728"),
        ({"phase": "prefill", "new_tokens": 0}, "new_tokens=0", "greater than or equal to 1"),
        (
            {"phase": "prefill", "new_tokens": MAX_NEW_TOKENS + 1},
            "new_tokens=16777217",
            "less than or equal to 16777216",
        ),
        ({"new_tokens": 2}, "new_tokens=2", "is 1 in a decode step"),
        ({"attention_flops": "square"}, "attention_flops='square'", "'causal' or 'full'"),
        ({"logits": "none"}, "logits='none'", "'last' or 'all'"),
        ({"mla": "both"}, "mla='both'", "'absorbed' or 'expanded'"),
        ({"backend": "xla"}, "backend='xla'", "'torch' or 'fused'"),
        ({"seed": 1}, "seed=1", "Unexpected keyword argument"),
    ],
)
def test_rules_name_field_value_and_rule(fields: dict[str, Any], given: str, rule: str) -> None:
    with pytest.raises(InputError) as caught:
        workload(**fields)
    message = str(caught.value)
    assert message.startswith("workload: ")
    assert given in message
    assert rule in message


def test_the_bounds_themselves_are_allowed() -> None:
    largest = Workload(
        phase="prefill", batch=MAX_BATCH, context=MAX_CONTEXT, new_tokens=MAX_NEW_TOKENS
    ).step()
    assert largest.tokens == MAX_BATCH * MAX_NEW_TOKENS
    assert workload(batch=1, context=0).step().cached == 0


def test_a_workload_is_checked_when_made_in_python_too() -> None:
    with pytest.raises(ValueError, match="new_tokens=2: is 1 in a decode step"):
        Workload(new_tokens=2)
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        Workload(batch=0)
