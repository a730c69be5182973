"""No input makes a question take more memory or time than is stated."""

import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

import costmodel.questions.sweep
from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.model import MAX_DIFFERENT, ModelConfig, model_from_table
from costmodel.inputs.output_file import OutputFile
from costmodel.inputs.workload import Workload
from costmodel.questions.compare import compare
from costmodel.questions.grid import Grid
from costmodel.questions.sweep import sweep
from costmodel.routing.expectation import zipf_inclusion
from costmodel.routing.popularity import Uniform, Zipf
from costmodel.show.export import check_size
from tests.commands import SPARSECOST

H200 = load_hardware("h200")
OLMOE = load_model("olmoe-1b-7b")
VAST = {"hidden_size": 2**20, "vocab_size": 2**24, "num_hidden_layers": 1024}


def made(num_layers: int, first_experts: int = 0, **fields: object) -> ModelConfig:
    """A model of layers that all differ, under Zipf each with a population of its own."""
    attention = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4}
    table: dict[str, Any] = {
        "name": f"{num_layers} kinds from {first_experts}",
        "source": "made up",
        "hidden_size": 64,
        "vocab_size": 100,
        "num_hidden_layers": num_layers,
        "attention": attention,
        "ffn": {"kind": "dense", "intermediate_size": 64},
        "overrides": [
            {
                "layers": str(layer),
                "attention": {"head_dim": 4 + layer},
                "ffn": {
                    "kind": "moe",
                    "num_experts": first_experts + layer,
                    "num_experts_per_tok": 8,
                    "moe_intermediate_size": 16,
                },
            }
            for layer in range(num_layers if first_experts else 0)
        ],
    }
    return model_from_table({**table, **fields}, where="test")


def grid(model: ModelConfig, points: int, **axes: Any) -> Grid:  # noqa: ANN401 - as of sweep
    every = {"batches": range(2**20 - points, 2**20), "contexts": [2**20], "hardwares": [H200]}
    return sweep(model, Workload(), **{**every, "routings": [Uniform()], **axes})


@pytest.mark.parametrize("fields", [{}, VAST])
def test_a_grid_holds_the_bytes_that_are_predicted(fields: dict[str, int]) -> None:
    model = made(2, **fields)
    grid(model, 2)  # what is remembered from call to call
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    found = grid(model, 5000)
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    wide = found.columns["flops.total"].dtype == object
    assert wide == bool(fields)
    assert 0.6 * found.held_bytes < held < 1.1 * found.held_bytes + 64 * 5000  # and batches


def test_a_grid_that_would_not_fit_is_refused_before_it_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = grid(OLMOE, 4000).held_bytes
    monkeypatch.setattr(costmodel.questions.sweep, "MAX_BYTES", held + 10_000_000)
    grid(OLMOE, 4000, held_bytes=10_000_000)
    rule = "sweep=4000: with its columns 0.0 GB would be held in memory, at most 0.0 GB may be"
    with pytest.raises(InputError, match=rule):
        grid(OLMOE, 4000, held_bytes=10_000_001)


def test_a_parquet_file_that_would_not_fit_is_refused() -> None:
    check_size(5_000_000, 71, OutputFile(path=Path("a.csv")))
    check_size(3_000_000, 71, OutputFile(path=Path("a.parquet")))
    rule = "a .parquet file of 5,000,000 rows would take 5.7 GB of memory, at most 4.0 GB may"
    with pytest.raises(InputError, match=rule):
        check_size(5_000_000, 71, OutputFile(path=Path("a.PARQUET")))


@pytest.mark.slow
def test_rows_of_json_are_written_as_they_are_made() -> None:
    batches = ",".join(map(str, range(1, 31)))
    contexts = ",".join(map(str, range(1000)))
    script = (
        "import resource, subprocess, sys;"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL);"
        "print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = ("sweep", "olmoe-1b-7b", "--batch", batches, "--context", contexts, "--json")
    told = subprocess.check_output(
        [sys.executable, "-c", script, str(SPARSECOST), *command], text=True
    )
    code, peak_kib = map(int, told.split())
    assert code == 0
    assert peak_kib < 250 * 1024  # all rows as Python objects took 600 MiB


@pytest.mark.slow
def test_models_of_as_many_different_layers_as_there_may_be_share_answers() -> None:
    """A link can carry such models. They take 3 s of CPU time, without shared answers 35 s."""
    models = [made(MAX_DIFFERENT, first) for first in (8, 1000)]
    zipf_inclusion.cache_clear()
    compare(models, Workload(routing=Zipf(1.0)), H200, batches=(1, 64))
    assert zipf_inclusion.cache_info().misses == 2 * MAX_DIFFERENT
