"""The table `[storage]`: what it states, how it is written back, what is refused."""

from pathlib import Path
from typing import Any

import pytest

from costmodel.costs.operators import build_operators
from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model
from costmodel.inputs.model import ModelConfig, model_from_table
from costmodel.inputs.model_toml import model_table, write_model
from costmodel.inputs.output_file import OutputFile
from costmodel.inputs.storage import LEAVES, storage_of, storage_table
from costmodel.inputs.workload import Workload
from costmodel.layers.base import MemoryKind
from costmodel.layers.dtype import DTYPES, Dtype
from costmodel.layers.formats import Formats, LeafFormat, Storage
from tests.steps import tiny_model
from tests.strategies import PRESETS

GPTQ = Dtype(name="int4", bits=4, group=64, scale_bits=16, zero_bits=4, column_bits=32)
NF4 = Dtype(name="nf4", bits=4, group=64, scale_bits=32)
FULL = Storage(
    weights=Formats(
        default=GPTQ,
        groups=(("embedding", DTYPES["bf16"]), ("router", NF4)),
        leaves=(
            LeafFormat(leaf="attention.qkv", layers=(0, 1), dtype=DTYPES["fp8"]),
            LeafFormat(leaf="lm_head", layers=None, dtype=DTYPES["mxfp4"]),
        ),
    ),
    kv_dtype=Dtype(name="fp8", bits=8, tensor_bits=32),
    origin="quantization_config: gptq",
    notes=("One note.",),
    by_default=False,
)


def with_storage(table: object) -> ModelConfig:
    return model_from_table({**model_table(tiny_model()), "storage": table}, where="model")


def test_a_table_states_formats_as_text() -> None:
    storage = with_storage(
        {
            "origin": "config.json",
            "weights": {"default": "fp8:128x128", "groups": {"experts": "mxfp4"}},
            "leaves": [{"leaf": "ffn.down", "layers": "1", "dtype": "bf16"}],
            "kv_dtype": "fp8:tensor",
        }
    ).storage
    assert storage == Storage(
        weights=Formats(
            default=Dtype(name="fp8", bits=8, group=128, scale_bits=32, block_rows=128),
            groups=(("experts", DTYPES["mxfp4"]),),
            leaves=(LeafFormat(leaf="ffn.down", layers=(1,), dtype=DTYPES["bf16"]),),
        ),
        kv_dtype=Dtype(name="fp8", bits=8, tensor_bits=32),
        origin="config.json",
    )
    assert storage.by_default  # a user's file is costed as it is stored


@pytest.mark.parametrize("storage", [FULL, PRESETS["deepseek-v3"].storage], ids=["all", "preset"])
def test_every_storage_reads_back(storage: Storage, tmp_path: Path) -> None:
    assert storage_of(storage_table(storage)) == storage
    model = with_storage(storage_table(storage))
    assert model.storage == storage
    path = tmp_path / "model.toml"
    write_model(model, OutputFile(path=path))
    assert load_model(str(path)) == model


def test_presets_are_bf16_unless_told_otherwise() -> None:
    stated = {name: model.storage for name, model in PRESETS.items() if model.storage}
    assert set(stated) == {
        *("gpt-oss-20b", "gpt-oss-120b", "deepseek-v3", "deepseek-v3.2"),
        *("deepseek-v4-flash", "deepseek-v4.1-flash", "minimax-m2.5"),
        "engram-v4.1-flash-moe-reconstruction",
    }
    assert not any(storage.by_default for storage in stated.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": {"default": "fp9"}}, "format='fp9': is one of fp32"),
        ({"weights": {"default": 8}}, "format=8: is text, or a table"),
        ({"weights": {"default": {"name": "x", "bits": 0}}}, "bits=0"),
        (
            {"weights": {"default": {"name": "x", "bits": 4, "block_rows": 8}}},
            "block_rows=8: needs",
        ),
        ({"weights": {"default": {"name": "x", "bits": 4, "zero_bits": 8}}}, "zero_bits=8: needs"),
        ({"weights": {"default": {"name": "x y", "bits": 4}}}, "name='x y'"),
        ({"weights": {"default": "fp8", "groups": {"norm2": "fp8"}}}, "groups.norm2"),
        ({"weights": {}}, "weights.default: is missing"),
        ({"origin": ""}, "origin=''"),
        ({"colour": 1}, "colour=1"),
        ({"kv_dtype": "fp9"}, "format='fp9'"),
        ({"leaves": [{"leaf": "ffn.up", "dtype": "fp8"}]}, "leaf='ffn.up': is not one of embed"),
        (
            {"leaves": [{"leaf": "embed", "layers": "0", "dtype": "fp8"}]},
            "embed stands in no layer",
        ),
        ({"leaves": [{"leaf": "ffn.down", "layers": "7", "dtype": "fp8"}]}, "names layer 7"),
        ({"leaves": [{"leaf": "ffn.down", "layers": "x", "dtype": "fp8"}]}, "'x'"),
    ],
)
def test_a_broken_rule_is_named(change: dict[str, Any], message: str) -> None:
    table = {"origin": "here", "weights": {"default": "fp8"}, **change}
    with pytest.raises(InputError) as caught:
        with_storage(table)
    assert str(caught.value).startswith("model: ")
    assert message in str(caught.value)


def test_a_storage_is_a_table() -> None:
    with pytest.raises(InputError, match="storage='fp8': is a table"):
        with_storage("fp8")


def test_the_leaves_that_may_be_stated_are_those_of_the_presets_matrices() -> None:
    found = {
        weight.leaf
        for model in PRESETS.values()
        for operator in build_operators(model, Workload().step())
        for weight in operator.weights
        if weight.matrix and weight.leaf and not isinstance(operator.layer_kind, MemoryKind)
    }
    assert found == set(LEAVES)
