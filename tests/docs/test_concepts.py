"""The worked numbers of docs/concepts.md: computed as they are printed, and the tool's own."""

import ast
import json
import operator
import re
from collections.abc import Callable
from typing import Any

import pytest

import costmodel
from costmodel.layers.site import expanded_paths
from docs.write import ROOT
from tests.commands import output

TEXT = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
PLAIN = re.sub(r"<!--.*?-->", "", TEXT)
SPANS = [" ".join(span.split()) for span in PLAIN.split("`")[1::2]]
WORKED = [span for span in SPANS if " = " in span]
SCALES = {"": 1, "%": 0.01, "MFLOP": 1e6, "G": 1e9, "T": 1e12, "ms": 1e-3}
SCALES |= {"MB": 1e6, "GB": 1e9, "TB": 1e12}
OPERATIONS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


def calculated(formula: str) -> float:
    """The value of plain arithmetic; a unit after a number scales it."""
    plain = formula.replace("^", "**")
    for unit in ("MB", "GB", "TB", "MFLOP", "ms", "G", "T"):
        plain = re.sub(rf"([\d.]+) {unit}\b", rf"(\1 * {SCALES[unit]!r})", plain)

    def value(node: ast.AST) -> float:
        match node:
            case ast.Expression(body=body):
                return value(body)
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.BinOp(left=left, op=op, right=right):
                return float(OPERATIONS[type(op)](value(left), value(right)))
        raise AssertionError(f"{formula}: no plain arithmetic")

    return value(ast.parse(plain, mode="eval"))


@pytest.mark.parametrize("worked", WORKED)
def test_worked_numbers_are_right(worked: str) -> None:
    """To the digits that are printed."""
    formula, _, result = worked.partition(" = ")
    printed, _, unit = result.partition(" ")
    number = printed.replace(",", "")
    digits = len(number.partition(".")[2])
    scale = SCALES[unit]
    assert abs(calculated(formula) / scale - float(number)) <= 0.5001 * 10**-digits, worked


def result(start: str) -> float:
    """The result of the worked number that begins so."""
    (found,) = {worked for worked in WORKED if worked.startswith(start)}
    printed, _, unit = found.partition(" = ")[2].partition(" ")
    return float(printed.replace(",", "")) * SCALES[unit]


@pytest.fixture(scope="module")
def step() -> Any:  # noqa: ANN401 - JSON
    """The example of the page."""
    command = "predict olmoe-1b-7b --batch 16 --context 2048 --json"
    assert command.removesuffix(" --json") in " ".join(TEXT.split())
    return json.loads(output(*command.split()))


def test_the_tool_gives_the_same_table_of_ngrams() -> None:
    command = "predict engram-v4.1-flash-moe-reconstruction --batch 1 --dtype checkpoint --json"
    by_path = {op["path"]: op for op in json.loads(output(*command.split()))["operators"]}
    assert by_path["layers.1.ngram.rows"]["row_reads"] == result("3 * 8 *")
    project = by_path["layers.{1,14}.ngram.project"]
    assert project["flops"] == pytest.approx(result("2 * 6144 *"), rel=1e-3)


@pytest.fixture(scope="module")
def memory_step() -> Any:  # noqa: ANN401 - JSON
    command = "predict ultramemv2-1b-7b --batch 16 --context 2048 --json"
    return json.loads(output(*command.split()))


def test_the_tool_gives_the_same_cache(step: Any) -> None:  # noqa: ANN401 - JSON
    cache = step["kv_cache"]
    assert cache["bytes_per_token"] == result("2 * 16 * 16 * 128 * 2")
    assert cache["read_bytes"] == pytest.approx(result("16 * 2048 * 131072"), rel=1e-3)
    assert cache["written_bytes"] == pytest.approx(result("16 * 131072"), rel=1e-3)
    assert cache["stored_bytes"] == pytest.approx(result("16 * 2049 * 131072"), rel=1e-3)
    latent = json.loads(output("predict", "deepseek-v3", "--json"))["kv_cache"]
    assert latent["bytes_per_token"] == result("61 * (512 + 64) * 2")


def test_the_tool_gives_the_same_bound(step: Any) -> None:  # noqa: ANN401 - JSON
    assert step["hbm_bytes"]["compulsory"] == pytest.approx(16.41e9, rel=5e-4)
    assert step["flops"]["total"] == pytest.approx(42.09e9, rel=5e-4)
    assert step["hardware"]["hbm_bytes_per_s"] == 4.8e12
    assert step["hardware"]["dense_peak_flops_per_s.bf16"] == 989.4e12
    assert step["time"]["floor_s"] == pytest.approx(result("16.41 GB / 4.8 TB"), rel=5e-4)
    assert step["time"]["bound_by"] == "memory"


def test_the_utilisation_is_of_the_measured_time() -> None:
    """The worked numbers take the time that the sentence before them takes from a recording."""
    (ms,) = re.findall(r"<!--=example_ms-->([\d.]+)<!--/-->", TEXT)
    assert f"16.41 GB / {ms} ms / 4.8 TB = 43.4 %" in WORKED
    assert f"42.09 G / {ms} ms / 989.4 T = 0.54 %" in WORKED


def test_the_tool_gives_the_same_choices(step: Any, memory_step: Any) -> None:  # noqa: ANN401 - JSON
    distinct = step["routing"]["expected_distinct_experts"]
    assert distinct == pytest.approx(result("64 * (1 - (1 - 8/64)^16)"), abs=0.05)
    rows = memory_step["routing"]["expected_distinct_rows"]
    assert rows == pytest.approx(result("2229049 * (1 - (1 - 128/2229049)^16)"), abs=0.05)
    row_reads = memory_step["hbm_bytes"]["row_reads"]
    assert row_reads == pytest.approx(result("2047.1 * (384 + 768)"), rel=1e-3)
    assert result("1493^2") == 2_229_049
    options = ["--batch", "4096", "--context", "2048", "--hardware", "h200", "--json"]
    large = json.loads(output("predict", "ultramemv2-1b-7b", *options))
    assert large["hbm_bytes"]["table_rows"] == pytest.approx(result("3780000 *"), rel=1e-3)
    assert large["hbm_bytes"]["row_reads"] == pytest.approx(result("467205 * (384"), rel=2e-3)


def test_the_tool_gives_the_same_routing_cost(step: Any, memory_step: Any) -> None:  # noqa: ANN401 - JSON
    """The page has the products; the tool adds softmax, top-k, grid and combine: a few percent."""
    router, retrieval = result("2 * 2048 * 64 * 16"), result("16 * (2 * 2048")
    assert router < step["routing"]["flops"] / 16 < 1.15 * router
    assert retrieval < memory_step["routing"]["flops"] / 16 < 1.05 * retrieval


def test_kernels_of_a_layer_are_those_of_the_backends() -> None:
    """At 16 and at one token; layer 7 has all operators of a layer."""
    for backend, batch, words in (
        ("torch", 16, "a layer of OLMoE-1B-7B launches {} kernels"),
        ("fused", 1, "{} kernels a layer at one token"),
        ("fused", 16, "at one token of a step, {} beyond"),
    ):
        options = ("--batch", str(batch), "--context", "2048", "--backend", backend)
        data = json.loads(output("predict", "olmoe-1b-7b", *options, "--json"))
        launches = sum(
            operator["launches"]
            for operator in data["operators"]
            if "layers.7.attention_norm" in expanded_paths(operator["path"])
            or operator["path"].startswith("layers.{0-15}.")
        )
        assert words.format(launches) in " ".join(PLAIN.split())


def test_the_page_works_out_enough() -> None:
    assert len(WORKED) >= 20


def test_the_notation_table_has_the_letters_of_the_formulas() -> None:
    """Each letter of `costmodel.__doc__` stands in the section on notation."""
    legend = costmodel.__doc__ or ""
    block = legend.partition("\n\n")[2].partition("package:\n\n")[2] or legend
    letters = set(re.findall(r"(?m)(?:^ {4}|\S {2,})([A-Z][a-z]?|[a-z])  ?\w", block))
    section = TEXT.partition("## Notation")[2]
    for letter in letters:
        assert re.search(rf"(?<![\w_]){letter}(?![\w_])", section), letter
    assert len(letters) >= 20
