"""A formula with its values put in must give the number that the cost model gives."""

import re

import pytest

from costmodel.costs.calibrations import calibrated
from costmodel.costs.predict import Prediction, predict
from costmodel.inputs.catalog import load_model, model_names
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.layers.dtype import parse_dtype
from costmodel.layers.operator import Operator
from costmodel.show.prediction_json import prediction_json
from dashboard.pages.explore.formulas import operator_working
from dashboard.pages.explore.letters import Letter, letters, put_in
from dashboard.pages.explore.total_formulas import TOTALS

DECODE = Workload(batch=64)
PREFILL = Workload(phase="prefill", batch=3, context=100, new_tokens=70)
ALL_LOGITS = Workload(phase="prefill", batch=2, context=0, new_tokens=5, logits="all")
UNGATED = ("peer-12l-1m", "pkm-lm-16l")  # their notes say so
WHOLE = (  # leaves whose formula counts all parts; others count the products, dots or sums alone
    "attention_norm",
    "attention.latent_norm",
    "attention.rope",
    "ffn_norm",
    "final_norm",
    "memory.retrieve",
    "memory.pre_values",
)
ARITHMETIC = re.compile(r"[\d\s.+*/()^-]+")


def predicted(name: str, workload: Workload = DECODE, gpu: str = "h200") -> Prediction:
    return predict(load_model(name), workload, load_hardware(gpu), calibrated(gpu))


def operator_of(prediction: Prediction, leaf: str) -> Operator:
    return next(each for each in prediction.costs.operators if each.path.endswith(leaf))


def with_values(name: str, leaf: str, workload: Workload = DECODE) -> str:
    prediction = predicted(name, workload)
    operator = operator_of(prediction, leaf)
    return put_in(operator.formula, letters(prediction.model, workload.step(), operator))


def worth(text: str) -> float:
    """What a calculator says."""
    assert ARITHMETIC.fullmatch(text), text
    return float(eval(text.replace("^", "**")))  # noqa: S307 - digits and signs only


def test_values_stand_for_letters_and_factors_get_their_sign() -> None:
    found = (
        Letter(name="N", value=64, meaning=""),
        Letter(name="Dk", value=512, meaning=""),
        Letter(name="W", value=None, meaning=""),
    )
    assert put_in("2 N (N + 3) Dk", found) == "2 * 64 * (64 + 3) * 512"
    assert put_in("2 N^2 Dk/N, at most W", found) == "2 * 64^2 * 512/64, at most W"
    assert put_in("Dk = 2 N words (of all N)", found) == "Dk = 2 * 64 words (of all 64)"


def test_formulas_read_as_they_were_worked_out_by_hand() -> None:
    # UltraMemV2-1B/7B, 64 tokens: D 2048, 16 heads of 128, F 5632, m 128, Dk 512, Dv 768, Dp 384,
    # two ranks and cores; 16 x 528^2 rows, half of them in reach: 1493^2.
    model = "ultramemv2-1b-7b"
    assert with_values(model, "attention.qkv") == "2 * 64 * 2048 * (16 + 2 * 16) * 128"
    assert with_values(model, "attention.core") == (
        "2 * 64 * 2049 * 16 * (128 + 128); pairs = 1 * 2048 + 1 * (1 + 1) / 2, each row at most W"
    )
    assert with_values(model, "memory.values") == (
        "2 * 64 * 1 * 128 * 768; bytes: distinct rows of 768"
    )
    assert with_values(model, "memory.retrieve") == (
        "64 * 1 * (4 * 2 * 1493 * 512 + 4 * 2 * 1493"
        " + 2 * (2 * 128 * 2^2 + 2 * 128^2 * 2 + 128^2)); compares 64 * 1 * (2 * 1493 + 128^2)"
    )
    # a window of 128 tokens; the experts of OLMoE
    assert with_values("gpt-oss-20b", "{0,2,4,6,8,10,12,14,16,18,20,22}.attention.core") == (
        "2 * 64 * 128 * 64 * (64 + 64); pairs = 1 * 2048 + 1 * (1 + 1) / 2, each row at most 128"
    )
    assert with_values("olmoe-1b-7b", "moe.experts") == (
        "2 * 64 * 8 * 2048 * 1024 * (3 gated, 2 else);"
        " bytes: 64 * (1 - (1 - 8/64)^64) experts if uniform"
    )
    # shared experts of DeepSeek-V2-Lite are two of 1408; its queries are not compressed
    assert with_values("deepseek-v2-lite", "moe.shared_down") == "2 * 64 * 2816 * 2048"
    assert with_values("deepseek-v2-lite", "latent_norm") == "4 * 64 * (512 + 0)"


@pytest.mark.parametrize(
    "workload", [DECODE, PREFILL, ALL_LOGITS], ids=["decode", "prefill", "all logits"]
)
@pytest.mark.parametrize("name", model_names())
def test_a_formula_with_its_values_is_the_operators_flops(name: str, workload: Workload) -> None:
    prediction = predicted(name, workload)
    wrong, checked = {}, 0
    for operator in prediction.costs.operators:
        found = letters(prediction.model, workload.step(), operator)
        clause = put_in(operator.formula, found).split(";")[0].split(" gated")[0].split(" (l")[0]
        if workload.logits == "all" and operator.path == "lm_head":
            clause = put_in(operator.formula, found).split(", ")[1].split(" (of")[0]
        if operator.path.endswith("ffn.gate_up") and name in UNGATED:
            clause = put_in(operator.formula, found).split(", ")[1].split(" else")[0]
        if operator.path.startswith("embed") or "QK-norm" in operator.formula:
            continue  # no FLOPs; a term that not every model has
        if "absorbed" in operator.formula:
            clauses = put_in(operator.formula, found).split("; ")
            clause = clauses[workload.mla_mode == "expanded"].removeprefix(workload.mla_mode)
            clause = clause.split(" * (x")[0]
        elif operator.path.endswith("moe.experts"):
            clause = clause.replace("(3", "3")  # all presets' experts are gated
        flops = operator.total("flops")
        if operator.leaf not in WHOLE:
            flops = sum(part.flops for part in operator.parts if part.kind == operator.kind)
        checked += 1
        if worth(clause) != flops:
            wrong[operator.path] = (clause, flops)
    assert not wrong
    assert checked >= len(prediction.costs.operators) - 3


@pytest.mark.parametrize("name", model_names())
def test_no_letter_of_a_formula_lacks_its_value(name: str) -> None:
    prediction = predicted(name)
    for operator in prediction.costs.operators:
        written = put_in(operator.formula, letters(prediction.model, DECODE.step(), operator))
        letter = r"(?<![\w'-])[A-Za-z][kvp]?(?![\w'-])(?! =)"  # not `f = ...`, which defines one
        assert set(re.findall(letter, written)) <= {"W"}  # no window


def test_the_parts_of_an_operator_sum_to_it() -> None:
    prediction = predicted("ultramemv2-1b-7b")
    for operator in prediction.costs.operators:
        terms = operator_working(prediction, operator).terms
        assert sum(term["FLOPs"] for term in terms) == operator.total("flops")
        moved = sum(
            term[f"{name}, B"]
            for term in terms
            for name in ("Weights", "KV", "Table rows", "Indices", "Step's own in and out")
        )
        assert moved == pytest.approx(operator.compulsory_bytes, rel=1e-12)


def test_the_working_of_an_operator_can_be_checked_with_a_calculator() -> None:
    prediction = predicted("ultramemv2-1b-7b")
    working = operator_working(prediction, operator_of(prediction, "attention.qkv"))
    assert working.lines[0] == "formula:     2 N D (H + 2 K) d"
    assert working.lines[3] == (
        "FLOPs = 1,610,612,736; of 16 layers: 25,769,803,776"  # 2 x 64 x 2048 x 48 x 128
    )
    assert working.lines[4] == "HBM bytes = 25,165,824; of 16 layers: 402,653,184"  # 2 B a weight
    assert working.lines[5] == (
        "floor = max(25,165,824 B / 4.8e+12 B/s, 1,610,612,736 FLOP / 9.894e+14 FLOP/s of bf16)"
        " = 5.243 us"
    )
    assert working.terms[0]["Priced as"] == "Gemm m=64, n=6144, k=2048, calls=1"
    assert {row["Letter"]: row["Value"] for row in working.letters} == {
        "N": "64",
        "D": "2,048",
        "H": "16",
        "K": "16",
        "d": "128",
    }


def numbers(line: str) -> list[float]:
    return [float(each.replace(",", "")) for each in re.findall(r"\d[\d,]*(?:\.\d+)?", line)]


@pytest.mark.parametrize("total", ["HBM bytes", "FLOPs", "Parameters"])
@pytest.mark.parametrize("name", model_names())
def test_the_terms_of_a_total_sum_to_it(name: str, total: str) -> None:
    line = TOTALS[total](predicted(name)).lines[1]
    *terms, result = numbers(line)
    assert sum(terms) == pytest.approx(result, abs=0.01 * len(terms))


def test_totals_are_those_of_the_prediction() -> None:
    prediction = predicted("ultramemv2-1b-7b")
    lines = {name: "\n".join(show(prediction).lines) for name, show in TOTALS.items()}
    # By hand: 16 layers x 2 x 16 heads x 128 x 2 B x 64 sequences x 2,049 tokens
    assert "= 16 x 8,192 x 64 x 2,049 = 17,188,257,792 B" in lines["KV cache"]
    assert "read by the step = 17,179,869,184 B" in lines["KV cache"]
    assert "= 6,287,050,880" in lines["Parameters"]
    assert "without embeddings and LM head: 6,081,005,696" in lines["Parameters"]  # printed 6.08 B
    assert "of a layer" not in lines["Distinct experts and rows"].lower()
    # 1493^2 rows, 128 a token, 64 tokens: 2229049 (1 - (1 - 128/2229049)^64) = 8177.20
    assert "= 8,177.20" in lines["Distinct experts and rows"]
    assert "bound" not in lines["Tokens per second"]
    assert (
        lines["Routing"]
        .splitlines()[0]
        .endswith(f", launches {prediction_json(prediction)['routing']['launches']:,}")
    )


@pytest.mark.parametrize("name", ["ultramemv2-1b-7b", "llama-3.1-8b", "deepseek-v2-lite"])
def test_the_largest_batch_is_what_its_line_says(name: str) -> None:
    prediction = predicted(name)
    line = TOTALS["Resident memory, largest batch and context"](prediction).lines[4]
    capacity, weights, buffers, kv, activations, batch, most = numbers(line)
    assert (capacity, batch) == (150_109_880_320, 64)
    room = capacity - weights - buffers
    assert most == room // ((kv + activations) / batch) == prediction.memory.max_batch


def test_the_largest_context_is_what_its_line_says() -> None:
    show = TOTALS["Resident memory, largest batch and context"]
    line = show(predicted("ultramemv2-1b-7b")).lines[-1]
    most, context, held, after, held_after = numbers(line)
    # By hand: 16 layers x 2 x 16 heads x 128 x 2 B x 64 sequences for each token cached, beside
    # 12,574,101,760 B of weights and 285,318,528 B of buffers, on 150,109,880,320 B
    assert (context, after) == (most, most + 1)
    assert held_after - held == 16 * 8192 * 64
    assert held <= 150_109_880_320 < held_after
    activations = held - 16 * 8192 * 64 * (most + 1) - 12_574_101_760 - 285_318_528
    assert activations == predicted("ultramemv2-1b-7b").memory.activations_bytes
    assert show(predicted("deepseek-v3")).lines[-1].startswith("= none: with 0 tokens ")


def test_the_eager_time_is_what_its_line_says() -> None:
    few = Workload(phase="prefill", batch=1, context=0, new_tokens=5)
    line = TOTALS["Predicted time"](predicted("ultramemv2-1b-7b", few)).lines[3]
    found = re.fullmatch(r"= max\((.*) ms, ([\d,]+) x (.*) us\) = (.*) ms", line)
    assert found
    graph_ms, launches, each_us, eager_ms = (
        float(each.replace(",", "")) for each in found.groups()
    )
    assert eager_ms == pytest.approx(max(graph_ms, launches * each_us / 1e3), rel=1e-3)
    assert eager_ms > graph_ms


def test_the_energy_is_what_its_line_says() -> None:
    prediction = predicted("ultramemv2-1b-7b")
    line = TOTALS["Energy per token"](prediction).lines[1]
    sums = line.removeprefix("= ").split(", at most")[0]
    cleaned = re.sub(r"(?<=\d),(?=\d)", "", sums)
    cleaned = re.sub(r" (?:W|s|B|FLOP|B/s|FLOP/s)(?= |$|\))", "", cleaned).replace(" x ", " * ")
    assert not isinstance(prediction.time, str)
    found = eval(re.sub(r"[^\d\s.+*/()e-]", "", cleaned))  # noqa: S307 - digits and signs only
    energy = getattr(prediction.time, "energy_j", None)
    assert found == pytest.approx(energy, rel=1e-4)


@pytest.mark.parametrize("total", TOTALS)
def test_every_total_has_a_working_also_where_nothing_is_predicted(total: str) -> None:
    fp8 = Workload(dtype=parse_dtype("fp8", field="dtype"))
    for prediction in (
        predicted("llama-3.1-8b"),
        predicted("qwen3-30b-a3b", gpu="b200"),
        predicted("ultramemv2-1b-7b", fp8),
        predicted("peer-12l-1m", PREFILL),
    ):
        working = TOTALS[total](prediction)
        assert working.lines
        assert working.source
        assert all(isinstance(line, str) and "None" not in line for line in working.lines)
    if total in ("Predicted time", "Energy per token"):
        unknown = TOTALS[total](predicted("qwen3-30b-a3b", gpu="b200")).lines
        assert unknown == (
            "not predicted: no calibration for GPU 'b200'; `sparsecost calibrate` makes one",
        )
