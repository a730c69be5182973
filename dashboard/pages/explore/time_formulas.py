"""The workings of time, speed, energy and routing: their terms, with this case's values put in."""

from typing import Any

from costmodel import units
from costmodel.backends import BACKENDS
from costmodel.costs.energy import energy_j
from costmodel.costs.latency import Unknown, step_time
from costmodel.costs.predict import Prediction
from costmodel.costs.roofline import floor_s
from costmodel.costs.totals import routing_totals
from dashboard.pages.explore.formulas import (
    MICRO,
    Working,
    by_operator,
    documented,
    floor_line,
    times,
)


def floor(prediction: Prediction) -> Working:
    """The floor time of the step."""
    sums = prediction.costs.totals
    return Working(
        lines=(
            floor_line(prediction, sums.compulsory_bytes, sums.flops, prediction.floor_s),
            f"the longer term: {prediction.bound_by}",
        ),
        terms=by_operator(prediction, "HBM bytes", "compulsory_bytes"),
        terms_are="HBM bytes by operator",
        **documented(floor_s),
    )


def predicted(prediction: Prediction) -> Working:
    """The predicted time of the step."""
    time, workload, curves = prediction.time, prediction.workload, prediction.calibration
    lines: tuple[str, ...]
    if isinstance(time, Unknown):
        lines = (f"not predicted: {time.reason}",)
    else:
        assert not isinstance(curves, Unknown)
        graph = units.seconds(float(time.graph_s))
        launches = BACKENDS[workload.backend].total_launches(prediction.costs.operators)
        lines = (
            "as a CUDA graph = the sum of the operators' times over their layers",
            f"= {graph}",
            "launched one by one = max(as a CUDA graph, launches x cost of an eager launch)",
            (
                f"= max({graph}, {units.count(launches)} x {units.seconds(curves.eager_s)})"
                f" = {units.seconds(float(time.eager_s))}"
            ),
            (
                f"{workload.phase} is predicted as it is usually run:"
                f" {'as a graph' if workload.phase == 'decode' else 'one by one'},"
                f" {units.seconds(float(time.predicted_s))}"
            ),
        )
    return Working(
        lines=lines,
        terms=tuple(
            {
                "Operator": operator.path,
                "One layer, us": float(each.seconds) * MICRO,
                "Layers": operator.count,
                "All, us": float(operator.count * each.seconds) * MICRO,
            }
            for operator, each in times(prediction)
            if each is not None
        ),
        terms_are="Predicted times by operator, as a graph",
        **documented(step_time),
    )


def tokens_per_s(prediction: Prediction) -> Working:
    """Tokens per second, predicted and by the floor."""
    workload, time = prediction.workload, prediction.time
    tokens = workload.batch * workload.new_tokens
    lines = ["tokens/s = B T / time of the step"]
    for name, seconds in (
        ("predicted", None if isinstance(time, Unknown) else float(time.predicted_s)),
        ("at most, by the floor", prediction.floor_s),
    ):
        if seconds is not None:
            lines.append(
                f"{name} = {workload.batch} x {workload.new_tokens} / {seconds:.6g} s"
                f" = {units.scaled(tokens / seconds, 'token/s')}"
            )
    return Working(lines=tuple(lines), terms=(), terms_are="", source="definition")


def energy(prediction: Prediction) -> Working:
    """The predicted energy of the step and of a token."""
    time, curves = prediction.time, prediction.calibration
    tokens = prediction.workload.batch * prediction.workload.new_tokens
    lines: tuple[str, ...]
    terms: tuple[dict[str, Any], ...] = ()
    if isinstance(time, Unknown):
        lines = (f"not predicted: {time.reason}",)
    elif isinstance(time.energy_j, Unknown):
        lines = (f"not predicted: {time.energy_j.reason}",)
    else:
        assert not isinstance(curves, Unknown)
        assert curves.power is not None
        power, sums = curves.power, prediction.costs.totals
        moved = {
            "compulsory": sums.compulsory_bytes,
            "between operators": sums.activation_bytes,
        }
        if prediction.workload.backend == "torch":
            moved["between parts"] = sums.intermediate_bytes
        seconds = f"{float(time.predicted_s):.6g} s"
        moved_sum = " + ".join(map(units.count, moved.values()))
        limit = curves.power_limit_w
        lines = (
            (
                "energy = idle W x time + bytes x (copy W - idle W) / copy bytes/s"
                " + FLOPs x (GEMM W - idle W) / GEMM FLOP/s, at most power limit x time"
            ),
            f"= {power.idle_w:.6g} W x {seconds}"
            f" + ({moved_sum}) B x ({power.copy_w:.6g} - {power.idle_w:.6g}) W"
            f" / {power.copy_bytes_per_s:.6g} B/s"
            f" + {units.count(sums.flops)} FLOP x ({power.gemm_w:.6g} - {power.idle_w:.6g}) W"
            f" / {power.gemm_flops_per_s:.6g} FLOP/s"
            + ("" if limit is None else f", at most {limit:.6g} W x {seconds}"),
            (
                f"= {units.scaled(time.energy_j, 'J')};"
                f" a token: / {tokens:,} = {units.scaled(time.energy_j / tokens, 'J')}"
            ),
        )
        terms = tuple({"Bytes": name, "B": value} for name, value in moved.items())
    return Working(lines=lines, terms=terms, terms_are="Bytes", **documented(energy_j))


def routing(prediction: Prediction) -> Working:
    """What choosing experts or rows costs, and its share of the predicted time."""
    routing, time = prediction.costs.routing, prediction.time
    backend = BACKENDS[prediction.workload.backend]
    launches = backend.total_launches(prediction.costs.operators, routing_only=True)
    lines = [
        (
            f"FLOPs {units.count(routing.flops)}, compares {units.count(routing.compares)},"
            f" HBM bytes {units.count(routing.compulsory_bytes)},"
            f" launches {units.count(launches)}"
        )
    ]
    if not isinstance(time, Unknown):
        chosen_s, graph_s = float(time.routing_s), float(time.graph_s)
        lines += [
            "share of time = time of the parts that choose / time of the step, as a graph",
            (
                f"= {units.seconds(chosen_s)} / {units.seconds(graph_s)}"
                f" = {100 * chosen_s / graph_s:.2f} %"
            ),
        ]
    return Working(
        lines=tuple(lines),
        terms=tuple(
            {
                "Operator": operator.path,
                "Part": part.name,
                "Layers": operator.count,
                "FLOPs, one layer": part.flops,
                "Compares, one layer": part.compares,
                "HBM bytes, one layer": part.compulsory_bytes,
                **({} if each is None else {"One layer, us": float(each.parts_s[i]) * MICRO}),
            }
            for operator, each in times(prediction)
            for i, part in enumerate(operator.parts)
            if part.routing
        ),
        terms_are="Parts that choose experts or rows",
        **documented(routing_totals),
    )
