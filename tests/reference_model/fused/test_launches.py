"""The launches of a fused step, path by path, against those that the cost model counts."""

from collections import Counter
from typing import Any

import pytest

from costmodel.backends import kernels_of
from costmodel.costs.operators import build_operators
from costmodel.inputs.workload import Workload
from costmodel.layers.site import expanded_paths
from reference_model.decode import DecodeStep
from reference_model.kernels.launch import INTERPRETED
from tests.reference_model.fused.models import MODELS
from tests.reference_model.tiny import made

CONTEXT = 6
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not INTERPRETED, reason="a GPU has tests of its own"),
]


@pytest.mark.parametrize("batch", [1, 2, 16, 17, 64, 65])
@pytest.mark.parametrize("name", MODELS)
def test_every_region_takes_the_launches_that_are_predicted(name: str, batch: int) -> None:
    config = MODELS[name]
    model = made(config)
    cache = model.new_cache(batch, CONTEXT + 1)
    cache.length = CONTEXT
    step = DecodeStep(model, cache, graph=False, backend="fused")
    assert step.fused is not None
    launched = Counter(launch.path for launch in step.fused.plan.launches)

    priced = Workload(batch=batch, context=CONTEXT).step()
    operators = build_operators(config, priced)
    kernels = kernels_of("fused", operators, priced)
    predicted: dict[str, Any] = {
        path: kernels.region_launches(region)
        for region in kernels.regions(operators)
        for path in expanded_paths(region.path)
    }
    assert set(step.regions) == set(predicted)
    for path, calls in launched.items():
        launches = calls
        if path.endswith("{ffn_norm,moe.router}") and batch > 1:
            launches += 1  # the product and the choice, by one call
        assert launches == predicted[path], path
    of_regions = sum(filter(None, predicted.values()))
    assert kernels.step_launches(operators) == of_regions + len(step.fused.counters)
