"""Compulsory bytes against HBM bytes that counters saw on an H200.

`tests/data/public_implementations_h200.json` was measured with transformers' OLMoE on one H200,
with the distinct experts of each run recorded. No step may read less than compulsory, and this one
reads hardly more: activations and repeated reads are what is left.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from costmodel.costs.step import step_costs
from costmodel.inputs.catalog import load_model
from costmodel.inputs.workload import Workload
from costmodel.validation.recorded_routing import RecordedRouting

CASES = json.loads(
    (Path(__file__).parents[1] / "data" / "public_implementations_h200.json").read_text()
)["hbm_bytes_of_a_decode_step"]
MODELS = {"moe_bytes_227m": "olmoe-227m-1.2b", "moe_bytes_1b": "olmoe-1b-7b"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['case']}-batch{case['B']}")
def test_a_step_reads_its_compulsory_bytes_once(case: dict[str, Any]) -> None:
    routing = RecordedRouting(experts=case["distinct_experts"], rows=None)
    workload = Workload(batch=case["B"], context=2048, routing=routing)
    sums = step_costs(load_model(MODELS[case["case"]]), workload.step()).totals
    written = sums.kv_written_bytes + 50304 * 2 * case["B"]  # KV and logits
    read = float(sums.compulsory_bytes - written)
    assert 1.0 <= case["read_MB"] * 1e6 / read < 1.008
