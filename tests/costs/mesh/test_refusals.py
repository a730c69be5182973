"""What does not divide over a mesh is refused, by its field, its value and the rule."""

import re
from typing import Any

import pytest

from costmodel.costs.predict import predict
from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.mesh import parse_mesh
from costmodel.inputs.workload import Workload
from costmodel.layers.mesh import AskedMesh, Mesh
from costmodel.layers.placement import Placement


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"tp": 0}, "tp=0: is at least 1"),
        ({"ep": 3, "tp": 2, "dp": 2}, "ep=3: does not divide tp x dp = 2 x 2 = 4"),
        ({"tp": 2**8, "dp": 2**8}, "gpus=65536: tp x dp x pp = 256 x 256 x 1 exceeds 16384"),
        ({"redundant_experts": 4, "tp": 2}, "redundant_experts=4: copies of experts need several"),
        ({"redundant_experts": -1}, "redundant_experts=-1: is at least 0"),
    ],
)
def test_no_mesh(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Mesh(**sizes)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"gpus": "6", "tp": "4"}, "gpus=6: is tp x dp x pp, which tp=4 does not make"),
        (
            {"gpus": "16", "tp": "2", "dp": "2", "pp": "2"},
            "gpus=16: is tp x dp x pp, which tp=2 x dp=2 x pp=2 does not make",
        ),
        ({"gpus": "0"}, "gpus='0'"),
        ({"gpus": "some"}, "gpus='some'"),
        ({"gpus": None, "tp": "two"}, "tp='two'"),
    ],
)
def test_no_typed_mesh(texts: dict[str, Any], message: str) -> None:
    gpus = texts.pop("gpus")
    with pytest.raises(InputError, match=re.escape(message)):
        parse_mesh(gpus, **texts)


def test_a_typed_mesh() -> None:
    assert parse_mesh(None) == Mesh()
    assert parse_mesh(None, tp="2", dp="4") == Mesh(tp=2, dp=4)
    assert parse_mesh("8") == AskedMesh(gpus=8)
    assert parse_mesh("auto", pp="1") == AskedMesh(fewest=True, pp=1)


@pytest.mark.parametrize(
    ("model", "mesh", "message"),
    [
        ("llama-3.1-8b", Mesh(tp=3), "tp=3: is neither a divisor nor a multiple of num_key_value"),
        ("llama-3.1-8b", Mesh(tp=24), "tp=24: does not divide num_attention_heads=32"),
        ("olmoe-227m-1.2b", Mesh(tp=8), "tp=8: is neither a divisor nor a multiple of num_key"),
        ("lfm2-350m", Mesh(tp=2), "tp=2: layers of kind 'short_conv' are not divided"),
        ("mixtral-8x7b", Mesh(dp=16, ep=16), "ep=16: does not divide num_experts=8"),
        (
            "deepseek-v2-lite",
            Mesh(dp=512),
            "ep=1: each expert is divided over tp x dp / ep = 512 GPUs, which does not divide moe_",
        ),
        ("olmoe-1b-7b", Mesh(dp=512), "gpus=512: of one GPU, moe_intermediate_size=2: "),
        ("deepseek-v3", Mesh(pp=2), "pp=2: does not divide num_hidden_layers=61"),
        ("ultramemv2-1b-7b", Mesh(pp=2), "pp=2: layers.{0-15}.memory.pre_values reads one table"),
        ("memory-plus-227m-1.2b", Mesh(pp=2), "reads one table, and its layers stand in 2 stages"),
        ("gemma-3n-e4b", Mesh(pp=5), "pp=5: layer 21 reads the cache of layer 18"),
        ("longcat-flash-chat", Mesh(pp=8), "pp=8: what leaves layer 6 joins behind layer 7"),
        ("ultramemv2-227m-1.2b", Mesh(dp=512), "tables='width': a row of"),
        (
            "mixtral-8x7b",
            Mesh(dp=4, ep=4, redundant_experts=2),
            "redundant_experts=2: with num_experts=8 these do not divide over ep=4 sets",
        ),
    ],
)
def test_a_model_that_does_not_divide(model: str, mesh: Mesh, message: str) -> None:
    work = Workload(batch=512, mesh=mesh)
    with pytest.raises(InputError, match=re.escape(message)):
        predict(load_model(model), work, load_hardware("h200"))


def test_sequences_that_do_not_divide() -> None:
    model, gpu = load_model("llama-3.1-8b"), load_hardware("h200")
    with pytest.raises(InputError, match=r"dp=4: does not divide batch=6"):
        predict(model, Workload(batch=6, mesh=Mesh(dp=4)), gpu)
    with pytest.raises(InputError, match=r"pp=4: batch / dp = 6 sequences of a group"):
        predict(model, Workload(batch=6, mesh=Mesh(pp=4)), gpu)
    few = predict(model, Workload(batch=3, mesh=Mesh(pp=4)), gpu)
    assert few.parallel is not None
    assert few.parallel.step.microbatches == 3


def test_tables_outside_hbm() -> None:
    work = Workload(batch=8, mesh=Mesh(dp=2), placement=Placement(tables="host"))
    with pytest.raises(InputError, match=r"placement='tables=host': .* on one GPU alone"):
        predict(load_model("ultramemv2-1b-7b"), work, load_hardware("h200"))
