"""What `predict --json` promises (design.md, section 7), for every preset and both phases."""

import json
import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from costmodel.costs.predict import Prediction, predict
from costmodel.inputs.catalog import load_model, model_names
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.layers.site import expanded_paths
from tests.commands import output, run

FIELDS = {
    "": "schema_version sparsecost_version model workload hardware calibration backend reasons"
    " parameters kv_cache flops routing hbm_bytes"
    " host_bytes disk_bytes memory time energy operators regions",
    "parameters": "total total_without_embeddings active_without_embeddings active_with_lm_head"
    " active_with_embeddings by_group",
    "kv_cache": "bytes_per_token stored_bytes read_bytes written_bytes state_bytes_per_sequence"
    " state_bytes side_cache_bytes_per_token",
    "flops": "total per_token attention_convention by_kind",
    "routing": "flops compares hbm_bytes launches time_s share_of_time expected_distinct_experts"
    " expected_distinct_rows",
    "hbm_bytes": "compulsory read written weights kv state table_rows row_reads rows_in_sectors"
    " indices io activations",
    "host_bytes": "read row_reads rows_in_sectors table_bytes",
    "disk_bytes": "read row_reads table_bytes",
    "memory": "weights_bytes buffers_bytes kv_bytes state_bytes towers_bytes activations_bytes"
    " total_bytes capacity_bytes fits max_batch",
    "time": "floor_s predicted_s tokens_per_s bound_by fits_l2",
    "energy": "predicted_j j_per_token",
}
OPERATOR = (
    "path kind count flops compulsory_bytes row_reads hbm_read_bytes hbm_written_bytes launches"
    " floor_s predicted_s bound_by formula source parts"
)
PART = "name flops compares bytes launches"
KINDS = {"matmul", "attention", "recurrence", "gather", "selection", "norm", "elementwise"}
GROUPS = (
    "embedding lm_head attention router experts shared_experts ffn memory_keys memory_values"
    " memory_projections residual norm"
)
PROMISED = (
    "olmoe-1b-7b ultramemv2-227m-1.2b ultramem-227m-1.2b memory-plus-227m-1.2b olmoe-227m-1.2b"
    " ultramemv2-1b-7b mixtral-8x7b deepseek-v3 gpt-oss-20b llama-3.1-8b"
)

WORKLOADS = {
    "decode": (
        "--batch 16 --context 2048",
        Workload(batch=16, context=2048),
    ),
    "prefill": (
        "--phase prefill --context 0 --new-tokens 512",
        Workload(phase="prefill", context=0, new_tokens=512),
    ),
    "fused": (  # of which some models have kernels
        "--batch 16 --context 2048 --backend fused",
        Workload(batch=16, context=2048, backend="fused"),
    ),
}
CASES = [(model, phase) for model in model_names() for phase in WORKLOADS]
every_case = pytest.mark.parametrize(("model", "phase"), CASES)


@cache
def document(model: str, phase: str) -> dict[str, Any]:
    options, _ = WORKLOADS[phase]
    found = json.loads(
        output("predict", model, *options.split(), "--calibration", "none", "--json")
    )
    assert isinstance(found, dict)
    return found


@cache
def prediction(model: str, phase: str) -> Prediction:
    _, workload = WORKLOADS[phase]
    return predict(load_model(model), workload, load_hardware("h200"))


def nulls(value: object, path: str = "") -> Iterator[str]:
    """Paths of all nulls, without the indices of lists."""
    if value is None:
        yield path
    children = value.items() if isinstance(value, dict) else ()
    for key, child in children:
        yield from nulls(child, f"{path}.{key}" if path else key)
    for child in value if isinstance(value, list) else ():
        yield from nulls(child, path)


def numbers(value: object) -> Iterator[int | float]:
    if isinstance(value, int | float):
        yield value
    for child in value.values() if isinstance(value, dict) else ():
        yield from numbers(child)
    for child in value if isinstance(value, list) else ():
        yield from numbers(child)


def same(total: float, parts: float) -> bool:
    """Equal; exactly where both are counts."""
    if isinstance(total, int) and isinstance(parts, int):
        return total == parts
    return math.isclose(total, parts, rel_tol=1e-12)


def test_the_promised_presets_are_there() -> None:
    assert set(PROMISED.split()) <= set(model_names())


@every_case
def test_every_promised_field_is_there(model: str, phase: str) -> None:
    found = document(model, phase)
    for section, names in FIELDS.items():
        assert set(names.split()) <= set(found[section] if section else found), section
    for operator in found["operators"]:
        assert set(OPERATOR.split()) <= set(operator), operator["path"]
        for part in operator["parts"]:
            assert set(PART.split()) <= set(part), operator["path"]
            assert part["kind"] in KINDS
        assert operator["kind"] in KINDS
        assert operator["formula"]
        assert operator["source"]
    assert set(found["flops"]["by_kind"]) == KINDS
    assert set(found["parameters"]["by_group"]) <= set(GROUPS.split())
    assert found["schema_version"] == 1
    assert all(math.isfinite(number) and number >= 0 for number in numbers(found))


@every_case
def test_totals_are_sums(model: str, phase: str) -> None:
    found = document(model, phase)
    flops, hbm, operators = found["flops"], found["hbm_bytes"], found["operators"]
    assert same(flops["total"], sum(flops["by_kind"].values()))
    assert same(flops["total"], sum(op["count"] * op["flops"] for op in operators))
    shares = ("weights", "kv", "state", "table_rows", "indices", "io")
    assert same(hbm["compulsory"], sum(hbm[share] for share in shares))
    assert same(hbm["compulsory"], sum(op["count"] * op["compulsory_bytes"] for op in operators))
    assert same(hbm["activations"], sum(op["count"] * op["activation_bytes"] for op in operators))
    assert same(hbm["row_reads"], sum(op["count"] * op["row_reads"] for op in operators))
    assert hbm["table_rows"] <= hbm["row_reads"] * (1 + 1e-12)
    assert hbm["table_rows"] <= hbm["rows_in_sectors"] * (1 + 1e-12)
    l2_bytes = load_hardware("h200").l2_bytes
    assert found["time"]["fits_l2"] == (hbm["compulsory"] <= l2_bytes)
    kv = found["kv_cache"]
    assert hbm["kv"] == kv["read_bytes"] + kv["written_bytes"]
    parameters = found["parameters"]
    groups = parameters["by_group"]
    assert sum(groups.values()) == parameters["total"]
    embeddings = groups["embedding"] + groups.get("lm_head", 0)
    assert parameters["total_without_embeddings"] == parameters["total"] - embeddings
    memory = found["memory"]
    resident = ("weights_bytes", "buffers_bytes", "kv_bytes", "state_bytes", "activations_bytes")
    assert memory["total_bytes"] == sum(memory[name] for name in resident)
    assert memory["fits"] == (memory["total_bytes"] <= memory["capacity_bytes"])
    assert memory["fits"] == (found["workload"]["batch"] <= memory["max_batch"])


@every_case
def test_parts_sum_to_their_operator_and_to_the_kinds(model: str, phase: str) -> None:
    found = document(model, phase)
    by_kind = dict.fromkeys(KINDS, 0)
    routing = dict.fromkeys(("flops", "compares", "bytes", "launches"), 0)
    for op in found["operators"]:
        for total, name in (
            ("flops", "flops"),
            ("compares", "compares"),
            ("compulsory_bytes", "bytes"),
            ("launches", "launches"),
            ("activation_bytes", "activation_bytes"),
            ("intermediate_bytes", "intermediate_bytes"),
        ):
            if op[total] is None:
                assert all(part[name] is None for part in op["parts"])
                continue
            assert same(op[total], sum(part[name] for part in op["parts"])), (op["path"], total)
        assert op["launches"] == op["launches_by_backend"][found["backend"]]
        for part in op["parts"]:
            by_kind[part["kind"]] += op["count"] * part["flops"]
            for name in routing if part["routing"] else ():
                routing[name] += op["count"] * (part[name] or 0)
    assert all(same(by_kind[kind], found["flops"]["by_kind"][kind]) for kind in KINDS)
    for name, summed in routing.items():
        total = found["routing"]["hbm_bytes" if name == "bytes" else name]
        assert summed == 0 if total is None else same(total, summed), name


@every_case
def test_every_null_has_its_reason_and_every_reason_a_null(model: str, phase: str) -> None:
    found = document(model, phase)
    unknown = set(nulls(found))
    reasons = found["reasons"]
    assert unknown == set(reasons)
    assert all(isinstance(reason, str) and reason.strip() for reason in reasons.values())
    assert {"time.predicted_s", "energy.predicted_j"} <= unknown


@every_case
def test_paths_are_unique_and_name_as_many_layers_as_they_count(model: str, phase: str) -> None:
    found = document(model, phase)
    paths = [path for op in found["operators"] for path in expanded_paths(op["path"])]
    assert len(set(paths)) == len(paths) == sum(op["count"] for op in found["operators"])
    layers = range(found["model"]["num_hidden_layers"])
    before = "residual" if "final_residual" in paths else "norm"  # several gated streams
    for layer in layers:  # of one thing or of two
        assert {f"layers.{layer}.{half}_{before}" for half in ("attention", "ffn")} & set(paths)
    assert {"embed", f"final_{before}", "lm_head"} <= set(paths)


@every_case
def test_the_document_says_what_the_prediction_holds(model: str, phase: str) -> None:
    found, expected = document(model, phase), prediction(model, phase)
    costs, workload = expected.costs, expected.workload
    sums, routing = costs.totals, costs.routing
    for field in ("total", *FIELDS["parameters"].split()[1:]):
        assert found["parameters"][field] == getattr(costs.parameters, field)
    for field in FIELDS["kv_cache"].split():
        assert found["kv_cache"][field] == getattr(costs.kv_cache, field)
    for field in FIELDS["memory"].split():
        assert found["memory"][field] == getattr(expected.memory, field)
    assert found["flops"]["total"] == sums.flops
    assert found["flops"]["per_token"] == sums.flops / workload.batch / workload.new_tokens
    assert found["flops"]["attention_convention"] == workload.attention_flops
    assert found["flops"]["by_kind"] == costs.flops_by_kind
    assert found["hbm_bytes"]["compulsory"] == sums.compulsory_bytes
    assert found["hbm_bytes"]["table_rows"] == sums.row_bytes
    assert found["routing"]["hbm_bytes"] == routing.compulsory_bytes
    assert found["routing"]["expected_distinct_experts"] == costs.distinct.experts
    assert found["routing"]["expected_distinct_rows"] == costs.distinct.rows
    assert found["routing"]["launches"] == expected.kernels.routing_launches(costs.operators)
    assert found["backend"] == workload.backend
    assert found["time"]["floor_s"] == expected.floor_s
    assert found["time"]["bound_by"] == expected.bound_by
    assert found["model"]["name"] == expected.model.name
    assert found["hardware"]["name"] == "NVIDIA H200 SXM"
    for shown, operator in zip(found["operators"], costs.operators, strict=True):
        assert shown["path"] == operator.path
        assert shown["flops"] == operator.total("flops")
        assert shown["compulsory_bytes"] == operator.compulsory_bytes
        assert shown["floor_s"] == expected.operator_floor_s(operator)
        assert shown["bound_by"] == expected.operator_bound_by(operator)


@every_case
def test_the_floor_is_the_bound_of_the_totals(model: str, phase: str) -> None:
    found = document(model, phase)
    gpu, time = found["hardware"], found["time"]
    by_bytes = found["hbm_bytes"]["compulsory"] / gpu["hbm_bytes_per_s"]
    by_flops = found["flops"]["total"] / gpu[f"dense_peak_flops_per_s.{gpu['peak_used']}"]
    assert time["floor_s"] == max(by_bytes, by_flops)
    assert time["bound_by"] == ("memory" if by_bytes >= by_flops else "compute")


def test_conventions_are_spelt_out() -> None:
    options = (
        "--phase prefill --new-tokens 7 --dtype int4:32 --kv-dtype fp8 --routing zipf:1.5"
        " --attention-flops full --logits all --mla absorbed"
        " --window-cache whole"
    )
    found = json.loads(output("predict", "deepseek-v2-lite", *options.split(), "--json"))
    assert found["workload"] == {
        "phase": "prefill",
        "batch": 1,
        "context": 0,
        "new_tokens": 7,
        "dtype": "int4:32",
        "dtype_stored_as": "4 bits with a 16-bit scale and a 4-bit zero point per 32 elements",
        "kv_dtype": "fp8",
        "kv_dtype_stored_as": "8 bits with a 32-bit scale per row",
        "routing": "zipf:1.5",
        "attention_flops": "full",
        "logits": "all",
        "fp32_math": "fp32",
        "mla": "absorbed",
        "mla_cache": "latent",
        "window_cache": "whole",
        "placement": "tables=hbm",
        "hot_rows_bytes": 0,
    }


@pytest.mark.parametrize(
    "arguments",
    [
        "predict no-such-model",
        "predict olmoe-1b-7b --batch 0",
        "predict olmoe-1b-7b --batch x",
        "predict olmoe-1b-7b --hardware no-such-gpu",
        "predict no/such/file.json",
        "predict",
        "no-such-command",
    ],
)
def test_bad_input_is_exit_code_2_and_no_output(arguments: str) -> None:
    done = run(*arguments.split())
    assert (done.code, done.out) == (2, "")
    assert done.err.strip()
    assert "Traceback" not in done.err
