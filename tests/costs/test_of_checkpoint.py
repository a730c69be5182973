"""Whose formats a step has: a user's, those of the user's file, those of a release."""

from dataclasses import replace

import pytest

from costmodel.costs.footprint import footprint
from costmodel.costs.predict import predict
from costmodel.costs.step import step_costs
from costmodel.errors import InputError
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.parse import parse_workload
from costmodel.inputs.workload import OfCheckpoint, Workload
from costmodel.layers.dtype import parse_dtype
from costmodel.layers.formats import Storage, parse_formats
from costmodel.routing.popularity import Uniform
from tests.steps import tiny_model
from tests.strategies import PRESETS

CHECKPOINT = OfCheckpoint(required=True, kv_dtype=None)
H200 = load_hardware("h200")


STORAGE = Storage(
    weights=parse_formats("experts=mxfp4", field="dtype"),
    kv_dtype=parse_dtype("fp8:tensor", field="kv_dtype"),
    origin="a file",
)


@pytest.mark.parametrize(
    ("dtype", "kv", "source", "weights", "cache"),
    [
        (None, None, "file", "experts=mxfp4", "fp8:tensor"),
        (None, "int8", "file", "experts=mxfp4", "int8"),
        (None, None, "preset", "bf16", "bf16"),
        (None, "int8", "preset", "bf16", "int8"),
        ("checkpoint", None, "preset", "experts=mxfp4", "fp8:tensor"),
        ("checkpoint", "bf16", "preset", "experts=mxfp4", "bf16"),
        ("bf16", None, "file", "bf16", "bf16"),
        ("experts=fp8", None, "file", "experts=fp8", "bf16"),
    ],
)
def test_a_file_states_its_default_and_a_user_has_the_last_word(
    dtype: str | None,
    kv: str | None,
    source: str,
    weights: str,
    cache: str,
) -> None:
    model = replace(tiny_model(), storage=replace(STORAGE, by_default=source == "file"))
    asked = parse_workload(
        phase="decode", batch=1, context=0, dtype=dtype, kv_dtype=kv, routing=Uniform()
    )
    resolved = predict(model, asked, H200).workload
    assert resolved.formats.label == weights
    assert resolved.kv_dtype.label == cache
    from_file = dtype == "checkpoint" or (dtype is None and source == "file")
    assert (resolved.dtype_label == "checkpoint") == from_file
    assert resolved.of_model(tiny_model()) == resolved


def test_a_model_without_a_checkpoint_refuses_its_formats() -> None:
    with pytest.raises(InputError, match="dtype='checkpoint': needs a model that states"):
        predict(tiny_model(), Workload(of_checkpoint=CHECKPOINT), H200)


def test_the_largest_batch_is_found_with_the_stored_bytes() -> None:
    model = PRESETS["gpt-oss-20b"]
    found = predict(model, Workload(of_checkpoint=CHECKPOINT), load_hardware("rtx-4090"))
    step = found.workload.step(batch=int(found.memory.max_batch))
    costs = step_costs(model, step)
    at = footprint(costs.operators, step, costs.kv_cache, 2880, 25_250_627_584)
    assert at.fits
    assert found.memory.max_batch > 1
