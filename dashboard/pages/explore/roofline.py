"""The figures of the Explore page: what each operator takes of a step, and the roofline."""

from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go

from costmodel import units
from costmodel.layers.site import expanded_paths
from dashboard.app.figures import HEIGHT, PALETTE, PREDICTED, framed

JSON = dict[str, Any]
MEASURES: dict[str, tuple[str, str, float, Callable[[float], str]]] = {
    # by name: field of an operator and of its parts, axis with its unit, units of the axis in one
    "HBM bytes": ("bytes", "HBM bytes of the step, MB", 1e6, units.traffic),
    "FLOPs": ("flops", "FLOPs of the step, G", 1e9, units.flops),
    "predicted time": ("predicted_s", "Predicted time of the step, us", 1e-6, units.seconds),
    "launches": ("launches", "Kernel launches of the step", 1.0, units.count),
}
CHOOSING, WORKING = PALETTE[2], PREDICTED
DOTTED = "."  # the pattern of what chooses; hatched is what was measured
BAR_HEIGHT = 26
NAMED = 5  # dots of the roofline that carry their name
SIDES = ("middle left", "middle right")  # where a name stands, in turn
DECADES = 1.5  # of the roofline's ceilings to the left and right of all dots


def by_leaf(data: JSON, measure: str) -> dict[str, tuple[float, float]]:
    """What each leaf takes over all layers: its choosing of experts or rows, and all else.

    Largest first; leaves that take nothing are left out.
    """
    field, *_ = MEASURES[measure]
    whole = "compulsory_bytes" if field == "bytes" else field
    found: dict[str, tuple[float, float]] = {}
    for operator in data["operators"]:
        leaf = leaf_of(operator["path"])
        choosing = sum(part[field] for part in operator["parts"] if part["routing"])
        choosing = min(choosing, operator[whole])
        before = found.get(leaf, (0, 0))
        count = operator["count"]
        found[leaf] = (
            before[0] + count * choosing,
            before[1] + count * (operator[whole] - choosing),
        )
    present = {leaf: values for leaf, values in found.items() if sum(values)}
    return dict(sorted(present.items(), key=lambda item: -sum(item[1])))


def leaf_of(path: str) -> str:
    """The path of an operator without its layers: `attention.core`."""
    first = expanded_paths(path)[0]
    return first.split(".", 2)[2] if first.startswith("layers.") else first


def breakdown(data: JSON, measure: str) -> go.Figure:
    """Bars of one measure by operator, over all layers; what chooses stands apart."""
    _, axis, unit, shown = MEASURES[measure]
    found = by_leaf(data, measure)
    total = sum(map(sum, found.values()))
    figure = go.Figure()
    for index, name, colour, pattern in (
        (1, "the work itself", WORKING, ""),
        (0, "choosing experts or rows (routing)", CHOOSING, DOTTED),
    ):
        if not any(values[index] for values in found.values()):
            continue
        figure.add_bar(
            name=name,
            orientation="h",
            y=list(found),
            x=[values[index] / unit for values in found.values()],
            marker={"color": colour, "pattern": {"shape": pattern, "fgcolor": "white"}},
            customdata=[
                (shown(values[index]), f"{100 * sum(values) / total:.1f} %")
                for values in found.values()
            ],
            hovertemplate="%{y}: %{customdata[0]}; operator %{customdata[1]} of the step",
        )
    figure.update_layout(barmode="stack")
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(tickformat=",~r")
    height = 120 + BAR_HEIGHT * len(found)
    return framed(figure, x_title=axis, y_title="Operator, all layers", height=height)


def breakdown_alt(data: JSON, measure: str) -> str:
    """The bars in words."""
    found = by_leaf(data, measure)
    total = sum(map(sum, found.values()))
    largest = ", ".join(
        f"{leaf} {100 * sum(found[leaf]) / total:.0f} %" for leaf in list(found)[:NAMED]
    )
    return f"Bars of {measure} by operator, largest first, linear axis: {largest}."


def dots(data: JSON) -> list[JSON]:
    """Operators that compute: FLOP/byte, the rate their floor allows, and the predicted one."""
    return [
        {
            "path": each["path"],
            "intensity": each["flops"] / each["compulsory_bytes"],
            "floor_flops_per_s": each["flops"] / each["floor_s"],
            "predicted_flops_per_s": None
            if each["predicted_s"] is None
            else each["flops"] / each["predicted_s"],
            "weight_s": each["count"] * (each["predicted_s"] or each["floor_s"]),
            "bound_by": each["bound_by"],
        }
        for each in data["operators"]
        if each["flops"] and each["compulsory_bytes"]
    ]


def ceilings(data: JSON) -> tuple[float, float]:
    """Datasheet bandwidth in bytes/s, and the dense peak that prices FLOPs in FLOP/s."""
    hardware = data["hardware"]
    return hardware["hbm_bytes_per_s"], hardware[f"dense_peak_flops_per_s.{hardware['peak_used']}"]


def roofline(data: JSON) -> go.Figure:
    """The datasheet's ceilings, and each operator below them; both axes logarithmic."""
    bandwidth, peak = ceilings(data)
    found = dots(data)
    ridge = peak / bandwidth
    low = min([ridge, *(dot["intensity"] for dot in found)]) / 10**DECADES
    high = max([ridge, *(dot["intensity"] for dot in found)]) * 10**DECADES
    figure = go.Figure()
    figure.add_scatter(
        name=f"ceilings: {units.scaled(bandwidth, 'B/s')}, {units.scaled(peak, 'FLOP/s')} of"
        f" {data['hardware']['peak_used']}",
        x=[low, ridge, high],
        y=[low * bandwidth, peak, peak],
        mode="lines",
        line={"color": PALETTE[6], "width": 2},
        hovertemplate="%{x:.4g} FLOP/byte: at most %{y:.4g} FLOP/s",
    )
    longest = sorted(found, key=lambda dot: -dot["weight_s"])[:NAMED]
    for name, key, symbol, colour in (
        ("at its floor time", "floor_flops_per_s", "circle-open", PALETTE[6]),
        ("predicted", "predicted_flops_per_s", "diamond", PREDICTED),
    ):
        present = [dot for dot in found if dot[key] is not None]
        if not present:
            continue
        last = key == "predicted_flops_per_s" or found[0]["predicted_flops_per_s"] is None
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
    figure.update_yaxes(exponentformat="SI", dtick=1)
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
    found = dots(data)
    by_memory = sum(dot["bound_by"] == "memory" for dot in found)
    bandwidth, peak = ceilings(data)
    return (
        "Roofline, both axes logarithmic: FLOP/s against FLOP per HBM byte. Ceilings"
        f" {units.scaled(bandwidth, 'B/s')} and {units.scaled(peak, 'FLOP/s')} meet at"
        f" {peak / bandwidth:.0f} FLOP/byte; {by_memory} of {len(found)} operators lie left of it,"
        " bound by memory."
    )
