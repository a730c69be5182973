"""The charts of the Explore page: the share of each operator in a step, and the roofline."""

from math import ceil, floor, log10
from typing import Any

import plotly.graph_objects as go

from costmodel import units
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.show.axis import Axis
from dashboard.app.figures import HEIGHT, PALETTE, PREDICTED, framed
from dashboard.app.paths import leaf_of

JSON = dict[str, Any]
PREDICTED_TIME = STEP_QUANTITIES["time.predicted_s"].label
LAUNCHES = "launches"
MEASURES = {  # by the names of the choices, which addresses keep: the field of a part, the axis
    "HBM bytes": ("bytes", Axis(quantity=STEP_QUANTITIES["hbm_bytes.compulsory"], prefix="M")),
    "FLOPs": ("flops", Axis(quantity=STEP_QUANTITIES["flops.total"], prefix="G")),
    PREDICTED_TIME: (
        "predicted_s",
        Axis(quantity=STEP_QUANTITIES["time.predicted_graph_s"], prefix="u"),
    ),
    LAUNCHES: ("launches", Axis(quantity=STEP_QUANTITIES["operators.launches"])),
}
ROUTING, OTHER = PALETTE[2], PREDICTED
DOTTED = "."  # the pattern of routing; hatched is what was measured
BAR_HEIGHT = 26
NAMED = 5  # dots of the roofline that carry their name
SIDES = ("middle left", "middle right")  # of a dot, for its name, in turn
DECADES = 1.5  # by which the roofline's ceilings extend beyond all dots


def by_leaf(data: JSON, measure: str) -> dict[str, tuple[float, float]]:
    """Each leaf's part in a measure, over all layers: (routing, all other work), largest first.

    Routing is the choice of experts or rows. Leaves without a part are left out.
    """
    field, _ = MEASURES[measure]
    whole = "compulsory_bytes" if field == "bytes" else field
    sums: dict[str, tuple[float, float]] = {}
    for operator in data["operators"]:
        leaf = leaf_of(operator["path"])
        routing = sum(part[field] for part in operator["parts"] if part["routing"])
        routing = min(routing, operator[whole])
        before = sums.get(leaf, (0, 0))
        count = operator["count"]
        sums[leaf] = (
            before[0] + count * routing,
            before[1] + count * (operator[whole] - routing),
        )
    if field == "predicted_s":
        for exchange in data.get("parallel", {}).get("exchanges", ()):
            leaf, seconds = leaf_of(exchange["path"]), exchange["count"] * exchange["time_s"]
            sums[leaf] = (0, sums.get(leaf, (0, 0))[1] + seconds)
    present = {leaf: values for leaf, values in sums.items() if sum(values)}
    return dict(sorted(present.items(), key=lambda item: -sum(item[1])))


def breakdown(data: JSON, measure: str) -> go.Figure:
    """Bars of one measure by operator, over all layers; routing has a colour of its own."""
    _, axis = MEASURES[measure]
    leaves = by_leaf(data, measure)
    total = sum(map(sum, leaves.values()))
    figure = go.Figure(
        layout={
            "barmode": "stack",
            "xaxis": {"tickformat": ",~r"},
            "yaxis": {"autorange": "reversed"},
        }
    )
    for index, name, colour, pattern in (
        (1, "all other work", OTHER, ""),
        (0, "routing: the choice of experts or rows", ROUTING, DOTTED),
    ):
        if not any(values[index] for values in leaves.values()):
            continue
        figure.add_bar(
            name=name,
            orientation="h",
            y=list(leaves),
            x=[axis.scaled(values[index]) for values in leaves.values()],
            marker={"color": colour, "pattern": {"shape": pattern, "fgcolor": "white"}},
            customdata=[
                (
                    units.formatted(values[index], axis.quantity.unit),
                    f"{100 * sum(values) / total:.1f} %",
                )
                for values in leaves.values()
            ],
            hovertemplate="%{y}: %{customdata[0]}; operator %{customdata[1]} of the step",
        )
    height = 120 + BAR_HEIGHT * len(leaves)
    of = " of one GPU" if "parallel" in data else ""
    return framed(figure, x_title=axis.heading, y_title=f"Operator, all layers{of}", height=height)


def breakdown_alt(data: JSON, measure: str) -> str:
    """The bars in words."""
    leaves = by_leaf(data, measure)
    total = sum(map(sum, leaves.values()))
    largest = ", ".join(
        f"{leaf} {100 * sum(leaves[leaf]) / total:.0f} %" for leaf in list(leaves)[:NAMED]
    )
    return f"Bars of {measure} by operator, largest first, linear axis: {largest}."


def dots(data: JSON) -> list[JSON]:
    """Operators with FLOPs: intensity in FLOP/byte, FLOP/s at the roofline bound and predicted.

    `step_s` is the operator's time over all its layers.
    """
    return [
        {
            "path": operator["path"],
            "intensity": operator["flops"] / operator["compulsory_bytes"],
            "floor_flops_per_s": operator["flops"] / operator["floor_s"],
            "predicted_flops_per_s": None
            if operator["predicted_s"] is None
            else operator["flops"] / operator["predicted_s"],
            "step_s": operator["count"] * (operator["predicted_s"] or operator["floor_s"]),
            "bound_by": operator["bound_by"],
        }
        for operator in data["operators"]
        if operator["flops"] and operator["compulsory_bytes"]
    ]


def ceilings(data: JSON) -> tuple[float, float]:
    """The datasheet's bandwidth in bytes/s, and in FLOP/s the highest dense peak that is used."""
    hardware = data["hardware"]
    return hardware["hbm_bytes_per_s"], hardware[f"dense_peak_flops_per_s.{_highest(data)}"]


def _highest(data: JSON) -> str:
    """The name of the highest peak at which some operator's products are priced."""
    hardware = data["hardware"]
    names: list[str] = [hardware["peak_used"], *hardware["other_peaks_used"]]
    return max(names, key=lambda name: float(hardware[f"dense_peak_flops_per_s.{name}"]))


def roofline(data: JSON) -> go.Figure:
    """The datasheet's ceilings, and each operator below them; both axes logarithmic."""
    bandwidth, peak = ceilings(data)
    operators = dots(data)
    ridge = peak / bandwidth
    low = min([ridge, *(dot["intensity"] for dot in operators)]) / 10**DECADES
    high = max([ridge, *(dot["intensity"] for dot in operators)]) * 10**DECADES
    figure = go.Figure()
    figure.add_scatter(
        name=f"ceilings: {units.scaled(bandwidth, 'B/s')}, {units.scaled(peak, 'FLOP/s')} of"
        f" {_highest(data)}",
        x=[low, ridge, high],
        y=[low * bandwidth, peak, peak],
        mode="lines",
        line={"color": PALETTE[6], "width": 2},
        hovertemplate="%{x:.4g} FLOP/byte: at most %{y:.4g} FLOP/s",
    )
    longest = sorted(operators, key=lambda dot: -dot["step_s"])[:NAMED]
    for name, key, symbol, colour in (
        ("at its roofline bound", "floor_flops_per_s", "circle-open", PALETTE[6]),
        ("predicted", "predicted_flops_per_s", "diamond", PREDICTED),
    ):
        present = [dot for dot in operators if dot[key] is not None]
        if not present:
            continue
        last = key == "predicted_flops_per_s" or operators[0]["predicted_flops_per_s"] is None
        figure.add_scatter(
            name=name,
            x=[dot["intensity"] for dot in present],
            y=[dot[key] for dot in present],
            mode="markers+text" if last else "markers",
            text=[leaf_of(dot["path"]) if dot in longest else "" for dot in present],
            textposition=[SIDES[i % len(SIDES)] for i in range(len(present))],
            marker={"symbol": symbol, "color": colour, "size": 10},
            customdata=[
                (dot["path"], dot["bound_by"], units.scaled(dot[key], "FLOP/s")) for dot in present
            ],
            hovertemplate="%{customdata[0]}<br>%{x:.4g} FLOP/byte, %{customdata[2]}"
            "<br>bound by %{customdata[1]}",
        )
    lowest = min(y for trace in figure.data for y in trace.y)
    decades = [10.0**power for power in range(floor(log10(lowest)), ceil(log10(peak)) + 1)]
    figure.update_yaxes(tickvals=decades, ticktext=[units.scaled(y, "") for y in decades])
    figure.update_xaxes(dtick=1)
    return framed(
        figure,
        x_title="FLOPs per compulsory HBM byte, FLOP/byte",
        y_title="FLOP/s",
        x_log=True,
        y_log=True,
        height=HEIGHT + 80,
    )


def roofline_alt(data: JSON) -> str:
    """The roofline in words."""
    operators = dots(data)
    by_memory = sum(dot["bound_by"] == "memory" for dot in operators)
    bandwidth, peak = ceilings(data)
    return (
        "Roofline, both axes logarithmic: FLOP/s against FLOP per HBM byte. Ceilings"
        f" {units.scaled(bandwidth, 'B/s')} and {units.scaled(peak, 'FLOP/s')} meet at"
        f" {peak / bandwidth:.0f} FLOP/byte; {by_memory} of {len(operators)} operators lie left of"
        " it, bound by memory."
    )
