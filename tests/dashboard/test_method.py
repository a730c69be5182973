"""The Method page: nothing that the code says of its formulas is missing from it."""

import inspect
import logging
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from costmodel.costs.calibrations import calibration_names
from costmodel.costs.operators import build_operators
from costmodel.inputs.catalog import load_model, model_names
from costmodel.inputs.workload import Workload
from costmodel.layers.base import LayerKind
from costmodel.layers.site import expanded_paths
from costmodel.recordings.quantities import QUANTITIES
from dashboard.app.widgets import plain
from dashboard.pages.method import data as method
from dashboard.pages.method.data import FORMULAS, MEASURED, NOTATION, PREDICTED
from dashboard.pages.method.docstrings import package_folder

ROOT = Path(__file__).parents[2]
APP = str(ROOT / "app.py")
VIEW = "dashboard/pages/method/page.py"

# Public functions of costmodel/costs without a source of their own, and why they need none.
SUMS = "adds up what operators state; they carry the sources"
OURS = "a method of this project, which docstrings describe; its check is `sparsecost validate`"
NO_FORMULA = "looks something up"
WITHOUT_SOURCE = {
    "calibrated.calibrated": NO_FORMULA,
    "calibrated.calibration_names": NO_FORMULA,
    "curves.multiply_adds": "a definition: the pairs of a causal mask, summed",
    "energy.energy_j": OURS,
    "footprint.footprint": SUMS,
    "footprint.stored_bytes": SUMS,
    "interpolate.log": "a definition",
    "predicted.operator_time": OURS,
    "predicted.step_time": OURS,
    "time.bound_by": "says which term of `floor_s` is longer, whose source holds",
    "totals.distinct": SUMS,
    "totals.flops_by_kind": SUMS,
    "totals.kv_bytes_per_token": SUMS,
    "totals.kv_cache": SUMS,
    "totals.kv_stored_bytes": SUMS,
    "totals.parameter_counts": SUMS,
    "totals.routing_totals": SUMS,
    "totals.stored_weights": SUMS,
    "totals.totals": SUMS,
}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("streamlit").setLevel(logging.ERROR)


def modules(package: str) -> list[str]:
    folder = ROOT / package.replace(".", "/")
    return [f"{package}.{p.stem}" for p in sorted(folder.glob("*.py")) if p.stem != "__init__"]


def public_functions(module: str) -> dict[str, str]:
    """Name and docstring, by importing: another way than that of the page."""
    return {
        name: inspect.getdoc(value) or ""
        for name, value in vars(import_module(module)).items()
        if isinstance(value, FunctionType | type)
        and not name.startswith("_")
        and value.__module__ == module
    }


def test_every_public_formula_docstring_with_a_source_is_shown_with_that_source() -> None:
    shown = {
        (row["File"], row["Of"]): row["Source"]
        for part in (FORMULAS, PREDICTED)
        for row in method.entry_rows(method.entries(part))
    }
    sourced = 0
    for package in ("costmodel.layers", "costmodel.costs"):
        for module in modules(package):
            file = f"{module.replace('.', '/')}.py"
            for name, doc in public_functions(module).items():
                if "Source: " not in doc:
                    continue
                sourced += 1
                cited = " ".join(doc.split("Source: ")[1].split("\n\n")[0].split())
                assert shown[file, name] == cited
    assert sourced >= 5


def test_the_floors_row_says_what_stands_in_its_docstring() -> None:
    rows = method.entry_rows(method.entries(FORMULAS))
    (floor,) = (row for row in rows if row["Of"] == "floor_s")
    assert floor == {
        "File": "costmodel/costs/roofline.py",
        "Of": "floor_s",
        "Says": "max(compulsory bytes / datasheet bandwidth, useful FLOPs / datasheet dense peak),"
        " seconds.",
        "Leaves out": "Leaves out launches, latency, tile padding and traffic beyond compulsory.",
        "Source": "the roofline model, Williams et al., CACM 52(4), 2009.",
    }


def test_a_function_without_a_source_has_its_files() -> None:
    rows = method.entry_rows(method.entries(FORMULAS))
    (row,) = (row for row in rows if row["Of"] == "tucker_retrieve")
    assert row["Source"] == (
        "UltraMem, arXiv 2411.12364, section 3; UltraMemV2, arXiv 2508.18756, section 3 and"
        " appendix A."
    )
    assert "static at inference" in row["Leaves out"]


def test_costs_without_a_source_are_known_and_have_a_reason() -> None:
    without = {
        f"{module.rpartition('.')[2]}.{name}"
        for module in modules("costmodel.costs")
        for name, doc in public_functions(module).items()
        if isinstance(vars(import_module(module))[name], FunctionType) and "Source:" not in doc
    }
    assert without == set(WITHOUT_SOURCE)


def test_every_operator_of_every_preset_has_its_formula_and_source_on_the_page() -> None:
    shown = {
        (row["Operator"], row["Formula, FLOPs unless it says bytes"], row["Source"])
        for row in method.operators()
    }
    leaves = {operator for operator, _, _ in shown}
    for name in model_names():
        for workload in (Workload(batch=3), Workload(phase="prefill", new_tokens=5)):
            for operator in build_operators(load_model(name), workload.step()):
                path = expanded_paths(operator.path)[0].split(".")
                leaf = ".".join("*" if part.isdecimal() else part for part in path)
                assert (leaf, operator.formula, operator.source) in shown
                leaves.discard(leaf)
    assert not leaves  # and nothing else is there


def test_every_layer_kind_has_operators_and_none_comes_twice() -> None:
    def leaves(kind: type[Any]) -> set[str]:
        below = {name for each in kind.__subclasses__() for name in leaves(each)}
        return below or {kind.__name__}

    rows = method.operators()
    kinds = {row["Layer kind"] for row in rows}
    assert kinds == leaves(LayerKind) | {"every model"}
    formula = next(header for header in rows[0] if header.startswith("Formula"))
    keys = [(row["Layer kind"], row["Operator"], row[formula]) for row in rows]
    assert len(keys) == len(set(keys))
    every = {row["Operator"] for row in rows if row["Layer kind"] == "every model"}
    norms = {"layers.*.attention_norm", "layers.*.ffn_norm", "final_norm"}
    assert every == {"embed", *norms, "lm_head"}


def test_every_measured_quantity_is_shown_with_the_files_of_its_runs() -> None:
    rows = {row["Quantity"]: row for row in method.quantities()}
    assert list(rows) == list(QUANTITIES)
    assert rows["energy_j"] == {
        "Quantity": "energy_j",
        "Unit": "j",
        "Run": "energy",
        "Of": "step",
        "Stands beside": "energy of the step",
        "Must agree": "",
        "How": "profiler/runs/energy.py",
    }
    assert rows["parameters"]["Must agree"] == "exactly"
    assert all(row["How"] for row in rows.values())


def test_the_letters_are_those_of_the_notation() -> None:
    rows = method.notation()
    letters = {r["Letter"]: r["Meaning"] for r in rows if r["Where"] == "all formulas"}
    assert len(letters) == 23
    assert letters["B"] == "sequences"
    assert letters["N"] == "tokens of the step, B T"
    assert letters["m"] == "table rows read per token and head (knn, TopM)"
    own = {r["Where"]: r["Meaning"] for r in rows if r["Letter"] == "several"}
    assert own["costmodel/layers/ffn.py"] == "N tokens, D hidden, F width."


def test_every_file_of_the_profiler_is_among_the_methods() -> None:
    shown = {e.file for part in (PREDICTED, MEASURED) for e in method.entries(part)}
    files = {p.relative_to(ROOT).as_posix() for p in (ROOT / "profiler").rglob("*.py")}
    assert files <= shown


def test_every_shipped_calibration_is_named() -> None:
    assert [row["Calibration"] for row in method.calibrations()] == list(calibration_names())


def test_reading_the_profilers_methods_imports_neither_it_nor_torch() -> None:
    program = (
        "import sys; from dashboard import method; [method.find(p, '') for p in method.PARTS];"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'profiler', 'torch'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


def test_a_search_wants_all_words_in_any_case() -> None:
    assert method.holds("Distinct rows of Dv", "dv DISTINCT")
    assert not method.holds("Distinct rows of Dv", "distinct experts")
    found = method.find(FORMULAS, "latentattention q_up")
    assert [row["Operator"] for row in found.facts] == ["layers.*.attention.q_up"]
    assert method.find(MEASURED, "no such word at all").files == []


def page(**query: str) -> AppTest:
    at = AppTest.from_file(APP, default_timeout=30)
    at.switch_page(VIEW)
    for name, value in query.items():
        at.query_params[name] = value
    at.run()
    assert not at.exception
    return at


def column(at: AppTest, index: int, name: str) -> list[str]:
    return list(at.table[index].value[name])


def test_the_page_opens_with_the_formulas() -> None:
    at = page()
    metrics = {metric.label: metric.value for metric in at.metric}
    assert metrics["Measured quantities"] == str(len(QUANTITIES))
    assert at.segmented_control(key="me_part").value == FORMULAS
    assert plain("layers.*.attention.core") in column(at, 0, "Operator")


@pytest.mark.parametrize(
    ("part", "header"), [(NOTATION, "Letter"), (PREDICTED, "Calibration"), (MEASURED, "Quantity")]
)
def test_a_link_opens_its_part(part: str, header: str) -> None:
    at = page(me_part=part)
    assert header in at.table[0].value.columns


def test_a_link_with_a_search_shows_what_it_finds() -> None:
    at = page(me_part=MEASURED, me_search="energy counter")
    assert at.selectbox(key="me_file").options[0] == "profiler/instruments/energy.py"
    assert "The counter moves about every 100 ms" in at.code[0].value
    assert any(text.value.startswith("Found: notation 0") for text in at.text)


def test_a_typed_search_narrows_the_tables() -> None:
    at = page()
    at.text_input(key="me_search").set_value("2407.04153").run()
    assert not at.exception
    assert set(column(at, 0, "Layer kind")) == {"Peer"}
    assert set(column(at, 1, "File")) == {"costmodel/layers/peer.py"}


def test_a_search_that_finds_nothing_says_so_without_obeying_it() -> None:
    at = page(me_search="<b>$x$ [a](http://b)")
    (said,) = at.info
    assert said.value.endswith(r"\<b\>\$x\$ \[a\]\(http\://b\)")
    assert not at.table


@pytest.mark.parametrize("query", [{"me_part": "nonsense"}, {"me_file": "../../etc/passwd"}])
def test_a_link_with_a_wrong_choice_opens_the_usual_one(query: dict[str, str]) -> None:
    at = page(**query)
    assert at.segmented_control(key="me_part").value == FORMULAS
    assert at.selectbox(key="me_file").value == "costmodel/costs/operators.py"


def test_a_search_that_is_too_long_is_not_made() -> None:
    at = page(me_search="x" * 5000)
    assert all(len(each.value) < 2 * method.MAX_SEARCH_CHARS for each in (*at.info, *at.text))


def test_a_file_of_another_part_gives_way_to_one_of_this_part() -> None:
    at = page(me_file="costmodel/layers/ultramem_retrieve.py")
    assert "tucker_retrieve" in at.code[0].value
    at.segmented_control(key="me_part").set_value(MEASURED).run()
    assert not at.exception
    assert at.selectbox(key="me_file").value in at.selectbox(key="me_file").options


def test_without_the_profiler_the_page_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    real = package_folder

    def without(name: str) -> Path | None:
        return None if name == "profiler" else real(name)

    monkeypatch.setattr("dashboard.pages.method.docstrings.package_folder", without)
    monkeypatch.setattr("dashboard.pages.method.data.package_folder", without)
    at = page(me_part=MEASURED)
    assert [each.value for each in at.info] == [
        "The package profiler is not installed: how it measures cannot be shown here."
    ]
    assert column(at, 0, "Quantity") == [plain(name) for name in QUANTITIES]
    assert not any(file.startswith("profiler") for file in column(at, 1, "File"))
