"""Sweeps: every point equals `predict` to the bit, nothing wraps, files read back as written."""

import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import costmodel.questions.sweep
from costmodel.costs.footprint import footprint
from costmodel.costs.predict import predict
from costmodel.costs.step import step_costs
from costmodel.errors import InputError, WorkError
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import Hardware, load_hardware
from costmodel.inputs.model import ModelConfig, load_model_toml, model_from_table
from costmodel.inputs.output_file import OutputFile
from costmodel.inputs.workload import (
    MAX_BATCH,
    MAX_CONTEXT,
    MAX_NEW_TOKENS,
    AttentionFlops,
    Mla,
    Workload,
)
from costmodel.layers.dtype import DTYPES
from costmodel.layers.formats import Formats
from costmodel.questions.grid import Grid
from costmodel.questions.sweep import BLOCK_POINTS, HEADROOM, MAX_POINTS, sweep
from costmodel.routing.histogram import AccessCounts, Histogram
from costmodel.routing.popularity import Routing, Uniform, Zipf
from costmodel.show.export import write_parts
from costmodel.show.prediction_json import prediction_json

PRESETS = Path(costmodel.__file__).parent / "presets" / "models"
GPUS = [load_hardware("h200"), load_hardware("l40s"), load_hardware("mi300x")]
ATTENTION = {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 16}
DENSE = {"kind": "dense", "intermediate_size": 100, "activation": "gelu", "bias": True}
LATENT = {
    "kind": "mla",
    "num_attention_heads": 8,
    "q_lora_rank": 24,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
}
EXPERTS = {
    "kind": "moe",
    "num_experts": 32,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 20,
    "shared_intermediate_size": 24,
    "scoring": "sigmoid",
    "norm_topk_prob": True,
    "score_correction_bias": True,
    "n_group": 4,
    "topk_group": 2,
    "group_score_experts": 2,
    "expert_bias": True,
}


def made(name: str, *, layers: int = 5, **fields: object) -> ModelConfig:
    table = {
        "name": name,
        "source": "made up",
        "hidden_size": 72,
        "vocab_size": 1000,
        "num_hidden_layers": layers,
        "attention": ATTENTION,
        "ffn": DENSE,
    }
    return model_from_table({**table, **fields}, where="test")


WINDOWED = made(
    "windowed",
    overrides=[{"layers": "0-4/2", "attention": {"sliding_window": 100, "sinks": True}}],
    post_norms=True,
)
SPARSE = made("sparse", attention=LATENT, ffn=EXPERTS, overrides=[{"layers": "0", "ffn": DENSE}])
VAST = made(
    "vast",
    layers=1024,
    hidden_size=2**20,
    vocab_size=2**24,
    attention={
        "num_attention_heads": 2**16,
        "num_key_value_heads": 2**16,
        "head_dim": 2**20,
        "qk_norm": "full",
    },
    ffn={
        "kind": "moe",
        "num_experts": 2**16,
        "num_experts_per_tok": 2**16,
        "moe_intermediate_size": 2**20,
    },
    memory=[
        {
            "kind": "ultramem",
            "knum": 2**15,
            "knn": 2**16,
            "num_heads": 2**16,
            "tucker_rank": 16,
            "tucker_cores": 16,
            "value_expansion": 16,
            "key_dim": 2**20,
            "value_dim": 2**20,
            "pre_value_dim": 2**20,
        }
    ],
)
MODELS = [load_model_toml(path) for path in sorted(PRESETS.glob("*.toml"))]
LLAMA_70B = load_model_toml(PRESETS / "llama-3.1-70b.toml")
ULTRAMEM = load_model_toml(PRESETS / "ultramemv2-227m-1.2b.toml")
MODELS += [WINDOWED, SPARSE, made("latent", attention=LATENT)]
ONE: dict[str, Any] = {
    "batches": [1],
    "contexts": [0],
    "routings": [Uniform()],
    "hardwares": GPUS[:1],
}


def flattened(tree: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flattened(value, f"{path}{key}.")
        else:
            yield path + key, value


def predicted(
    model: ModelConfig, work: Workload, grid: Grid, routings: list[Routing], gpus: list[Hardware]
) -> Iterator[dict[str, Any]]:
    """The records of the grid's points, each from a prediction of its own."""
    names = list(grid.table())
    for routing in routings:
        for gpu in gpus:
            for batch in grid.batches:
                for context in grid.contexts:
                    one = replace(work, routing=routing, batch=batch, context=context)
                    tree = prediction_json(predict(model, one, gpu))
                    flat = dict(flattened(tree)) | tree["workload"]
                    flat |= {"model": model.name, "hardware": gpu.name}
                    yield {name: flat[name] for name in names}


def assert_equal_to_predictions(
    model: ModelConfig,
    work: Workload,
    *,
    batches: list[int],
    contexts: list[int],
    routings: list[Routing] = ONE["routings"],
    hardwares: list[Hardware] = ONE["hardwares"],
) -> Grid:
    """To the bit: types count, and floats are compared by their shortest digits."""
    grid = sweep(
        model, work, batches=batches, contexts=contexts, routings=routings, hardwares=hardwares
    )
    records = list(grid.records())
    assert len(records) == grid.size
    for found, expected in zip(
        records, predicted(model, work, grid, routings, hardwares), strict=True
    ):
        differing = {
            name: (found[name], expected[name])
            for name in found
            if repr(found[name]) != repr(expected[name])
        }
        assert not differing
    for column in grid.columns.values():
        if column.dtype.kind == "f":
            assert np.isfinite(column).all()
    return grid


batch_axis = st.lists(st.integers(1, 2**12) | st.integers(1, MAX_BATCH), min_size=1, max_size=3)
context_axis = st.lists(st.integers(0, 2**18) | st.integers(0, MAX_CONTEXT), min_size=1, max_size=3)
workloads = st.builds(
    Workload,
    phase=st.just("prefill"),
    new_tokens=st.integers(1, 2**12) | st.integers(1, MAX_NEW_TOKENS),
    formats=st.sampled_from(
        [
            Formats(default=DTYPES["bf16"]),
            Formats(default=DTYPES["int4"]),
            Formats(default=DTYPES["fp8"], groups=(("experts", DTYPES["mxfp4"]),)),
        ]
    ),
    kv_dtype=st.sampled_from([DTYPES["bf16"], DTYPES["fp8"], DTYPES["int4"]]),
    attention_flops=st.sampled_from(["causal", "full"]),
    logits=st.sampled_from(["last", "all"]),
    mla=st.sampled_from([None, "absorbed", "expanded"]),
    window_cache=st.sampled_from(["window", "whole"]),
    backend=st.sampled_from(["torch", "fused"]),
)
workloads |= workloads.map(lambda work: replace(work, mla=None, mla_cache="expanded"))
decodes = workloads.map(lambda work: replace(work, phase="decode", new_tokens=1))
routing_axis = st.lists(
    st.sampled_from([Uniform(), Zipf(0.8), Zipf(1.5)]), min_size=1, max_size=2, unique=True
)


@pytest.mark.slow
@given(
    model=st.sampled_from(MODELS),
    work=decodes | workloads,
    batches=batch_axis,
    contexts=context_axis,
    routings=routing_axis,
    gpus=st.lists(st.sampled_from(GPUS), min_size=1, max_size=2),
    block=st.sampled_from([BLOCK_POINTS, 8, 1]),
)
@settings(max_examples=250)
def test_every_point_equals_its_own_prediction(
    *,
    model: ModelConfig,
    work: Workload,
    batches: list[int],
    contexts: list[int],
    routings: list[Routing],
    gpus: list[Hardware],
    block: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costmodel.questions.sweep, "BLOCK_POINTS", block)
        assert_equal_to_predictions(
            model, work, batches=batches, contexts=contexts, routings=routings, hardwares=gpus
        )


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_every_model_on_an_ordinary_grid(model: ModelConfig, phase: str) -> None:
    work = Workload(new_tokens=1) if phase == "decode" else Workload(phase="prefill", new_tokens=7)
    routings: list[Routing] = [Zipf(1.0), Uniform()]
    grid = assert_equal_to_predictions(
        model, work, batches=[1, 64], contexts=[0, 99, 4096], routings=routings, hardwares=GPUS[:2]
    )
    whole_numbers = [column for column in grid.columns.values() if column.dtype == object]
    assert all(column.flat[0] is None for column in whole_numbers)


def test_a_measured_histogram_is_one_more_routing() -> None:
    measured = Histogram(
        label="histogram:trace",
        source="by hand",
        experts=AccessCounts(
            population=32, trials=100, draws=3, counts=((25, 10), (5, 10), (0, 12))
        ),
    )
    grid = assert_equal_to_predictions(
        SPARSE, Workload(), batches=[1, 7, 100], contexts=[5], routings=[Uniform(), measured]
    )
    assert "time.floor_s" not in grid.reasons
    beyond = assert_equal_to_predictions(
        SPARSE, Workload(), batches=[1, 100, 101], contexts=[5, 9], routings=[Uniform(), measured]
    )
    table = beyond.table()
    for name in ("time.floor_s", "time.bound_by", "hbm_bytes.compulsory", "hbm_bytes.weights"):
        known = [value is not None for value in table[name].ravel().tolist()]
        assert known == 4 * [True] + 2 * [True] + 4 * [True] + 2 * [False], name
        reason = beyond.reasons[name]
        assert "holds 100 tokens; a step of 101 tokens is beyond it" in reason, name
    assert None not in table["flops.total"].ravel().tolist()


def test_what_a_grid_lacks_has_its_reason() -> None:
    axes: dict[str, Any] = {"batches": [1, 20], "contexts": [5], "routings": [Uniform()]}
    fused = Workload(backend="fused")
    dense = sweep(load_model("llama-3.1-8b"), fused, **axes, hardwares=GPUS[:1])
    assert dense.reasons == {
        "time.predicted_s": "no calibration is applied; times are roofline bounds"
    }
    assert dense.columns["routing.launches"].flat[0] == 0
    ungated = sweep(load_model("peer-12l-1m"), fused, **axes, hardwares=GPUS[:1])
    refusal = (
        "the backend fused has no kernels for an ungated feed-forward layer with activation=gelu"
    )
    assert ungated.reasons["routing.launches"] == refusal
    assert ungated.columns["routing.launches"].tolist() == [[[[None]]]]


def test_a_column_is_as_long_as_the_axes_it_depends_on() -> None:
    grid = sweep(
        SPARSE,
        Workload(),
        batches=[1, 2, 3],
        contexts=[10, 20],
        routings=[Uniform(), Zipf(1.0), Zipf(2.0), Zipf(3.0)],
        hardwares=[*GPUS, *GPUS[:2]],
    )
    shapes = {
        "parameters.total": (1, 1, 1, 1),
        "memory.capacity_bytes": (1, 5, 1, 1),
        "routing.expected_distinct_experts": (4, 1, 3, 1),
        "kv_cache.stored_bytes": (1, 1, 3, 2),
        "memory.fits": (1, 5, 3, 2),
        "hbm_bytes.compulsory": (4, 1, 3, 2),
        "time.floor_s": (4, 5, 3, 2),
        "routing.expected_distinct_rows": (1, 1, 1, 1),
    }
    assert {name: grid.columns[name].shape for name in shapes} == shapes
    assert grid.columns["routing.expected_distinct_rows"].item() is None
    first = ["model", "phase", "hardware", "routing", "batch", "context"]
    assert list(next(grid.records()))[:6] == first


class Watched(int):
    """An integer that remembers the largest one computed from it."""

    largest: ClassVar[int] = 0

    @classmethod
    def of(cls, found: object) -> object:
        if not isinstance(found, int) or isinstance(found, bool):
            return found
        cls.largest = max(cls.largest, abs(found))
        return cls(found)


for _operation in ("add", "radd", "sub", "rsub", "mul", "rmul", "floordiv", "rfloordiv", "neg"):

    def _watching(self: Watched, *other: object, _name: str = f"__{_operation}__") -> object:
        return Watched.of(getattr(int, _name)(self, *other))

    setattr(Watched, f"__{_operation}__", _watching)


@pytest.mark.parametrize("model", [*MODELS, VAST], ids=lambda model: model.name)
@pytest.mark.parametrize("mla", ["absorbed", "expanded"])
@pytest.mark.parametrize(
    ("batch", "context", "new_tokens"),
    [
        (1, 0, 1),
        (1, MAX_CONTEXT, 1),
        (MAX_BATCH, 0, 1),
        (MAX_BATCH, MAX_CONTEXT, 1),
        (3, 95, 10),
        (MAX_BATCH, MAX_CONTEXT, MAX_NEW_TOKENS),
    ],
)
def test_no_intermediate_value_passes_the_headroom(
    model: ModelConfig, mla: Mla, batch: int, context: int, new_tokens: int
) -> None:
    """int64 serves totals up to HEADROOM = 2^61: all that is computed stays below 4 times them."""
    conventions: tuple[AttentionFlops, ...] = ("causal", "full")
    for convention in conventions:
        Watched.largest = 0
        work = Workload(phase="prefill", new_tokens=new_tokens, mla=mla, attention_flops=convention)
        step = work.step(batch=Watched(batch), context=Watched(context))
        costs = step_costs(model, step)
        memory = footprint(costs.operators, step, costs.kv_cache, model.hidden_size, Watched(2**50))
        records = (costs.totals, costs.routing, costs.kv_cache, memory)
        counts = (getattr(record, name) for record in records for name in type(record).__slots__)
        largest = max(int(count) for count in counts if isinstance(count, int))
        assert HEADROOM * Watched.largest < 2**63 * largest


def test_a_total_beyond_63_bits_is_exact() -> None:
    """Llama-3.1-70B: 1,024 prompts of 131,072 tokens take 2.3e19 FLOPs."""
    work = Workload(phase="prefill", new_tokens=131_072)
    grid = assert_equal_to_predictions(
        LLAMA_70B, work, batches=[1, 1024], contexts=[0, 1], hardwares=GPUS
    )
    flops = grid.columns["flops.total"]
    assert flops.dtype == object
    assert type(flops[0, 0, 1, 0]) is int
    assert flops[0, 0, 1, 0] > 2**64 > 1.8e19
    assert grid.columns["memory.total_bytes"].dtype == np.int64


@pytest.mark.parametrize("model", [*MODELS, VAST], ids=lambda model: model.name)
def test_the_upper_bounds_of_all_fields(model: ModelConfig) -> None:
    for work in (
        Workload(),
        Workload(phase="prefill", new_tokens=MAX_NEW_TOKENS, attention_flops="full"),
    ):
        assert_equal_to_predictions(
            model,
            work,
            batches=[1, MAX_BATCH],
            contexts=[0, MAX_CONTEXT],
            hardwares=[replace(GPUS[0], capacity_bytes=2**50), GPUS[1]],
        )


def test_each_side_of_every_power_of_two_around_the_limit() -> None:
    """Blocks of int64 and of Python integers side by side, within one grid."""
    work = Workload(phase="prefill", new_tokens=2**14)
    flops = predict(LLAMA_70B, work, GPUS[0]).costs.totals.flops
    batches = [
        batch + side for bits in range(52, 66) for batch in [2**bits // flops] for side in (0, 1)
    ]
    batches = sorted({batch for batch in batches if 1 <= batch <= MAX_BATCH})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costmodel.questions.sweep, "BLOCK_POINTS", 4)
        grid = assert_equal_to_predictions(LLAMA_70B, work, batches=batches, contexts=[0, 1])
    largest = [int(flops) for flops in grid.columns["flops.total"][0, 0, :, 0]]
    assert largest[0] < 2**53
    assert any(2**60 < flops < HEADROOM for flops in largest)
    assert any(HEADROOM < flops < 2**63 for flops in largest)
    assert largest[-1] > 2**64


@pytest.mark.parametrize(
    ("axes", "rule"),
    [
        ({"batches": []}, "sweep=1 x 1 x 0 x 1 .* a grid has 1 to 5,000,000 points"),
        ({"hardwares": []}, "sweep=1 x 0 x 1 x 1"),
        ({"contexts": range(5000), "batches": range(1, 1002)}, "sweep=1 x 1 x 1001 x 5000"),
        ({"batches": [1, 0]}, "batch=0: must lie between 1 and 1,048,576"),
        ({"batches": [2**20 + 1]}, "batch=1048577: "),
        ({"contexts": [-1]}, "context=-1: must lie between 0 and 134,217,728"),
        ({"contexts": [2**27 + 1]}, "context=134217729: "),
    ],
)
def test_an_impossible_grid_is_refused(axes: dict[str, Any], rule: str) -> None:
    assert MAX_POINTS == 5_000_000
    with pytest.raises(InputError, match=rule):
        sweep(WINDOWED, Workload(), **{**ONE, **axes})


def test_a_gpu_without_the_peak_is_refused() -> None:
    peaks = replace(GPUS[0].dense_peak_flops_per_s, fp32=None)
    sources = {k: v for k, v in GPUS[0].sources.items() if not k.endswith("fp32")}
    gpu = replace(GPUS[0], dense_peak_flops_per_s=peaks, sources=sources)
    with pytest.raises(InputError, match="dtype='fp32'"):
        sweep(
            WINDOWED,
            Workload(formats=Formats(default=DTYPES["fp32"])),
            **{**ONE, "hardwares": [GPUS[1], gpu]},
        )


HOSTILE = "=cmd|' /C calc'!A0"


def grids(*, wide: bool = False) -> list[Grid]:
    """Two models, one with experts and one with rows; `wide` passes 2^63."""
    gpus = [replace(GPUS[0], name='+1, "quoted"'), replace(GPUS[1], name=" @SUM(A1)")]
    work = Workload(phase="prefill", new_tokens=MAX_NEW_TOKENS) if wide else Workload()
    return [
        sweep(
            replace(model, name=name),
            work,
            batches=[1, 1000],
            contexts=[0, 4096, 100_000],
            routings=[Uniform(), Zipf(1.0)],
            hardwares=gpus,
        )
        for model, name in ((SPARSE, HOSTILE), (ULTRAMEM, "-2+3"), (LLAMA_70B, "plain é, 70B"))
    ]


def write(found: list[Grid], path: Path, *, force: bool = False) -> None:
    parts = (part for grid in found for part in grid.parts())
    write_parts(parts, OutputFile(path=path, force=force))


def all_records(found: list[Grid]) -> list[dict[str, Any]]:
    return [record for grid in found for record in grid.records()]


@pytest.mark.parametrize("wide", [False, True])
def test_json_reads_back_equal(tmp_path: Path, *, wide: bool) -> None:
    found = grids(wide=wide)
    write(found, tmp_path / "grid.JSON")
    text = (tmp_path / "grid.JSON").read_text(encoding="utf-8")
    assert repr(json.loads(text)["rows"]) == repr(all_records(found))
    assert "NaN" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["grid.JSON"]


@pytest.mark.parametrize("wide", [False, True])
def test_csv_reads_back_equal_and_runs_no_formula(tmp_path: Path, *, wide: bool) -> None:
    found = grids(wide=wide)
    write(found, tmp_path / "grid.csv")
    with (tmp_path / "grid.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = all_records(found)
    for row, record in zip(rows, expected, strict=True):
        assert list(row) == list(record)
        for name, value in record.items():
            if value is None:
                assert not row[name]
            elif isinstance(value, str):
                assert row[name].removeprefix("'") == value
                assert not row[name].strip().startswith(("=", "+", "-", "@"))
            else:
                assert row[name] == repr(value)
    assert rows[0]["model"] == f"'{HOSTILE}"
    assert rows[-1]["model"] == "plain é, 70B"


@pytest.mark.parametrize("wide", [False, True])
def test_parquet_reads_back_equal(tmp_path: Path, *, wide: bool) -> None:
    found = grids(wide=wide)
    write(found, tmp_path / "grid.parquet")
    table = import_module("pyarrow.parquet").read_table(tmp_path / "grid.parquet")
    assert table.to_pylist() == all_records(found)
    types = {field.name: str(field.type) for field in table.schema}
    assert types["flops.total"] == ("decimal128(38, 0)" if wide else "int64")
    assert types["routing.expected_distinct_experts"] == "double"
    assert types["memory.fits"] == "bool"
    assert types["hardware"] == "string"
    assert not [name for name, kind in types.items() if kind == "null"]


def test_the_widest_counts_fit_a_parquet_decimal(tmp_path: Path) -> None:
    work = Workload(
        phase="prefill", new_tokens=MAX_NEW_TOKENS, attention_flops="full", logits="all"
    )
    grid = sweep(VAST, work, **{**ONE, "batches": [MAX_BATCH], "contexts": [MAX_CONTEXT]})
    write([grid], tmp_path / "vast.parquet")
    table = import_module("pyarrow.parquet").read_table(tmp_path / "vast.parquet")
    assert table.to_pylist() == list(grid.records())


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r'pip install "sparsecost\[dashboard\]"'):
        write(grids(), tmp_path / "grid.parquet")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("grid.xlsx", r"out='.*grid.xlsx': ends in one of .csv, .json, .parquet"),
        ("grid", "ends in one of"),
        (".csv", "ends in one of"),
        ("folder.csv", "is a directory"),
        ("missing/grid.csv", "cannot be written: No such file or directory"),
        ("file/grid.json", "cannot be written: Not a directory"),
        ("missing/grid.parquet", "cannot be written"),
        ("x" * 300 + ".csv", "cannot be written: File name too long"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, name: str, rule: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=rule):
        write([sweep(WINDOWED, Workload(), **ONE)], tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.csv"]


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = tmp_path / f"grid.{suffix}"
    path.write_text("old")
    grid = sweep(WINDOWED, Workload(), **ONE)
    whole = Grid.parts

    def full_disk(self: Grid) -> Iterator[dict[str, list[Any]]]:
        yield from whole(self)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Grid, "parts", full_disk)
    with pytest.raises(WorkError, match="cannot be written: No space left on device"):
        write([grid], path, force=True)
    assert path.read_text() == "old"
    monkeypatch.undo()
    write([grid], path, force=True)
    assert path.read_bytes() != b"old"
    assert list(tmp_path.iterdir()) == [path]
