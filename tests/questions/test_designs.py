"""Many designs at once: each number is what `predict` says of that design alone."""

from dataclasses import replace

import numpy as np
import pytest

from costmodel.backends.torch import Torch
from costmodel.costs.calibrations import calibrated
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import NOT_ASKED, StepTime, Unknown
from costmodel.costs.predict import predict
from costmodel.inputs.catalog import load_model, model_names
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Phase, Workload
from costmodel.layers.dtype import DTYPES
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.formats import Formats
from costmodel.layers.mla import LatentAttention
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part
from costmodel.questions.designs import components
from costmodel.questions.designs.evaluate import Evaluated, evaluate
from costmodel.routing.popularity import Zipf
from dashboard.pages.tradeoffs import data as tradeoffs
from tests.backends.kernels import kernels

H200 = load_hardware("h200")
CURVES = calibrated("h200")
PREFILL = Workload(phase="prefill", new_tokens=100)
FUSED = Workload(backend="fused")
SWEEPS: dict[str, dict[str, tuple[tradeoffs.Value, ...]]] = {
    "olmoe-1b-7b": {
        "num_experts": (8, 64, 500),
        "num_experts_per_tok": (1, 8),
        "moe_intermediate_size": (100, 3000),
    },
    "deepseek-v3": {"num_experts": (16, 256), "num_experts_per_tok": (2, 8)},  # a dense FFN beside
    "ultramemv2-1b-7b": {
        "knum": (100, 528),
        "knn": (8, 9, 128),
        "pre_value_dim": (64, 384),
        "share_ratio": (0.1, 0.5),
        "layers": (1, 5),
    },
    "ultramem-227m-1.2b": {"knum": (100, 300), "knn": (16, 32), "value_dim": (256, 1024)},
    "memory-plus-227m-1.2b": {"num_keys": (64, 300), "knn": (4, 80), "intermediate_size": (9, 900)},
}


def assert_predicted(
    found: Evaluated,
    at: tuple[int, int, int],
    model: ModelConfig,
    workload: Workload,
    curves: Curves | Unknown = CURVES,
) -> None:
    """A point holds what `predict` says."""
    one = predict(model, workload, H200, curves)
    assert isinstance(one.time, StepTime)
    expected = {
        "parameters.total_without_embeddings": one.costs.parameters.total_without_embeddings,
        "parameters.active_without_embeddings": one.costs.parameters.active_without_embeddings,
        "hbm_bytes.compulsory": one.costs.totals.compulsory_bytes,
        "flops.total": one.costs.totals.flops,
        "kv_cache.stored_bytes": one.costs.kv_cache.stored_bytes,
        "memory.total_bytes": one.memory.total_bytes,
        "time.floor_s": one.floor_s,
        "time.predicted_s": one.time.predicted_s,
    }
    got = {name: column[at] for name, column in found.columns.items()}
    assert got == pytest.approx(expected, rel=1e-12), model.name


@pytest.mark.parametrize("workload", [Workload(), PREFILL])
def test_a_preset_costs_what_predict_says(workload: Workload) -> None:
    batches, contexts = (1, 300), (0, 5000)
    models = [
        load_model(name) for name in model_names()
    ]  # kept components must not leak between them
    found = evaluate(models, workload, H200, CURVES, batches=batches, contexts=contexts)
    assert found.not_predicted is None
    for at in np.ndindex(len(models), 2, 2):
        step = replace(workload, batch=batches[at[1]], context=contexts[at[2]])
        assert_predicted(found, at, models[at[0]], step)


def test_a_backend_without_times_says_so_and_gives_all_else() -> None:
    models = [load_model(name) for name in ("olmoe-1b-7b", "ultramemv2-1b-7b")]
    batches, contexts = (1, 300), (0, 5000)
    axes = {"batches": batches, "contexts": contexts}
    single = calibrated("h200", "h200")  # kernels of PyTorch alone
    of_torch = evaluate(models, Workload(), H200, single, **axes)
    fused = evaluate(models, FUSED, H200, single, **axes)
    assert fused.not_predicted is not None
    assert fused.columns.keys() == of_torch.columns.keys() - {"time.predicted_s"}
    for name, column in fused.columns.items():
        assert column == pytest.approx(of_torch.columns[name], rel=1e-12), name


@pytest.mark.parametrize("name", ["deepseek-v3", "ultramemv2-1b-7b", "ultramem-227m-1.2b"])
def test_grids_of_fused_kernels_are_single_steps(name: str) -> None:
    """At batches on both sides of each number of tokens at which kernels change."""
    batches, contexts = (1, 2, 16, 17, 64, 65, 512, 513, 5000), (0, 5000)
    models = [*tradeoffs.designs(load_model(name), SWEEPS[name]).models[:2], load_model(name)]
    curves = calibrated("h200", "h200.leaves")
    found = evaluate(models, FUSED, H200, curves, batches=batches, contexts=contexts)
    for i, model in enumerate(models):
        for j, batch in enumerate(batches):
            work = replace(FUSED, batch=batch, context=contexts[1])
            assert_predicted(found, (i, j, 1), model, work, curves)


@pytest.mark.parametrize(
    "workload",
    [Workload(), Workload(routing=Zipf(0.8), logits="all"), PREFILL],
    ids=["decode", "zipf", "prefill"],
)
@pytest.mark.parametrize("name", SWEEPS)
def test_a_swept_design_costs_what_predict_says(
    name: str, workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With batches of seven designs at most, and components forgotten in between."""
    batches, contexts = (1, 37, 2000), (0, 5000)
    points = len(batches) * len(contexts)
    monkeypatch.setattr(components, "BATCH_POINTS", 7 * points)
    monkeypatch.setattr(components, "KEPT_POINTS", 10 * points)
    base = load_model(name)
    made = tradeoffs.designs(base, SWEEPS[name])
    models = [*made.models, base]
    found = evaluate(models, workload, H200, CURVES, batches=batches, contexts=contexts)
    assert len(made.models) == np.prod([len(values) for values in SWEEPS[name].values()])
    assert found.not_predicted is None
    for index, model in enumerate(models):
        j, k = index % len(batches), index % len(contexts)
        step = replace(workload, batch=batches[j], context=contexts[k])
        assert_predicted(found, (index, j, k), model, step)


@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_designs_of_latent_attention_may_differ_in_their_heads(phase: Phase) -> None:
    """Expanded or absorbed is the workload's choice: one head expanded still joins its keys."""
    base = load_model("deepseek-v2-lite")
    attention = base.attention
    assert isinstance(attention, LatentAttention)
    models = [
        replace(base, attention=replace(attention, num_attention_heads=heads))
        for heads in (1, 8, 16)
    ]
    new_tokens = 1 if phase == "decode" else 4096
    workload = Workload(phase=phase, batch=4, context=0, new_tokens=new_tokens)
    found = evaluate(models, workload, H200, CURVES, batches=(4,), contexts=(0,))
    for index, model in enumerate(models):
        assert_predicted(found, (index, 0, 0), model, workload)
    cores = {
        kernels().operator_launches(operator)
        for model in models
        for operator in predict(model, workload, H200, CURVES).costs.operators
        if operator.leaf == "attention.core"
    }
    assert cores == {2 if phase == "decode" else 3}


def test_a_kernel_over_two_components_costs_what_predict_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One kernel does the norm and the first product of the FFN, which vary apart in a sweep."""
    spans = (("ffn_norm", "ffn.gate_up"), ("memory.query", "memory.retrieve"))
    models = [
        replace(base, ffn=replace(base.ffn, intermediate_size=width))
        for base in map(load_model, ("llama-3.1-8b", "ultramemv2-1b-7b"))
        if isinstance(base.ffn, DenseFfn)
        for width in (256, 3072)
    ]
    apart = predict(models[0], Workload(), H200, CURVES).time
    launches = Torch.launches

    def spanning(self: Torch, operator: Operator, part: Part, tokens: Number) -> int:
        joined = operator.leaf == "ffn.gate_up" and part is operator.parts[0]
        return 0 if joined else launches(self, operator, part, tokens)

    monkeypatch.setattr(Torch, "launches", spanning)
    monkeypatch.setattr(Torch, "spans", spans)
    together = predict(models[0], Workload(), H200, CURVES).time
    assert isinstance(apart, StepTime)
    assert isinstance(together, StepTime)
    assert together.graph_s < apart.graph_s
    found = evaluate(models, Workload(), H200, CURVES, batches=(1, 64), contexts=(2048,))
    for index, model in enumerate(models):
        assert_predicted(found, (index, 1, 0), model, Workload(batch=64))


@pytest.mark.parametrize(
    ("workload", "calibration", "reason"),
    [
        (Workload(), NOT_ASKED, NOT_ASKED.reason),
        (Workload(formats=Formats(default=DTYPES["fp8"])), CURVES, "fp8"),
    ],
    ids=["no calibration", "another format"],
)
@pytest.mark.usefixtures("no_leaves")
def test_a_time_that_is_not_known_is_left_out_with_its_reason(
    workload: Workload, calibration: Curves | Unknown, reason: str
) -> None:
    found = evaluate(
        [load_model("olmoe-1b-7b")], workload, H200, calibration, batches=(1,), contexts=(1,)
    )
    assert "time.predicted_s" not in found.columns
    assert reason in str(found.not_predicted)


@pytest.mark.parametrize(
    ("name", "ranges", "costed"),
    [
        # the experts are all that varies: a backbone, and an FFN of each design
        (
            "olmoe-1b-7b",
            {"num_experts": range(16, 116, 10), "moe_intermediate_size": range(256, 1276, 102)},
            [1, 100],
        ),
        # the memory is all that varies: a backbone, one FFN, and a memory of each design, those of
        # the same top-k together
        (
            "ultramemv2-1b-7b",
            {"knum": range(200, 800, 60), "knn": range(8, 88, 8)},
            [1, 1] + [10] * 10,
        ),
    ],
)
def test_designs_are_costed_by_their_components_and_those_together(
    name: str, ranges: dict[str, range], costed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """How much is computed for a hundred designs; `make bench` says how long a sweep takes."""
    together: list[int] = []
    cost = components.ComponentPricer._cost

    def counted(self: components.ComponentPricer, batch: components._Batch) -> None:
        together.append(len(batch.stored))
        cost(self, batch)

    monkeypatch.setattr(components.ComponentPricer, "_cost", counted)
    made = tradeoffs.designs(load_model(name), ranges)
    assert len(made.models) == 100
    evaluate(made.models, Workload(), H200, CURVES, batches=[1, 64], contexts=[512, 4096])
    assert sorted(together) == costed
