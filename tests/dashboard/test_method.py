"""The Method page: nothing that the code says of its formulas is missing from it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from costmodel.costs.calibrations import calibrated, calibration_names
from costmodel.costs.kernel_times import Curves
from costmodel.costs.operators import build_operators
from costmodel.costs.quantities.requests import REQUEST_QUANTITIES
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.inputs.catalog import load_model, model_names
from costmodel.inputs.workload import Workload
from costmodel.layers.base import LayerKind
from costmodel.layers.site import expanded_paths
from costmodel.recordings.quantities import QUANTITIES
from dashboard.app.widgets import WORD_JOINER, plain
from dashboard.pages.method import data, facts
from dashboard.pages.method.data import FORMULAS, MEASURED, NOTATION, NUMBERS, PARTS, PREDICTED
from dashboard.pages.method.documented import folder_of
from tests.dashboard.pages import opened

ROOT = Path(__file__).parents[2]
FORMULA = "Formula: FLOPs, or bytes where it says so"
ROOMS = tuple(
    f"costmodel/{room}" for room in ("layers", "routing", "backends", "costs", "validation")
)

# Public functions of costmodel/costs without a source of their own, and why they need none.
SUMS = "adds up what operators state; they carry the sources"
OURS = "a method of this project, which docstrings describe; its check is `sparsecost validate`"
NO_FORMULA = "looks something up"
BEYOND = "turns numbers that a histogram cannot give into None, with the reason"
RULE = "a rule of the placement, which its error names"
DIVIDED = "divides by the rules of the mesh: costmodel/layers/mesh.py names their sources"
WITHOUT_SOURCE = {
    **dict.fromkeys(("step_energy_j", "fitted", "of_card"), OURS),  # of energy
    **dict.fromkeys(
        ("hbm_traffic", "region_traffic", "step_spread", "leaves_spread", "part_s"), OURS
    ),
    "features_of": NO_FORMULA,
    "classed": NO_FORMULA,
    "leaf_regions": SUMS,
    "unknown_traffic": BEYOND,
    "along_gpus": NO_FORMULA,
    "mixing_sites": "asks the kind of the streams for its operators, which have sources",
    "terms_in": NO_FORMULA,
    "bounded": SUMS,
    "busiest_load": DIVIDED,
    "busiest_reads": DIVIDED,
    "check_links": "a rule of the links, which its error names",
    "exchanges": DIVIDED,
    "gpu_operators": DIVIDED,
    "gpus_of_token": DIVIDED,
    "joined": NO_FORMULA,
    "kept_division": NO_FORMULA,
    "kept_parameters": NO_FORMULA,
    "mesh_step": DIVIDED,
    "mesh_time": OURS,
    "of_layers": DIVIDED,
    "parallel": SUMS,
    "parallel_columns": NO_FORMULA,
    "renamed": "says which term of a bound is longer",
    "share": "a division",
    "split_model": DIVIDED,
    "whole_costs": SUMS,
    "with_busiest_load": DIVIDED,
    "with_copies": DIVIDED,
    "with_mesh": OURS,
    "beyond": BEYOND,
    "cached_share": SUMS,
    "check_host_memory": RULE,
    "check_names": RULE,
    "far_bytes": SUMS,
    "far_tables": SUMS,
    "hot_rows_bytes": SUMS,
    "gated_sites": SUMS,
    "joins": SUMS,
    "link_times": NO_FORMULA,
    "placed_embedding": SUMS,
    "rising_keys": "makes measured times rise, as `isotonic` does",
    "stored_in": SUMS,
    "stream_operators": SUMS,
    "table_operators": SUMS,
    "touched_rows": NO_FORMULA,
    "unpriced": "says why there is no predicted time",
    "with_far_ceilings": NO_FORMULA,
    "is_unknown": BEYOND,
    "or_none": BEYOND,
    "without_nan": BEYOND,
    "computed_values": NO_FORMULA,
    "build_operators": "lists the operators of layers, which carry the sources",
    "columns": NO_FORMULA,
    "kept_bytes": SUMS,
    "kind_operators": "lists the operators of a layer kind, which carry the sources",
    "with_formats": "says in which format an operator computes: roofline.py prices it",
    "region_time": OURS,
    "step_values": NO_FORMULA,
    "predict": SUMS,
    "predicted_columns": NO_FORMULA,
    "residual_adds": "counts layers",
    "step_costs": SUMS,
    "bound_by": "says which term of `floor_s` is longer, whose source holds",
    "calibrated": NO_FORMULA,
    "calibration_names": NO_FORMULA,
    "offered_names": NO_FORMULA,
    "shipped_leaves": NO_FORMULA,
    "own_calibrations": NO_FORMULA,
    "own_folder": NO_FORMULA,
    "told_columns": NO_FORMULA,
    "for_step": "scales by datasheet ratios; the spreads beside it have their source",
    "multiplied_flops_per_s": "picks a peak of the datasheet",
    "transfer_of": NO_FORMULA,
    "distinct": SUMS,
    "energy_j": OURS,
    "flops_by_kind": SUMS,
    "footprint": SUMS,
    "kv_bytes_per_token": SUMS,
    "kv_cache": SUMS,
    "kv_stored_bytes": SUMS,
    "log": "a definition",
    "multiply_adds": "a definition: the pairs of a causal mask, summed",
    "not_timed": "says why there is no predicted time",
    "operator_time": OURS,
    "parameter_counts": SUMS,
    "repeated_row_bytes": SUMS,
    "routing_totals": SUMS,
    "row_totals": SUMS,
    "side_bytes_per_token": SUMS,
    "step_time": OURS,
    "stored_bytes": SUMS,
    "stored_weights": SUMS,
    "totals": SUMS,
    "union_share": SUMS,
    "with_share": "the share of `with_table_rows`, whose source holds",
    "with_backend": "the same step, its time by another backend",
}


def functions_in(room: str) -> Iterator[tuple[str, str, str]]:
    """File, name and docstring of public functions, from the source: another way than the page's.

    Docstrings are joined to one line of words.
    """
    for path in sorted((ROOT / room).rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                words = " ".join((ast.get_docstring(node) or "").split())
                yield path.relative_to(ROOT).as_posix(), node.name, words


def test_every_public_function_of_the_formulas_is_shown_with_its_whole_docstring() -> None:
    shown = {
        (docstring.file, docstring.name): " ".join(docstring.text.split())
        for part in PARTS.values()
        for docstring in part.docstrings()
    }
    functions = [function for room in ROOMS for function in functions_in(room)]
    assert len(functions) > 50
    for file, name, words in functions:
        assert shown[file, name] == words


def test_functions_of_costs_without_a_source_are_known_and_have_a_reason() -> None:
    without = {name for _, name, doc in functions_in("costmodel/costs") if "Source:" not in doc}
    assert without <= set(WITHOUT_SOURCE)


def test_the_source_of_the_roofline_bound_and_what_it_leaves_out_are_shown() -> None:
    text = data.find(FORMULAS).text("costmodel/costs/roofline.py")
    assert "Williams et al., CACM 52(4), 2009" in text
    assert "Leaves out launches" in text


def test_a_file_is_listed_once_with_the_number_of_its_docstrings() -> None:
    content = data.find(FORMULAS)
    rows = {row["File"]: row for row in content.rows()}
    assert list(rows) == content.files
    row = rows["costmodel/costs/roofline.py"]
    in_file = [d for d in content.docstrings if d.file == row["File"]]
    assert row["Docstrings, count"] == str(len(in_file))
    assert {"", "floor_s", "bound_by"} <= {d.name for d in in_file}
    assert content.text(row["File"]).startswith(row["Says"])


def test_no_docstring_stands_in_two_parts_but_for_notation() -> None:
    docstrings = [
        docstring
        for name, part in PARTS.items()
        if name != NOTATION
        for docstring in part.docstrings()
    ]
    assert len(docstrings) == len(set(docstrings))


def test_every_operator_of_every_preset_has_its_formula_and_source_on_the_page() -> None:
    shown = {
        (row["Operator"], formula, row["Source"])
        for row in facts.operators()
        for formula in row[FORMULA].split(facts.OR)
    }
    leaves = {operator for operator, _, _ in shown}
    for name in model_names():
        for workload in (Workload(batch=3), Workload(phase="prefill", new_tokens=5)):
            for operator in build_operators(load_model(name), workload.step()):
                path = expanded_paths(operator.path)[0].split(".")
                leaf = ".".join(path[2:] if path[0] == "layers" else path)
                assert (leaf, operator.formula, operator.source) in shown
                leaves.discard(leaf)
    assert not leaves  # and nothing else is there


def test_every_layer_kind_has_operators_and_none_comes_twice() -> None:
    def leaves(kind: type[Any]) -> set[str]:
        below = {name for subclass in kind.__subclasses__() for name in leaves(subclass)}
        return below or {kind.__name__}

    rows = facts.operators()
    kinds = {row["Layer kind"] for row in rows}
    without = {"NoFfn", "NoMixer"}  # operators; and no preset has the layers of Falcon-H1
    assert kinds == (leaves(LayerKind) | {"every model"}) - without - {"AttentionAndMamba2"}
    keys = [(row["Layer kind"], row["Operator"]) for row in rows]
    assert len(keys) == len(set(keys))
    every = {row["Operator"] for row in rows if row["Layer kind"] == "every model"}
    assert every == {
        *("embed", "token_history", "ngram_join", "ple_join", "attention_norm", "ffn_norm"),
        *("post_attention_norm", "post_ffn_norm", "final_norm", "lm_head"),
    }


def test_every_measured_quantity_is_shown_with_the_files_of_its_runs() -> None:
    rows = {row["Quantity"]: row for row in facts.measured_quantities()}
    assert list(rows) == list(QUANTITIES)
    energy = rows["energy_j"]
    assert (energy["Unit"], energy["Run"], energy["Of"]) == ("j", "energy", "step")
    assert energy["How"] == "profiler/runs/energy.py"
    assert rows["parameters"]["Must agree"] == "exactly"
    for row in rows.values():
        assert row["How"]
        assert all((ROOT / file).is_file() for file in row["How"].split(", "))


def test_every_predicted_quantity_is_shown_once_and_its_function_is_there() -> None:
    rows = {row["Where"].partition(", by ")[0]: row for row in facts.predicted_quantities()}
    for command, register in (("predict", STEP_QUANTITIES), ("request", REQUEST_QUANTITIES)):
        for quantity in register.values():
            row = rows[f"{command}: {quantity.name}"]
            assert row["Counts"].startswith(quantity.counts)
            assert quantity.leaves_out in row["Counts"]
            module, _, path = quantity.formula.partition(":")
            function = reduce(getattr, path.split("."), import_module(module))
            assert callable(function) or isinstance(function, property)
            assert row["Where"].endswith(f".{path}")
    assert len(rows) == len(facts.predicted_quantities())


def test_the_notation_and_the_letters_of_layers_are_shown() -> None:
    content = data.find(NOTATION)
    assert content.files[0] == "costmodel/__init__.py"
    notation = content.text("costmodel/__init__.py")
    assert all(meaning in notation for meaning in ("B  sequences", "N  tokens of the step, B T"))
    assert "F width" in content.text("costmodel/layers/ffn.py")


def test_every_file_of_the_profiler_is_among_the_methods() -> None:
    shown = {d.file for part in (PREDICTED, MEASURED) for d in PARTS[part].docstrings()}
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "profiler").rglob("*.py")}
    assert files <= shown


def test_every_shipped_calibration_is_shown_with_its_points() -> None:
    rows = {row["Calibration"]: row for row in facts.calibrations()}
    assert list(rows) == list(calibration_names())
    for name, row in rows.items():
        curves = calibrated(name.removesuffix(".leaves"), name)
        assert isinstance(curves, Curves)
        for sort in ("move", "gemm", "grouped", "rows", "attention", "topk"):
            count = len(getattr(curves.calibration, sort))
            assert f"{sort} {count}" in row["Points, count"].split(", ")


def test_reading_the_profilers_methods_imports_neither_it_nor_torch() -> None:
    program = (
        "import sys; from dashboard.pages.method import data; [data.find(p) for p in data.PARTS];"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'profiler', 'torch'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


def test_a_search_wants_all_words_in_any_case() -> None:
    assert data.holds("Distinct rows of Dv", "dv DISTINCT")
    assert not data.holds("Distinct rows of Dv", "distinct experts")
    content = data.find(FORMULAS, "latentattention q_up")
    assert [row["Operator"] for row in content.facts] == ["attention.q_up"]
    assert data.find(MEASURED, "no such word at all").files == []


def column(at: AppTest, index: int, name: str) -> list[str]:
    return list(at.table[index].value[name])


def test_the_page_opens_with_the_formulas() -> None:
    at = opened("method")
    metrics = {metric.label: metric.value for metric in at.metric}
    assert metrics["Measured quantities"] == str(len(QUANTITIES))
    assert metrics["Operator formulas"] == str(len(facts.operators()))
    assert at.segmented_control(key="me_part").value == FORMULAS
    assert plain("attention.core") in column(at, 0, "Operator")


@pytest.mark.parametrize(
    ("part", "header"),
    [(NOTATION, "File"), (NUMBERS, "Counts"), (PREDICTED, "Calibration"), (MEASURED, "Quantity")],
)
def test_a_link_opens_its_part(part: str, header: str) -> None:
    at = opened("method", me_part=part)
    assert header in at.table[0].value.columns


def test_a_link_with_a_search_shows_what_it_finds() -> None:
    at = opened("method", me_part=MEASURED, me_search="energy counter")
    assert at.selectbox(key="me_file").options[0] == "profiler/instruments/energy.py"
    assert "energy counter" in at.code[0].value
    assert any(text.value.startswith("Found: notation 0") for text in at.text)


def test_a_typed_search_narrows_the_tables() -> None:
    at = opened("method")
    at.text_input(key="me_search").set_value("2407.04153").run()
    assert not at.exception
    assert set(column(at, 0, "Layer kind")) == {"Peer"}
    assert set(column(at, 1, "File")) == {plain("costmodel/layers/peer.py")}


def test_a_search_that_finds_nothing_says_so_without_obeying_it() -> None:
    at = opened("method", me_search="<b>$x$ [a](http://b)")
    (said,) = at.info
    shown = said.value.replace(WORD_JOINER, "")
    assert shown.endswith(r"\<b\>\$x\$ \[a\]\(http\://b\)")
    assert not at.table


@pytest.mark.parametrize("query", [{"me_part": "nonsense"}, {"me_file": "../../etc/passwd"}])
def test_a_link_with_a_wrong_choice_opens_the_usual_one(query: dict[str, str]) -> None:
    at = opened("method", **query)
    assert at.segmented_control(key="me_part").value == FORMULAS
    assert at.selectbox(key="me_file").value == data.find(FORMULAS).files[0]


def test_a_search_that_is_too_long_is_not_made() -> None:
    at = opened("method", me_search="x" * 5000)
    assert all(len(text.value) < 2 * data.MAX_SEARCH_CHARS for text in (*at.info, *at.text))


def test_a_file_of_another_part_gives_way_to_one_of_this_part() -> None:
    at = opened("method", me_file="costmodel/layers/ultramem_retrieve.py")
    assert "tucker_retrieve" in at.code[0].value
    at.segmented_control(key="me_part").set_value(MEASURED).run()
    assert not at.exception
    assert at.selectbox(key="me_file").value in at.selectbox(key="me_file").options


def test_without_the_profiler_the_page_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(name: str) -> Path | None:
        return None if name == "profiler" else folder_of(name)

    monkeypatch.setattr("dashboard.pages.method.documented.folder_of", without)
    monkeypatch.setattr("dashboard.pages.method.data.folder_of", without)
    at = opened("method", me_part=MEASURED)
    assert [info.value for info in at.info] == [
        "The package profiler is not installed: how it measures cannot be shown here."
    ]
    assert column(at, 0, "Quantity") == [plain(name) for name in QUANTITIES]
    assert not any(file.startswith("profiler") for file in column(at, 1, "File"))
