"""One prediction as people read it: summary, operators, routing cost part by part."""

from collections.abc import Iterable

from costmodel import units
from costmodel.backends import BACKENDS
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import OperatorTime, Unknown
from costmodel.costs.predict import Prediction
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.operator import Operator
from costmodel.show.text import Table

PREDICTED_NOTE = "Predicted as parts of a CUDA graph, whose time is their sum."


def workload_words(workload: Workload) -> str:
    """`decode, context 2,048, bf16 (KV bf16), uniform routing`, without the batch."""
    kv = workload.kv_dtype.label
    new = f", {workload.new_tokens:,} new tokens" if workload.phase == "prefill" else ""
    return (
        f"{workload.phase}{new}, context {workload.context:,},"
        f" {workload.dtype.label} (KV {kv}), {workload.routing.label} routing"
    )


def prediction_tables(prediction: Prediction) -> list[Table]:
    """Summary, operators, and the routing cost part by part."""
    model, workload = prediction.model, prediction.workload
    title = (
        f"{model.name}: {workload_words(workload)}, batch {workload.batch:,},"
        f" on {prediction.hardware.name}"
    )
    tables = [_summary(prediction, title), _operators(prediction)]
    routing = _routing_parts(prediction)
    if routing.rows:
        tables.append(routing)
    return tables


def _summary(prediction: Prediction, title: str) -> Table:
    costs, memory, workload = prediction.costs, prediction.memory, prediction.workload
    parameters, sums, kv, routing = costs.parameters, costs.totals, costs.kv_cache, costs.routing
    torch, fused = (
        BACKENDS[name].total_launches(prediction.costs.operators, routing_only=True)
        for name in ("torch", "fused")
    )
    tokens = workload.batch * workload.new_tokens
    distinct = [
        (f"distinct {kind}", units.count(number), what)
        for kind, number, what in (
            ("experts", costs.distinct.experts, "touched in a step, mean over MoE layers"),
            ("rows", costs.distinct.rows, "touched in a step, mean over memory layers"),
            ("rows, union", costs.distinct.rows_union, "over the layers of a shared table"),
        )
        if number is not None
    ]
    rows = [
        ("parameters", units.parameters(parameters.total), "with embeddings"),
        (
            "",
            units.parameters(parameters.total_without_embeddings),
            "without embeddings and LM head",
        ),
        (
            "active parameters",
            units.parameters(parameters.active_without_embeddings),
            "without embeddings and LM head",
        ),
        ("", units.parameters(parameters.active_with_lm_head), "with the LM head"),
        ("", units.parameters(parameters.active_with_embeddings), "with both embeddings"),
        ("FLOPs", units.flops(sums.flops), f"{workload.attention_flops} attention"),
        ("", units.flops(sums.flops / tokens), "per token"),
        ("KV cache", units.traffic(kv.bytes_per_token), "per token"),
        ("", units.capacity(kv.stored_bytes), "stored after the step"),
        ("", units.traffic(kv.read_bytes), "read by the step"),
        ("", units.traffic(kv.written_bytes), "written by the step"),
        *distinct,
        (
            "routing cost",
            units.flops(routing.flops),
            f"and {units.count(routing.compares)} compares",
        ),
        ("", units.traffic(routing.compulsory_bytes), "of HBM bytes"),
        ("", f"{torch:,}", f"launches in plain torch ({fused:,} fused)"),
        ("HBM bytes", units.traffic(sums.compulsory_bytes), "compulsory: each byte once"),
        ("", units.traffic(sums.weight_bytes), "weights touched"),
        ("", units.traffic(sums.row_bytes), "memory-table rows, distinct in each layer"),
        ("", units.traffic(sums.index_bytes), "permutation entries"),
        ("", units.traffic(sums.io_bytes), "token ids and logits"),
        (
            "",
            units.traffic(sums.activation_bytes),
            "activations between operators (not in the sum)",
        ),
        ("resident memory", units.capacity(memory.total_bytes), _fit_words(prediction)),
        ("floor time", units.seconds(prediction.floor_s), f"bound by {prediction.bound_by}"),
        *_predicted(prediction),
    ]
    return Table(
        title=title,
        headers=("quantity", "value", "what"),
        rows=tuple(rows),
        text_columns=3,
        notes=(*calibration_note(prediction), *model_notes(prediction.model)),
    )


def _predicted(prediction: Prediction) -> list[tuple[str, str, str]]:
    """Time, energy and the routing's share, or why they are not known."""
    time, workload = prediction.time, prediction.workload
    if isinstance(time, Unknown):
        return [("predicted time", units.NOT_KNOWN, time.reason)]
    tokens = workload.batch * workload.new_tokens
    eagerly, energy = workload.phase == "prefill", time.energy_j
    rows = [
        (units.seconds(float(time.graph_s)), "as a CUDA graph"),
        (units.seconds(float(time.eager_s)), "launched one by one"),
    ]
    share = float(time.routing_s / time.graph_s)
    return [
        ("predicted time", *rows[eagerly]),
        ("", *rows[not eagerly]),
        ("", units.scaled(tokens / time.predicted_s, "token/s"), rows[eagerly][1]),
        ("", units.seconds(float(time.routing_s)), f"of routing: {100 * share:.0f} % of the graph"),
        ("predicted energy", units.NOT_KNOWN, energy.reason)
        if isinstance(energy, Unknown)
        else ("predicted energy", units.scaled(energy, "J"), "of the first of these times"),
    ]


def calibration_note(prediction: Prediction) -> tuple[str, ...]:
    """By which calibration a time was predicted, in one line; nothing where none was."""
    by = prediction.calibration
    if isinstance(by, Unknown) or isinstance(prediction.time, Unknown):
        return ()
    return (predicted_by(by, prediction.workload),)


def predicted_by(curves: Curves, workload: Workload) -> str:
    """Which calibration it is, and that it claims nothing."""
    made = curves.calibration
    driver = "" if made.machine.driver is None else f", driver {made.machine.driver}"
    fused = (
        " Launches are those of fused kernels that need not exist: a projection."
        if workload.backend == "fused"
        else ""
    )
    return (
        f"Predicted by calibration {made.name} ({made.machine.name}{driver}, torch"
        f" {made.machine.torch}, {made.conditions.started});"
        f" no accuracy is claimed: see sparsecost validate.{fused}"
    )


def _fit_words(prediction: Prediction) -> str:
    memory = prediction.memory
    verdict = "fits" if memory.fits else "does NOT fit"
    return (
        f"{verdict} {units.capacity(memory.capacity_bytes)} (CUDA context and allocator slack left"
        f" out); largest batch at this context {units.count(memory.max_batch)}"
    )


def _operators(prediction: Prediction) -> Table:
    workload = prediction.workload
    rows = []
    for operator, time in _timed(prediction):
        launches = BACKENDS[workload.backend].operator_launches(operator)
        rows.append(
            (
                operator.path,
                operator.kind,
                units.flops(operator.count * operator.total("flops")),
                units.traffic(operator.count * operator.compulsory_bytes),
                units.count(operator.count * launches),
                units.seconds(operator.count * prediction.operator_floor_s(operator)),
                *([] if time is None else [units.seconds(float(operator.count * time.seconds))]),
                prediction.operator_bound_by(operator),
            )
        )
    return Table(
        title="Operators (sums over the layers that a path lists)",
        headers=(
            "path",
            "kind",
            "FLOPs",
            "compulsory",
            "launches",
            "floor",
            *([] if isinstance(prediction.time, Unknown) else ["predicted"]),
            "bound",
        ),
        rows=tuple(rows),
        text_columns=2,
        notes=(
            f"Launches of the {workload.backend} backend. The floors need not sum to the step's.",
            *([] if isinstance(prediction.time, Unknown) else [PREDICTED_NOTE]),
        ),
    )


def _timed(prediction: Prediction) -> Iterable[tuple[Operator, OperatorTime | None]]:
    operators, time = prediction.costs.operators, prediction.time
    if isinstance(time, Unknown):
        return ((operator, None) for operator in operators)
    return zip(operators, time.operators, strict=True)


def _routing_parts(prediction: Prediction) -> Table:
    rows = [
        (
            operator.path,
            part.name,
            units.flops(operator.count * part.flops),
            units.count(operator.count * part.compares),
            units.traffic(operator.count * part.compulsory_bytes),
            units.traffic(operator.count * (part.activation_bytes + part.intermediate_bytes)),
            units.count(operator.count * BACKENDS["torch"].launches(operator, part)),
            units.count(operator.count * BACKENDS["fused"].launches(operator, part)),
            *([] if time is None else [units.seconds(float(operator.count * time.parts_s[index]))]),
        )
        for operator, time in _timed(prediction)
        for index, part in enumerate(operator.parts)
        if part.routing
    ]
    return Table(
        title="Routing cost, part by part",
        headers=(
            "operator",
            "part",
            "FLOPs",
            "compares",
            "compulsory",
            "activations",
            "launches\ntorch",
            "launches\nfused",
            *([] if isinstance(prediction.time, Unknown) else ["predicted"]),
        ),
        rows=tuple(rows),
        text_columns=2,
    )


def model_notes(model: ModelConfig) -> tuple[str, ...]:
    """Source, notes and, for a reconstruction, what was assumed."""
    notes = [f"Source: {model.source}"]
    notes += [f"Note: {note}" for note in model.notes]
    notes += [f"Reconstruction, assumed: {assumption}" for assumption in model.assumptions]
    return tuple(notes)
