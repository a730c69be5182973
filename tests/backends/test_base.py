"""Kernels that cover parts: how they are grouped, and regions that span operators, by hand."""

from collections import Counter
from typing import Any

import pytest

from costmodel.backends import BACKENDS
from costmodel.backends.base import Backend
from costmodel.backends.step_kernels import Region, StepKernels
from costmodel.costs.latency import StepTime
from costmodel.costs.operators import build_operators
from costmodel.costs.predict import predict
from costmodel.costs.step import step_costs
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part
from costmodel.layers.site import expanded_paths, region_leaves, region_path
from costmodel.show.prediction_json import prediction_json
from tests.backends.kernels import kernels
from tests.costs.calibrations import curves
from tests.steps import make_step, tiny_model
from tests.strategies import PRESETS

NORM_AND_QKV = ("attention_norm", "attention.qkv")


class Spanning(Backend):
    """One kernel for the norm and the projection after it, and one for any other operator."""

    name = "spanning"
    saves_intermediates = True
    spans = (NORM_AND_QKV,)

    def launches(self, operator: Operator, part: Part, tokens: Number) -> int:
        del tokens
        return int(part is operator.parts[0] and operator.leaf != "attention.qkv")


def test_a_part_without_launches_is_done_by_the_kernel_before_it() -> None:
    names = ("a", "b", "c", "d")
    launches = {"b": 2, "d": 1}

    class Told(Backend):
        name = "told"
        saves_intermediates = False

        def launches(self, operator: Operator, part: Part, tokens: Number) -> int:
            del operator, tokens
            return launches.get(part.name, 0)

    operator = Operator(
        path="layers.1.x", leaf="x", layers=(1,), count=1, kind="norm",
        parts=tuple(Part(name=name, kind="norm") for name in names), formula="", source="",
    )  # fmt: skip
    told = kernels(Told())
    grouped = list(told.kernels(Region(operators=(operator,), layers=(1,))))
    assert [[part.name for part in kernel.parts] for kernel in grouped] == [["a", "b", "c"], ["d"]]
    assert [(kernel.launches, kernel.charged) for kernel in grouped] == [(2, 1), (1, 0)]
    assert told.operator_launches(operator) == 3


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch", [1, 4, 100])
@pytest.mark.parametrize("name", PRESETS)
def test_kernels_cover_every_part_of_every_layer_once(name: str, batch: int, backend: str) -> None:
    costs = step_costs(PRESETS[name], make_step(batch=batch, cached=9))
    of = costs.kernels(backend)
    if of.refusal is not None:
        return
    covered = Counter[int]()
    for region in of.regions(costs.operators):
        for kernel in of.kernels(region):
            for part in kernel.parts:
                covered[id(part)] += region.count
    assert covered == {id(part): op.count for op in costs.operators for part in op.parts}


def test_regions_part_where_the_operators_of_layers_differ() -> None:
    """The first layer's norm has no residual to add, so it is an operator of its own."""
    operators = build_operators(tiny_model(), make_step())
    regions = list(kernels(Spanning()).regions(operators))
    spanned = [region for region in regions if len(region.operators) > 1]
    assert [region.path for region in spanned] == [
        "layers.0.{attention_norm,attention.qkv}",
        "layers.{1-2}.{attention_norm,attention.qkv}",
    ]
    assert [region.count for region in spanned] == [1, 2]
    # each layer of each operator stands in exactly one region
    for operator in operators:
        layers = [layer for region in regions if operator in region.operators
                  for layer in region.layers]  # fmt: skip
        assert sorted(layers) == sorted(operator.layers)


def test_paths_of_regions() -> None:
    assert region_path(("memory.query", "memory.retrieve")) == "memory.{query,retrieve}"
    assert region_path(NORM_AND_QKV) == "{attention_norm,attention.qkv}"
    assert region_path(("x.a", "x.a.b")) == "x.{a,a.b}"  # a name is never split away whole
    path = "layers.{0-1}.memory.{query,retrieve}"
    single = ("layers.0.memory.{query,retrieve}", "layers.1.memory.{query,retrieve}")
    assert expanded_paths(path) == single
    assert region_leaves(single[1]) == ("layers.1.memory.query", "layers.1.memory.retrieve")
    assert region_leaves("layers.0.{a,b.c}") == ("layers.0.a", "layers.0.b.c")
    assert region_leaves("lm_head") == ("lm_head",)


def test_operators_beside_the_blocks_form_a_region_too() -> None:
    class Head(Spanning):
        spans = (("final_norm", "lm_head"),)

    operators = build_operators(tiny_model(), make_step())
    *_, last = kernels(Head()).regions(operators)
    assert (last.path, last.count, last.layers) == ("{final_norm,lm_head}", 1, ())
    assert [operator.leaf for operator in last.operators] == ["final_norm", "lm_head"]


def test_a_backend_that_refuses_a_step_has_no_numbers_of_it() -> None:
    operators = build_operators(tiny_model(), make_step())
    refused = StepKernels(backend=Spanning(), tokens=1, refusal="no kernels")
    assert refused.step_launches(operators) is None
    assert refused.routing_launches(operators) is None
    assert refused.launches(operators[0], operators[0].parts[0]) is None
    assert all(len(region.operators) == 1 for region in refused.regions(operators))


def test_a_prediction_with_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "fused", Spanning())
    prediction = predict(
        tiny_model(), Workload(batch=3, context=5, backend="fused"), load_hardware("h200"), curves()
    )
    data: dict[str, Any] = prediction_json(prediction)
    first, others = data["regions"]
    assert first["leaves"] == list(NORM_AND_QKV)
    operators = {row["path"]: row for row in data["operators"]}
    for name in ("flops", "compulsory_bytes"):
        assert others[name] == (
            operators["layers.{1-2}.attention_norm"][name]
            + operators["layers.{0-2}.attention.qkv"][name]
        )
    assert first["launches"] == others["launches"] == 1
    time = prediction.time
    assert isinstance(time, StepTime)
    # a kernel takes 1 us of the hand-made curves and 1 us of its launch; attention takes 2 us
    assert first["predicted_s"] == pytest.approx(2e-6, rel=1e-9)
    kernels = 1 + 3 * (1 + 6) + 2  # embed; layers: region, rope, core, output, norm, FFN; the head
    assert time.graph_s == pytest.approx((2 * kernels + 3) * 1e-6, rel=1e-9)


def test_a_kind_without_entries_is_served_by_default_kernels() -> None:
    operator = Operator(
        path="x", leaf="x", count=1, kind="norm",
        parts=(Part(name="a", kind="norm", operations=3), Part(name="b", kind="norm")),
        formula="", source="",
    )  # fmt: skip
    assert kernels().operator_launches(operator) == 4
