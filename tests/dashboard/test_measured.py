"""What the Measured page says of a case, its dots, its machine and its second run."""

import json
from dataclasses import replace
from math import log2
from typing import SupportsFloat

import pytest

from costmodel import units
from costmodel.costs.latency import StepTime
from costmodel.costs.quantities.utilisation import UTILISATION_QUANTITIES
from costmodel.recordings.recording import Check
from costmodel.show.text import capitalised
from costmodel.validation.join import join_case
from costmodel.validation.joined import Row
from costmodel.validation.machines import Gpus
from costmodel.validation.utilisation import measured_utilisation
from dashboard.app.figures import SYMBOLS
from dashboard.pages.measured import ratios, tables
from dashboard.pages.measured.cards import achieved_rows, measured_cards
from dashboard.pages.measured.data import (
    COLOURS,
    ComparedCase,
    compared,
    error,
    offered,
    place,
    record,
    sentence,
    subtitle,
)
from tests.committed import FOLDER
from tests.committed import recording as committed
from tests.recording_values import CPU, case, recording, run, session, workload
from tests.sentences import says
from tests.steps import tiny_model
from tests.told import told as told_as

WAYS = ("read", "written")
OLMOE = "h200-olmoe-1b-7b.json"
V2 = "h200-ultramemv2-1b-7b.json"
GPUS = Gpus()
TINY = tiny_model()


def row(measured: float | None, predicted: float | None, **fields: object) -> Row:
    given = {
        "run": "trace",
        "quantity": "kernel_s",
        "path": "layers.0.attention.qkv",
        "kind": "matmul",
        "basis": "predicted",
        "predicted": predicted,
        "measured": measured,
        "q1": None,
        "q3": None,
        "repeats": None,
        "source": None,
        "reason": None,
        "backend": "torch",
    }
    return Row(**(given | fields))  # type: ignore[arg-type]


def label(name: str) -> str:
    """The label of a figure of utilisation."""
    return capitalised(UTILISATION_QUANTITIES[name].label)


# What is said of a case


@pytest.mark.parametrize(
    ("ratio", "signs"),
    [
        (1.0, "="),
        (1.05, "="),
        (1.06, "+"),
        (1.25, "+"),
        (1.26, "++"),
        (2.0, "++"),
        (2.01, "+++"),
        (0.96, "="),
        (0.94, "-"),
        (0.79, "--"),
        (0.49, "---"),
    ],
)
def test_errors_have_signs_and_a_colour_by_their_size(ratio: float, signs: str) -> None:
    assert error(ratio) == [signs]
    assert signs in COLOURS


def test_what_cannot_be_compared_has_no_error() -> None:
    assert error(None) == error(0.0) == []


def test_a_row_of_the_table_is_in_the_unit_that_it_names() -> None:
    told = record(row(3e-6, 2e-6, q1=2.5e-6, q3=4e-6, repeats=1200, source="torch_profiler"))
    assert (told["Quantity"], told["Unit"]) == ("kernel time", "us")
    assert (told["Predicted"], told["Measured"]) == pytest.approx((2.0, 3.0))
    assert told["Ratio"] == pytest.approx(1.5)
    assert told["Error"] == ["++"]
    assert told["Spread (q1 to q3)"] == "2.5 to 4, 1,200 repeats"
    assert told["Basis, reason"] == "predicted"


def test_a_missing_number_is_none_and_its_reason_is_told() -> None:
    told = record(row(None, 5.0, path=None, reason="not measured (refused)"))
    assert told["Measured"] is None
    assert told["Ratio"] is None
    assert told["Error"] == []
    assert told["Spread (q1 to q3)"] == ""
    assert told["Operator"] == "whole step"
    assert told["Basis, reason"] == "predicted; not measured (refused)"
    alone = record(row(5.0, None, basis="nothing", reason="not predicted (a fact of the run)"))
    assert alone["Basis, reason"] == "not predicted (a fact of the run)"
    assert alone["Spread (q1 to q3)"] == "exact"


def shown(of: ComparedCase, predicted: SupportsFloat) -> str:
    """What a prediction shows: as many digits as the interval of its step allows."""
    times = of.side.times
    assert isinstance(times, StepTime)
    time = {"predicted_s": times.predicted_s, "interval_s": times.interval_s}
    return units.seconds(told_as(time, float(predicted)))


def test_the_sentence_tells_measured_predicted_and_floor() -> None:
    """Twice the prediction is 2.000x."""
    single = compared(recording(TINY, case(time=run({"graph_s": 1.0}))), 0)
    predicted = single.step("graph_s").predicted
    assert predicted is not None
    doubled = compared(recording(TINY, case(time=run({"graph_s": 2.0 * float(predicted)}))), 0)
    assert doubled.side.prediction is not None
    measured, least = 2 * float(predicted), doubled.side.prediction.floor_s
    assert says(
        sentence(doubled),
        *(units.seconds(measured), "2.000x", shown(doubled, predicted)),
        *("bound", units.seconds(least)),
    )
    names = ("tiny", "NVIDIA H200", "decode", 1, 3, "bf16", "uniform", "CUDA graph")
    assert says(subtitle(doubled), *names)


def test_without_a_graph_the_eager_time_speaks_and_without_any_time_none() -> None:
    eager = compared(recording(TINY, case(time=run({"eager_s": 0.25}))), 0)
    assert "x the predicted " in sentence(eager)
    assert sentence(eager).startswith("tiny, decode at batch 1 on NVIDIA H200: measured 250 ms, ")
    assert subtitle(eager).endswith("; eager time")
    none = compared(recording(TINY, case(lacking={"time": "out of memory"})), 0)
    predicted_s = none.step("graph_s").predicted
    assert predicted_s is not None
    assert predicted_s != none.step("eager_s").predicted
    assert sentence(none).startswith(
        "tiny, decode at batch 1 on NVIDIA H200: not measured;"
        f" predicted {shown(none, predicted_s)}; "
    )
    prefill = workload(phase="prefill", context=0, new_tokens=2)
    unmeasured = compared(recording(TINY, case(prefill, lacking={"time": "out of memory"})), 0)
    assert subtitle(unmeasured).endswith("; eager time")


def test_a_machine_without_a_datasheet_has_neither_prediction_nor_floor() -> None:
    case_of_cpu = compared(
        recording(TINY, case(time=run({"eager_s": 0.25})), sessions=[session(CPU)]), 0
    )
    assert sentence(case_of_cpu) == "tiny, decode at batch 1 on A processor: measured 250 ms"
    told = {card.label: card for card in measured_cards(case_of_cpu)}
    assert told[label("tokens_per_s")].measured == "4 tok/s"
    assert told[label("tokens_per_s")].counterpart is None
    assert told["MBU"].measured is None
    assert told["MBU"].reason == "not known (no hardware preset for this machine)"


def test_cards_hold_what_was_achieved() -> None:
    held = committed(V2)
    index = place(
        held.cases,
        {
            "phase": "decode",
            "routing": "uniform",
            "dtype": "bf16",
            "context": 2048,
            "new_tokens": 1,
            "batch": 64,
            "placement": "tables=hbm",
        },
    )
    made = measured_utilisation(held, index, GPUS)
    rows = {line.quantity: line for line in join_case(held, index, GPUS).rows if not line.path}
    told = {card.label: card for card in measured_cards(compared(held, index))}
    assert told["Time as a CUDA graph"].measured == units.seconds(rows["graph_s"].measured)
    assert told["Time as a CUDA graph"].counterpart == (
        f"predicted {shown(compared(held, index), rows['graph_s'].predicted or 0)}"
        f" ({units.ratio(rows['graph_s'].ratio)})"
    )
    assert told["HBM bytes read"].counterpart == (
        f"predicted {units.traffic(rows['hbm_read_bytes'].predicted)}"
        f" ({units.ratio(rows['hbm_read_bytes'].ratio)})"
    )
    assert made.mbu.value is not None
    assert told["MBU"].measured == f"{100 * made.mbu.value:.3g} %"
    assert made.mfu.value is not None
    assert told["MFU"].measured == units.formatted(made.mfu.value, "share")
    assert len(told) == 8
    assert all(card.measured and card.counterpart for card in told.values())


def test_all_that_a_step_achieved_is_told_with_the_cost_of_routing() -> None:
    """By hand from the file: 64 tokens, 16 routers of 2048 x 64, the leaves that only choose."""
    data = json.loads((FOLDER / OLMOE).read_text())
    place_of = {"phase": "decode", "batch": 64, "context": 2048, "routing": "uniform"}
    index, raw = next(
        (index, raw_case)
        for index, raw_case in enumerate(data["cases"])
        if place_of.items() <= raw_case["workload"].items()
    )
    routers = [i for i, path in enumerate(data["paths"]) if path.endswith(".router")]
    assert len(routers) == 16
    of = compared(committed(OLMOE), index)
    told = {row["Figure"]: row for row in achieved_rows(of)}
    seconds = raw["runs"]["time"]["step"]["graph_s"]["median"]
    counted = raw["runs"]["counters"]["step"]
    moved = sum(counted[name]["median"] for name in ("hbm_read_bytes", "hbm_written_bytes"))
    traced = raw["runs"]["trace"]["operators"]
    kernel_s = sum(traced["kernel_s"]["median"][i] for i in routers)
    share = kernel_s / raw["runs"]["trace"]["step"]["kernel_s"]["median"]
    by_leaf = raw["runs"]["counters"]["operators"]
    routed = sum(by_leaf[f"hbm_{way}_bytes"]["median"][i] for way in WAYS for i in routers)
    assert {name: row["Measured"] for name, row in told.items()} | {
        label("tokens_per_s"): units.scaled(64 / seconds, "tok/s"),
        label("hbm_bytes_per_s"): units.scaled(moved / seconds, "B/s"),
        label("routing_kernel_s"): units.seconds(kernel_s),
        label("routing_share"): f"{100 * share:.3g} %",
        label("routing_launches"): f"{sum(traced['launches']['values'][i] for i in routers)}",
        label("routing_hbm_bytes"): units.traffic(routed),
        label("routing_flops"): units.flops(16 * 2 * 64 * 2048 * 64),
    } == {name: row["Measured"] for name, row in told.items()}
    gap_s = (seconds - raw["runs"]["trace"]["step"]["kernel_s"]["median"]) / (
        raw["runs"]["trace"]["step"]["launches"]["value"]
    )
    assert told[label("gap_per_kernel_s")]["Measured"] == units.seconds(gap_s)
    assert len(told) == 12
    assert told["MBU"]["Predicted"].endswith(" %")
    # Predicted by hand: 16 routers of 64 x 2048 weights of 2 bytes, each of 7 launches
    launches = sum(traced["launches"]["values"][i] for i in routers)
    assert told[label("routing_flops")]["Ratio"] == "1.000x"
    assert told[label("routing_launches")]["Predicted"] == f"{16 * 7}"
    assert told[label("routing_launches")]["Ratio"] == f"{launches / (16 * 7):.3f}x"
    assert told[label("routing_hbm_bytes")]["Predicted"] == units.traffic(16 * 64 * 2048 * 2)
    assert told[label("routing_hbm_bytes")]["Ratio"] == units.ratio(routed / (16 * 64 * 2048 * 2))
    joined = join_case(committed(OLMOE), index, GPUS).rows
    routers_s = [
        float(row.predicted or 0)
        for row in joined
        if row.quantity == "kernel_s" and row.run == "trace" and (row.path or "").endswith("router")
    ]
    assert len(routers_s) == 16
    assert told[label("routing_kernel_s")]["Predicted"] == shown(of, sum(routers_s))
    assert told[label("routing_kernel_s")]["Ratio"] == units.ratio(kernel_s / sum(routers_s))
    assert (
        told[label("hbm_bytes_per_s")]["Predicted"] == told[label("hbm_bytes_per_s")]["Ratio"] == ""
    )


def test_a_figure_that_cannot_be_had_says_why() -> None:
    made = recording(TINY, case(time=run({"eager_s": 0.5})), sessions=[session(CPU)])
    told = {row["Figure"]: row["Measured"] for row in achieved_rows(compared(made, 0))}
    assert told[label("tokens_per_s")] == "2 tok/s"
    assert told["MBU"] == "not known (no hardware preset for this machine)"
    assert told[label("hbm_bytes_per_s")].startswith("not measured (")
    assert all(told.values())


def test_runs_that_shared_the_gpu_are_named() -> None:
    alone = run({"graph_s": 0.5})
    shared = replace(alone, conditions=replace(alone.conditions, other_processes=3))
    unknown = replace(alone, conditions=replace(alone.conditions, other_processes=None))
    assert tables.disturbed(case(time=alone, counters=unknown)) == ""
    assert says(tables.disturbed(case(time=shared)), "time", 3)


def test_selects_offer_what_the_cases_hold_in_order() -> None:
    cases = [
        case(workload(batch=16)),
        case(workload(batch=2)),
        case(workload(batch=16, routing="scores")),
    ]
    assert offered(cases, "batch", {}) == [2, 16]
    assert offered(cases, "routing", {}) == ["uniform", "scores"]
    assert offered(cases, "batch", {"routing": "scores"}) == [16]


# The dots


def test_identical_layers_are_one_dot_from_least_to_largest() -> None:
    rows = [row(value, 2.0, path=f"layers.{i}.ffn.up") for i, value in enumerate((2.0, 6.0, 4.0))]
    rows += [row(1.0, 2.0, path="embed", kind="gather"), row(None, 1.0), row(0.0, 1.0)]
    rows.append(row(8.0, 2.0, path=None))
    first, second = ratios.dots(rows)
    assert (first.pattern, first.layers) == ("layers.*.ffn.up", 3)
    assert (first.low, first.middle, first.high) == (1.0, 2.0, 3.0)
    assert (second.pattern, second.kind, second.middle) == ("embed", "gather", 0.5)
    assert says(ratios.in_words([first], "kernel_s"), "layers.*.ffn.up", "2.000x")


def test_the_plot_is_logarithmic_with_a_line_at_one_and_a_scale_centred_on_it() -> None:
    dots = ratios.dots(
        [row(8.0, 1.0, path="a"), row(0.5, 1.0, path="b", kind="gather"), row(2.0, 1.0, path="c")]
    )
    figure = ratios.ratio_plot(dots, "kernel_s")
    assert figure.layout.xaxis.type == "log"
    (at_one,) = figure.layout.shapes
    assert (at_one.x0, at_one.x1) == (1, 1)
    scale = figure.layout.coloraxis
    assert (scale.cmin, scale.cmid, scale.cmax) == (-3, 0, 3)
    low, high = (10**end for end in figure.layout.xaxis.range)
    assert low < 0.5
    assert high > 8
    assert {1, 2, 5} <= set(figure.layout.xaxis.tickvals)
    matmul, gather = figure.data
    assert list(matmul.marker.color) == [log2(8), log2(2)]
    assert list(matmul.x) == [8, 2]
    assert list(gather.y) == ["b"]
    assert (matmul.marker.symbol, gather.marker.symbol) == SYMBOLS[:2]


def test_bars_of_a_dot_reach_its_least_and_its_largest() -> None:
    rows = [row(value, 1.0, path=f"layers.{i}.a") for i, value in enumerate((1.0, 4.0, 6.0))]
    (drawn,) = ratios.ratio_plot(ratios.dots(rows), "kernel_s").data
    assert list(drawn.error_x.array) == [2.0]
    assert list(drawn.error_x.arrayminus) == [3.0]


# The machine and second runs


def test_checks_tell_what_is_known_measured_and_whether_it_holds() -> None:
    made = recording(
        TINY,
        sessions=[
            session(
                CPU,
                Check(name="holds", known=100, measured=100.5, tolerance=0.01),
                Check(name="is off", known=100, measured=102, tolerance=0.01),
                Check(name="exact", known=3, measured=None, tolerance=0, reason="refused"),
            )
        ],
    )
    holds, off, none = tables.checks(made)
    assert (holds["Known"], holds["Measured"], holds["Tolerance"]) == ("100", "100.5", "1 %")
    assert [check["Passed"] for check in (holds, off, none)] == ["yes", "NO", "not measured"]
    assert tables.failed(made) == ["is off"]
    assert none["Measured"] == "not measured (refused)"
    assert none["Tolerance"] == "exact"


def test_conditions_tell_each_run_or_why_it_is_lacking() -> None:
    measured = case(time=run({"graph_s": 1.0}), lacking={"energy": "no sensor"})
    told = {
        conditions["Run"]: conditions
        for conditions in tables.conditions(recording(TINY, measured), measured)
    }
    assert told["time"]["Commit"] == "0123abc"
    assert told["time"]["Temperature, C"] == "not known"
    assert told["time"]["Warm-up runs"] == "3"
    assert told["energy"]["Started"] == "not measured (no sensor)"
    assert told["trace"]["Started"] == "not measured (the case has no such run)"
    assert told["counters"]["Started"].startswith("not measured")


def test_a_second_run_is_told_apart_by_its_spread() -> None:
    """Quartiles 1 % away: IQRs of 2 % each allow 2.8 %."""
    first = recording(TINY, case(time=run({"graph_s": 1.0, "eager_s": 2.0})))
    again = recording(TINY, case(time=run({"graph_s": 1.02, "eager_s": 2.2})))
    changes = tables.case_changes(first.cases[0], again)
    graph, eager = tables.side_by_side(changes)
    assert (graph["Change"], graph["Agrees"]) == ("+2 %", "yes")
    assert (eager["First"], eager["Again"]) == ("2 s", "2.2 s")
    assert (eager["Change"], eager["Agrees"]) == ("+10 %", "no")
    assert says(tables.verdict(changes), 1, 2, "eager time", 10, 2.97)
    line = next(
        change
        for change in tables.changes(first, again)
        if change["Quantity"] == "time as a CUDA graph"
    )
    assert line["Median |change|, %"] == pytest.approx(2.0)
    other = recording(TINY, case(workload(batch=2)))
    assert tables.case_changes(first.cases[0], other) == {}
    assert tables.verdict({}).startswith("Neither run states a spread")


def test_a_turned_table_has_a_column_for_each_row() -> None:
    rows = [{"Run": "time", "Clock": "1", "Load": "2"}, {"Run": "0", "Clock": "3"}]
    assert tables.turned(rows, "Run") == [
        {"Run": "Clock", "time": "1", "Run 0": "3"},
        {"Run": "Load", "time": "2", "Run 0": ""},
    ]
