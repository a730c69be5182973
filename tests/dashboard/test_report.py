"""Reports: in every format the numbers of the command line, and a file rebuilds them."""

import csv
import gzip
import hashlib
import json
import re
import zipfile
from base64 import b64decode, b64encode
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pytest
from plotly.offline import get_plotlyjs_version

from costmodel.costs.latency import Unknown
from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model
from costmodel.inputs.output_file import OutputFile
from costmodel.inputs.workload import Workload
from costmodel.recordings.recording import load_recording
from costmodel.validation.machines import Gpus
from dashboard.report import html
from dashboard.report.build import build, compared_batches
from dashboard.report.charts import charts
from dashboard.report.document import (
    CONTENTS,
    ComparedLine,
    Report,
    load_report,
    report_json,
    report_of,
    report_text,
)
from dashboard.report.files import FORMATS, report_bytes, save
from dashboard.report.quantities import OF_A_MESH, PRICE, REPORTED
from dashboard.report.sections import sections
from dashboard.report.sections_compared import measured_section
from dashboard.report.verdict import verdict
from tests.commands import output
from tests.dashboard.reports import (
    MADE,
    OLMOE,
    RECORDINGS,
    SHEET,
    ULTRAMEM,
    asked,
    column,
    formatted_columns,
    markdown_cells,
    read_page,
    tree,
    usual,
    workbook,
)
from tests.sentences import says
from tests.told import digits

pq = pytest.importorskip("pyarrow.parquet")
STEP = ("--batch", "64", "--context", "2048")
OLMOE_RECORDING = RECORDINGS / f"h200-{OLMOE}.json"


def text(report: Report, suffix: str) -> str:
    return report_bytes(report, suffix).decode()


def rebuilt(report: Report, folder: Path) -> Report:
    path = folder / "kept.json"
    save(report, OutputFile(path=path))
    found = load_report(path)
    assert found is not None
    return found


def operators() -> list[dict[str, Any]]:
    """The operators of both models, as `predict --json` prints them."""
    return [
        {"model": data["model"]["name"], **each}
        for model in (ULTRAMEM, OLMOE)
        for data in [json.loads(output("predict", model, *STEP, "--json"))]
        for each in data["operators"]
    ]


@pytest.mark.parametrize(("index", "model"), [(0, ULTRAMEM), (1, OLMOE)])
def test_a_step_holds_the_numbers_of_predict(index: int, model: str) -> None:
    data = json.loads(output("predict", model, *STEP, "--json"))
    step = usual().steps[index]
    assert step.model == data["model"]["name"]
    assert step.values.keys() == REPORTED.keys() - OF_A_MESH
    for name, value in step.values.items():
        if name != PRICE:
            section, last = name.split(".")
            assert value == data[section][last], name
    for name, reason in step.reasons.items():
        assert step.values[name] is None
        assert reason == data["reasons"][name]
    for line, its in zip(step.operators, data["operators"], strict=True):
        for name in line.__dataclass_fields__:
            assert getattr(line, name) == its[name], (its["path"], name)


def test_a_price_of_an_hour_gives_what_a_million_tokens_cost() -> None:
    for model, step in zip((ULTRAMEM, OLMOE), usual().steps, strict=True):
        rate = json.loads(output("predict", model, *STEP, "--json"))["time"]["tokens_per_s"]
        assert step.values[PRICE] == pytest.approx(3.0 * 1e6 / (3600 * rate))
    unpriced = build(asked(load_model(OLMOE), contents=("summary",)), MADE).steps[0]
    assert unpriced.values[PRICE] is None
    assert unpriced.reasons[PRICE] == "no price given"


def test_the_comparison_holds_the_numbers_and_the_findings_of_compare() -> None:
    data = json.loads(output("compare", ULTRAMEM, OLMOE, "--batch", "1,64,1024", "--json"))
    found = usual().comparison
    assert found is not None
    assert [line.text for line in found.findings] == data["findings"]
    assert len(data["findings"]) >= 2
    for line, row in zip(found.lines, data["rows"], strict=True):
        assert line.context == 2048
        wanted = {*ComparedLine.__dataclass_fields__} - {"context"}
        assert len(wanted) == 20
        for name in wanted:
            assert getattr(line, name) == row[name], name


def test_measured_numbers_are_those_of_the_recording_beside_those_of_the_prediction() -> None:
    """Read from the file itself, its case and its leaf found by hand."""
    data = json.loads(OLMOE_RECORDING.read_text())
    wanted = {"phase": "decode", "batch": 64, "context": 2048, "new_tokens": 1, "dtype": "bf16"}
    (case,) = [
        case for case in data["cases"] if case["workload"] == {**wanted, "routing": "uniform"}
    ]
    lines = {
        (line.batch, line.path, line.run, line.quantity): line
        for line in usual().measured
        if line.recording == OLMOE
    }
    graph = lines[64, "step", "time", "graph_s"]
    recorded = case["runs"]["time"]["step"]["graph_s"]
    assert (graph.measured, graph.q1, graph.q3) == (
        recorded["median"],
        recorded["q1"],
        recorded["q3"],
    )
    predicted = json.loads(output("predict", OLMOE, *STEP, "--json"))
    assert graph.predicted == predicted["time"]["predicted_graph_s"]
    assert graph.ratio == recorded["median"] / predicted["time"]["predicted_graph_s"]
    path = "layers.3.moe.experts"
    (run,) = [name for name, each in case["runs"].items() if "kernel_s" in each["operators"]]
    column = case["runs"][run]["operators"]["kernel_s"]["median"]
    assert lines[64, path, run, "kernel_s"].measured == column[data["paths"].index(path)]
    told = {(batch, leaf) for batch, leaf, _, _ in lines}
    assert {batch for batch, leaf in told if leaf == "step"} == {1, 64, 1024}
    assert {batch for batch, leaf in told if leaf != "step"} == {64}
    (given,) = usual().inputs.recordings
    assert (given.machine, given.cases) == ("NVIDIA H200", 3)


def test_leaves_that_only_choose_are_marked() -> None:
    """OLMoE's routers; its experts sort and combine as well."""
    marked = {line.path for line in usual().measured if line.chooses}
    assert marked == {f"layers.{layer}.moe.router" for layer in range(16)}
    section = measured_section(usual())
    assert {"chooses" in table.headers for table in section.tables} == {False}  # of steps
    (leaves,) = (table for table in section.folded if table.title.startswith("Leaf by leaf"))
    chosen = leaves.headers.index("chooses")
    assert {row[0] for row in leaves.rows if row[chosen] == "yes"} == marked


def test_a_recording_without_a_case_of_the_workload_says_so() -> None:
    recording = load_recording(OLMOE_RECORDING)
    given = asked(load_model(OLMOE), contexts=(77,), recordings=((OLMOE, recording),))
    found = build(given, MADE)
    assert found.measured == ()
    (section,) = [each for each in sections(found) if each.name == "measured"]
    assert "none of its cases is of this report's workload" in section.lead[0]
    assert section.tables == ()


def test_a_recording_of_another_routing_is_not_compared() -> None:
    """Zipf cases stand beside a report under Zipf, and uniform ones beside a uniform one."""
    from costmodel.routing.popularity import Zipf

    recording = load_recording(OLMOE_RECORDING)
    zipf = asked(
        load_model(OLMOE), workload=Workload(routing=Zipf(1.0)), recordings=((OLMOE, recording),)
    )
    times = [
        {line.batch: line.measured for line in found.measured if line.quantity == "graph_s"}
        for found in (usual(), build(zipf, MADE))
    ]
    assert times[0].keys() == times[1].keys() == {1, 64, 1024}
    assert times[0][64] != times[1][64]


def test_a_recording_of_no_model_of_the_report_is_refused() -> None:
    recording = load_recording(OLMOE_RECORDING)
    with pytest.raises(InputError, match="which is not a model of this report"):
        build(asked(load_model(ULTRAMEM), recordings=((OLMOE, recording),)), MADE)


def test_the_json_rebuilds_the_same_report_and_the_same_files(tmp_path: Path) -> None:
    again = rebuilt(usual(), tmp_path)
    assert again == usual()
    for suffix in FORMATS:
        first, second = (report_bytes(each, suffix) for each in (usual(), again))
        if suffix == ".xlsx":  # which states when it was written
            assert workbook(first) == workbook(second)
        else:
            assert first == second, suffix


def test_a_report_of_an_earlier_version_lacks_the_quantities_of_later_ones() -> None:
    data = json.loads(report_text(usual()))
    for step in data["steps"]:
        del step["values"]["routing.activation_bytes"]
    report = load_report_text(json.dumps(data))
    (row,) = [
        row
        for row in sections(report)[0].tables[0].rows
        if row[0] == REPORTED["routing.activation_bytes"].label
    ]
    assert set(row[1:]) == {"n/a"}
    for suffix in FORMATS:
        assert report_bytes(report, suffix)


def test_the_json_holds_the_full_inputs(tmp_path: Path) -> None:
    given = rebuilt(usual(), tmp_path).inputs
    assert given.models == (load_model(ULTRAMEM), load_model(OLMOE))
    assert given.hardware.hbm_bytes_per_s == 4.8e12
    assert given.calibration is not None
    assert (given.calibration.name, given.calibration.machine) == ("h200.leaves", "NVIDIA H200")
    assert given.workload.compared_batches == (1, 64, 1024)
    assert given.price_per_hour == 3.0


def test_csv_holds_the_operators_of_predict() -> None:
    rows = list(csv.DictReader(StringIO(text(usual(), ".csv"))))
    for row, its in zip(rows, operators(), strict=True):
        assert (row["model"], row["batch"], row["context"]) == (its["model"], "64", "2048")
        assert row["path"] == its["path"]
        for name in ("count", "flops", "compulsory_bytes", "launches", "floor_s", "predicted_s"):
            assert float(row[name]) == its[name], name
        assert row["numbers_of"] == "one layer"
        assert float(row["all_layers_flops"]) == its["count"] * its["flops"]


def test_parquet_holds_the_operators_of_predict(tmp_path: Path) -> None:
    save(usual(), OutputFile(path=tmp_path / "a.parquet"))
    table = pq.read_table(tmp_path / "a.parquet")
    assert str(table.schema.field("count").type) == "int64"
    assert str(table.schema.field("floor_s").type) == "double"
    for row, its in zip(table.to_pylist(), operators(), strict=True):
        assert row["ignored_keys"] == ""
        for name in row.keys() - {"batch", "context", "ignored_keys"}:
            of_one = name.removeprefix("all_layers_")
            times = 1 if of_one == name else its["count"]
            assert row[name] == (its[of_one] if times == 1 else times * its[of_one]), name


def test_the_largest_workload_is_written_in_every_format(tmp_path: Path) -> None:
    """Counts beyond 2^63 are exact; beside fractions, counts beyond 2^53 become floats."""
    work = Workload(phase="prefill", new_tokens=2**24, attention_flops="full", logits="all")
    given = asked(load_model(OLMOE), workload=work, batches=(2**20,), contexts=(2**27,))
    report = build(given, MADE)
    operators = report.steps[0].operators
    for suffix in FORMATS:
        save(report, OutputFile(path=tmp_path / f"a{suffix}"))
    table = pq.read_table(tmp_path / "a.parquet")
    assert max(line.flops for line in operators) > 2**63
    assert table.column("flops").to_pylist() == [line.flops for line in operators]
    assert {type(line.compulsory_bytes) for line in operators} == {int, float}
    assert max(line.compulsory_bytes for line in operators) > 2**60
    found = table.column("compulsory_bytes").to_pylist()
    assert found == [float(line.compulsory_bytes) for line in operators]
    assert load_report(tmp_path / "a.json") == report


def test_operators_are_shown_as_predict_shows_them() -> None:
    (section,) = [each for each in sections(usual()) if each.name == "operators"]
    for model, table in zip((ULTRAMEM, OLMOE), (*section.tables, *section.folded), strict=True):
        printed = output("predict", model, *STEP, "--markdown").split("### ")[2]
        assert [cell for row in table.rows for cell in row] == markdown_cells(printed)


def test_the_workbook_holds_the_numbers_as_numbers() -> None:
    """Excel files hold 16 digits of a number."""
    sheets = workbook(report_bytes(usual(), ".xlsx"))
    assert list(sheets) == ["Summary", "Operators", "Comparison", "Measured", "Method"]
    head, *rows = sheets["Operators"]
    names = [name.partition(" [")[0] for name in head]
    for row, its in zip(rows, operators(), strict=True):
        for name, value in zip(names, row, strict=False):
            if isinstance(value, float) and name not in ("batch", "context"):
                of_one = name.removeprefix("all_layers_")
                times = 1 if of_one == name else its["count"]
                assert value == pytest.approx(times * its[of_one], rel=1e-15)
    summary = {row[1]: row[3] for row in sheets["Summary"][1:]}
    values = usual().steps[0].values
    assert summary["memory.fits"] is True
    assert summary["time.bound_by"] == "memory"
    assert summary["flops.total"] == values["flops.total"]
    assert summary["time.predicted_s"] == pytest.approx(values["time.predicted_s"], rel=1e-15)
    assert summary["routing.expected_distinct_experts"] is None
    assert sheets["Summary"][0][3] == "UltraMemV2-1B/7B (reconstruction), batch 64, context 2048"
    head, *rows = sheets["Measured"]
    ratios = [row[head.index("ratio")] for row in rows if len(row) > head.index("ratio")]
    wanted = [line.ratio for line in usual().measured if line.ratio is not None]
    assert [each for each in ratios if each is not None] == pytest.approx(wanted, rel=1e-15)


def test_the_workbook_has_units_formats_filters_and_a_chart() -> None:
    """Read from the raw files; the series name the cells that they draw."""
    data = report_bytes(usual(), ".xlsx")
    sheets = workbook(data)
    assert {"flops [FLOP]", "compulsory_bytes [B]", "predicted_s [s]"} <= {*sheets["Operators"][0]}
    assert "memory_bytes [B]" in sheets["Comparison"][0]
    head = sheets["Summary"][0]
    summary = {row[1]: row[head.index("unit")] for row in sheets["Summary"][1:]}
    assert summary["time.predicted_s"] == "s"
    forms = formatted_columns(data, "Operators")
    assert forms["flops [FLOP]"] == {"#,##0"}
    assert forms["compulsory_bytes [B]"] == {"#,##0", "#,##0.00"}  # expected rows have fractions
    assert forms["predicted_s [s]"] == {"0.00E+00"}
    with zipfile.ZipFile(BytesIO(data)) as file:
        for index, (name, rows) in enumerate(sheets.items(), start=1):
            sheet = tree(file.read(f"xl/worksheets/sheet{index}.xml"))
            (filtered,) = sheet.iter(f"{SHEET}autoFilter")
            assert filtered.attrib["ref"].endswith(str(len(rows))), name
        (drawn,) = [name for name in file.namelist() if name.startswith("xl/charts/")]
        chart = file.read(drawn).decode()
    head, *rows = sheets["Comparison"]
    batch, time = head.index("batch"), head.index("predicted_s [s]")
    cells = re.findall(r"<c:f>Comparison!\$([A-Z]+)\$(\d+):\$[A-Z]+\$(\d+)</c:f>", chart)
    for (x, first, last), (y, _, _) in zip(cells[::2], cells[1::2], strict=True):
        assert (column(x), column(y)) == (batch, time)
        line = sheets["Comparison"][int(first) - 1 : int(last)]
        assert len({row[head.index("model")] for row in line}) == 1
        assert [row[batch] for row in line] == [1, 64, 1024]
    assert len(cells) == 2 * 2
    assert "<c:logBase" in chart


def test_html_and_markdown_show_the_same_cells() -> None:
    page = read_page(text(usual(), ".html"))
    cells = markdown_cells(text(usual(), ".md"))
    assert len(page.cells) > 1000
    assert [" ".join(cell.split()) for cell in page.cells] == [
        " ".join(cell.split()) for cell in cells
    ]
    values = usual().steps[0].values
    assert f"{float(str(values['time.predicted_s'])) * 1e3:.3g} ms" in page.cells


def test_html_is_one_file_of_at_most_a_megabyte_and_a_half_that_loads_nothing() -> None:
    written = text(usual(), ".html")
    assert len(written.encode()) <= 1.5e6
    page = read_page(written)
    for tag, attributes in page.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form"), tag
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name != "src"
            if name == "href":
                assert (value or "").startswith("#")
    assert not re.search(r"@import|url\(", written[: written.index("</style>")])


def test_a_larger_html_says_what_takes_the_room() -> None:
    """Its size and its rows against the file itself; a usual one says nothing."""
    recordings = tuple(
        (name, load_recording(RECORDINGS / f"h200-{name}.json")) for name in (ULTRAMEM, OLMOE)
    )
    report = build(asked(batches=(1, 4, 16, 64, 256), recordings=recordings), MADE)
    written = text(report, ".html")
    said = re.findall(r"This file has ([\d.]+) MB, .* and ([\d,]+) rows of tables", written)
    ((size_mb, rows),) = said
    assert len(written.encode()) / 1e6 == pytest.approx(float(size_mb), abs=0.06)
    assert len(written.encode()) > 1.5e6
    bodies = re.findall(r"<tbody>(.*?)</tbody>", written, flags=re.DOTALL)
    assert int(rows.replace(",", "")) == sum(body.count("<tr>") for body in bodies)
    assert "This file has" not in text(usual(), ".html")


def test_the_policy_of_the_page_names_exactly_its_own_scripts() -> None:
    """The script that draws, and plotly.js as it comes out of what is packed."""
    page = read_page(text(usual(), ".html"))
    (policy,) = [
        each["content"] or "" for tag, each in page.tags if tag == "meta" and "http-equiv" in each
    ]
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert allowed["default-src"] == "'none'"
    kinds = [each.get("type") for tag, each in page.tags if tag == "script"]
    assert kinds == ["text/plain", "application/json", None]
    packed, data, draws = page.scripts
    source = gzip.decompress(b64decode(packed))
    hashes = {
        f"'sha256-{b64encode(hashlib.sha256(script).digest()).decode()}'"
        for script in (source, draws.encode())
    }
    assert set(allowed["script-src"].split()) == hashes
    assert len(json.loads(data)["charts"]) == len(charts(usual()))


def test_the_plotly_of_reports_is_the_published_one_with_its_licence() -> None:
    """The digest of `package/plotly-basic.min.js` of npm's plotly.js-basic-dist-min 4.1.1."""
    source = (Path(html.__file__).parent / "plotly-basic.min.js").read_bytes()
    digest = "99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba"
    assert hashlib.sha256(source).hexdigest() == digest
    assert b"plotly.js (basic - minified) v4.1.1" in source[:200]
    assert get_plotlyjs_version().split(".")[0] == "4"  # whose figures it draws
    notice = (Path(html.__file__).parents[2] / "NOTICE").read_text()
    assert "dashboard/report/plotly-basic.min.js" in notice
    assert "Permission is hereby granted, free of charge" in notice


def test_a_report_without_charts_holds_no_script() -> None:
    report = build(asked(load_model(OLMOE), contents=("method",)), MADE)
    page = read_page(text(report, ".html"))
    assert page.scripts == []
    assert "plotly" not in page.text


def test_a_report_opens_with_the_winner_and_what_was_assumed() -> None:
    """Times by the command line; the ratio by hand."""
    times = [
        json.loads(output("predict", model, *STEP, "--json"))["time"] for model in (ULTRAMEM, OLMOE)
    ]
    first, second = (time["predicted_s"] for time in times)
    kept = digits(*times)
    assert first < second
    told = verdict(usual())
    assert says(told, "UltraMemV2-1B/7B (reconstruction) is the faster at batch 64", "OLMoE-1B-7B")
    assert (
        f"{first * 1e3:.{kept}g} ms a step, {first / second:.{kept}f}x the time of OLMoE-1B-7B"
        in told
    )
    for assumed in ("NVIDIA H200 SXM", "weights bf16", "uniform routing", "kernels of torch"):
        assert assumed in told
    written = text(usual(), ".html")
    assert written.index(told) < written.index("<h2")
    assert told in text(usual(), ".md").replace("\\", "")


def test_a_model_that_does_not_fit_wins_nothing() -> None:
    """At batch 4,096 neither model's KV cache of 2,048 tokens fits an H200; one batch, neither."""
    told = verdict(build(asked(batches=(1, 4096), contents=("summary",)), MADE))
    assert "OLMoE-1B-7B is the faster at batch 1, context 2,048" in told
    assert "no model fits the memory at batch 4,096, context 2,048" in told
    alone = build(asked(load_model(OLMOE), batches=(4096,), contents=("summary",)), MADE)
    assert "the step does NOT fit the memory at batch 4,096" in verdict(alone)


def test_without_a_calibration_the_winner_is_by_the_bound() -> None:
    report = build(asked(calibration=Unknown(reason="none"), contents=("summary",)), MADE)
    assert "by roofline bound, since not all times are predicted" in verdict(report)
    assert "(at least " in verdict(report)


def test_html_has_contents_captions_and_words_for_every_chart() -> None:
    page = read_page(text(usual(), ".html"))
    ids = {each["id"] for _, each in page.tags if each.get("id")}
    links = [(each["href"] or "")[1:] for tag, each in page.tags if tag == "a"]
    assert links == ["summary", "operators", "comparison", "measured", "inputs", "method"]
    assert ids.issuperset(links)
    drawn = [each for _, each in page.tags if each.get("role") == "img"]
    assert len(drawn) == len(charts(usual())) == 6
    for each in drawn:
        assert {each["aria-labelledby"], each["aria-describedby"]} <= ids
    for chart in charts(usual()):
        assert chart.alt in page.text
    tables = sum(tag == "table" for tag, _ in page.tags)
    assert tables == sum(tag == "caption" for tag, _ in page.tags)


def test_charts_are_drawn_from_the_numbers_of_the_report() -> None:
    by_title = {chart.title: chart.figure for chart in charts(usual())}
    (bars,) = (each for title, each in by_title.items() if says(title, "HBM bytes", 64, 2048))
    for index, step in enumerate(usual().steps):
        total = sum(trace.x[index] for trace in bars.data)
        assert total == pytest.approx(float(str(step.values["hbm_bytes.compulsory"])) / 1e9)
    hatches = [trace.marker.pattern.shape for trace in bars.data]
    assert len(set(hatches)) == len(hatches)
    times = by_title["Predicted time over the batch, context 2,048"]
    assert [trace.name for trace in times.data] == [
        "UltraMemV2-1B/7B (reconstruction)",
        "OLMoE-1B-7B",
        "OLMoE-1B-7B, measured time as a CUDA graph",
    ]
    assert times.data[2].marker.color == times.data[1].line.color
    moved = by_title["Compulsory HBM bytes over the batch, context 2,048"].data[2]
    read = {
        line.batch: float(line.measured) / 1e9
        for line in usual().measured
        if (line.quantity, line.path) == ("hbm_read_bytes", "step") and line.measured is not None
    }
    assert dict(zip(moved.x, moved.y, strict=True)) == pytest.approx(read)
    assert (times.layout.xaxis.type, times.layout.yaxis.type) == ("log", "log")
    assert len({trace.line.dash for trace in times.data[:2]}) == 2
    step = by_title[
        "Predicted time as a CUDA graph by operator: OLMoE-1B-7B, batch 64, context 2,048"
    ]
    predicted = float(str(usual().steps[1].values["time.predicted_s"]))
    assert sum(step.data[0].x) == pytest.approx(1e6 * predicted)


@pytest.mark.parametrize("content", CONTENTS)
def test_a_report_holds_the_sections_that_are_asked_for(content: Any) -> None:  # noqa: ANN401
    report = build(asked(load_model(OLMOE), contents=(content,)), MADE)
    assert {section.name for section in sections(report)} == {content, "inputs"}
    assert list(workbook(report_bytes(report, ".xlsx"))) == [content.capitalize()]
    assert {chart.section for chart in charts(report)} <= {content}
    assert report_bytes(report, ".csv")
    assert f"## {sections(report)[0].title}" in text(report, ".md")


def test_every_batch_and_context_that_is_listed_is_told() -> None:
    report = build(asked(batches=(1, 8), contexts=(0, 4096), contents=("summary",)), MADE)
    told = [(step.context, step.batch, step.model) for step in report.steps]
    assert told == [
        (context, batch, model)
        for context in (0, 4096)
        for batch in (1, 8)
        for model in ("UltraMemV2-1B/7B (reconstruction)", "OLMoE-1B-7B")
    ]
    assert len(sections(report)[0].tables) == 4


def test_without_a_calibration_times_are_floors_and_the_reason_is_told() -> None:
    report = build(asked(calibration=Unknown(reason="none was made")), MADE)
    values, reasons = report.steps[0].values, report.steps[0].reasons
    assert values["time.predicted_s"] is None
    assert reasons["time.predicted_s"] == "none was made"
    assert report.inputs.no_calibration == "none was made"
    assert all(line.predicted_s is None for line in report.steps[0].operators)
    lines = text(report, ".md").splitlines()
    told = [line for line in lines if line.startswith("n/a, ") and "none was made" in line]
    assert len(told) == len(report.steps)  # a reason stands once for each model
    for missing in ("predicted time", "predicted throughput", "predicted energy"):
        assert all(f", {missing}" in line for line in told)
    titles = {chart.title for chart in charts(report)}
    assert "Roofline bound over the batch, context 2,048" in titles
    assert load_report_text(report_text(report)) == report


def load_report_text(written: str) -> Report:
    from dashboard.report.document import report_of

    return report_of(json.loads(written), where="here")


def test_a_prefill_is_told_with_its_new_tokens() -> None:
    work = Workload(phase="prefill", context=0, new_tokens=512)
    report = build(asked(load_model(OLMOE), workload=work, batches=(1,), contexts=(0,)), MADE)
    data = json.loads(
        output("predict", OLMOE, "--phase", "prefill", "--new-tokens", "512", "--json")
    )
    assert report.steps[0].values["time.predicted_s"] == data["time"]["predicted_s"]
    assert "512 new tokens a sequence" in text(report, ".html")


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"batches": tuple(range(1, 18))}, "batch x context x models=34: a report holds 1 to 32"),
        ({"contexts": ()}, "a report holds 1 to 32"),
        ({"contents": ()}, "contents=0"),
        ({"compared_batches": tuple(range(1, 66))}, "compared batches=65"),
        ({"price_per_hour": float("nan")}, "price_per_hour=nan"),
        ({"price_per_hour": -1.0}, "price_per_hour=-1.0: is a number from 0 to 1,000,000"),
        ({"gpus": Gpus(), "recordings": ((OLMOE, None),) * 9}, "recording=9"),
    ],
)
def test_more_than_a_report_holds_is_refused(fields: dict[str, Any], rule: str) -> None:
    with pytest.raises(InputError) as caught:
        asked(**fields)
    assert rule in str(caught.value)


def test_the_usual_batches_are_compared_and_those_that_are_told() -> None:
    assert compared_batches((64, 100)) == (1, 4, 16, 64, 100, 256, 1024, 4096)


def test_sources_and_what_is_left_out_stand_in_the_method() -> None:
    notes = {note.what: note for note in usual().method}
    assert "Williams" in notes["roofline bound"].source
    assert "costmodel.costs.roofline, floor_s" in notes["roofline bound"].source
    assert "Leaves out: launches" in notes["roofline bound"].text
    assert "datasheet" in notes["NVIDIA H200 SXM: hbm_bytes_per_s"].source
    formulas = {note.text for note in usual().method if note.topic == "operators"}
    data = json.loads(output("predict", OLMOE, *STEP, "--json"))
    assert {each["formula"] for each in data["operators"]} <= formulas
    for name in (ULTRAMEM, OLMOE):
        model = load_model(name)
        assert model.source in {note.source for note in usual().method if note.what == model.name}


def test_the_parts_of_measured_time_are_those_of_validate_and_sum_to_it() -> None:
    """In the report's JSON, and as a table of the section on what was measured."""
    report = usual()
    lines = [line for line in report.attributions if line.batch == 64]
    (step,) = (line for line in lines if not line.of)
    graph = next(
        line
        for line in report.measured
        if (line.quantity, line.path, line.batch) == ("graph_s", "step", 64)
    )
    assert step.measured_s == pytest.approx(graph.measured)
    for line in lines:
        names = ("bound_s", "over_read_s", "launch_s", "inefficiency_s", "residual_s")
        assert sum(getattr(line, name) or 0.0 for name in names) == line.measured_s
    assert sum(line.measured_s for line in lines if line.of) == step.measured_s
    (section,) = (each for each in sections(report) if each.name == "measured")
    table = next(each for each in section.tables if each.title == "Where the measured time goes")
    assert len(table.rows) == len([line for line in report.attributions if not line.of])
    assert any("Where the time of kernels goes" in each.title for each in section.folded)
    assert report_of(report_json(report), where="again").attributions == report.attributions
