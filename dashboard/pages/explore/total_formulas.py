"""The workings of a step's totals: which terms they sum, with this case's values put in."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from costmodel import units
from costmodel.costs.footprint import footprint
from costmodel.costs.predict import Prediction, predict
from costmodel.costs.totals import KvCache, ParameterCounts, distinct, flops_by_kind, kv_cache
from costmodel.inputs.workload import MAX_CONTEXT
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Traffic
from dashboard.pages.explore.data import max_context
from dashboard.pages.explore.formulas import Working, by_operator, documented, largest_batch
from dashboard.pages.explore.time_formulas import energy, floor, predicted, routing, tokens_per_s


def _sum_line(name: str, total: Number, terms: Iterable[tuple[str, Number]]) -> tuple[str, str]:
    """`name = a + b`, and the same with values; terms that are zero are left out."""
    present = [(term, value) for term, value in terms if value]
    return (
        f"{name} = {' + '.join(term for term, _ in present)}",
        f"= {' + '.join(units.count(value) for _, value in present)} = {units.count(total)}",
    )


def _hbm(prediction: Prediction) -> Working:
    sums = prediction.costs.totals
    names = ("weight", "kv_read", "kv_written", "row", "index", "io")
    return Working(
        lines=_sum_line(
            "compulsory bytes",
            sums.compulsory_bytes,
            [(name.replace("_", " "), getattr(sums, f"{name}_bytes")) for name in names],
        ),
        terms=by_operator(prediction, "HBM bytes", "compulsory_bytes"),
        terms_are="HBM bytes by operator",
        **documented(Traffic),
    )


def _flops(prediction: Prediction) -> Working:
    costs, workload = prediction.costs, prediction.workload
    total, tokens = costs.totals.flops, workload.batch * workload.new_tokens
    return Working(
        lines=(
            *_sum_line("FLOPs of the step", total, costs.flops_by_kind.items()),
            f"a token: / {tokens:,} = {units.count(total / tokens)}",
        ),
        terms=by_operator(prediction, "FLOPs", "flops"),
        terms_are="FLOPs by operator",
        **documented(flops_by_kind),
    )


def _parameters(prediction: Prediction) -> Working:
    found = prediction.costs.parameters
    return Working(
        lines=(
            *_sum_line("parameters", found.total, found.by_group.items()),
            f"without embeddings and LM head: {found.total_without_embeddings:,}",
            f"active, without embeddings: {found.active_without_embeddings:,}",
            f"active, with the LM head: {found.active_with_lm_head:,}",
            f"active, with both embeddings: {found.active_with_embeddings:,}",
        ),
        terms=tuple(
            {
                "Operator": operator.path,
                "Tensor": weight.name,
                "Group": weight.group,
                "Shared as": weight.shared,
                "Parameters, one layer": weight.parameters,
                "A token uses, one layer": weight.active_parameters,
                "Layers": operator.count,
            }
            for operator in prediction.costs.operators
            for weight in operator.weights
        ),
        terms_are="Tensors; one that is shared counts once",
        **documented(ParameterCounts),
    )


def _kv(prediction: Prediction) -> Working:
    model, workload, kv = prediction.model, prediction.workload, prediction.costs.kv_cache
    held = workload.context + workload.new_tokens
    groups = [
        (len(layers), kind.kv_token_bytes(workload.kv_dtype), kind.kept_tokens(held))
        for kind, layers in model.attention_groups
    ]
    stored = " + ".join(
        f"{n} x {each:,} x {workload.batch:,} x {kept:,}" for n, each, kept in groups
    )
    return Working(
        lines=(
            "stored = sum over attention kinds of layers x bytes a token x B x tokens kept",
            f"= {stored} = {units.count(kv.stored_bytes)} B",
            (
                f"read by the step = {units.count(kv.read_bytes)} B,"
                f" written = {units.count(kv.written_bytes)} B"
            ),
        ),
        terms=by_operator(prediction, "KV read, B", "kv_read_bytes"),
        terms_are="KV read by operator",
        source=documented(kv_cache)["source"],
        doc="\n\n".join(documented(each)["doc"] for each in (KvCache, kv_cache)),
    )


def _memory(prediction: Prediction) -> Working:
    memory = prediction.memory
    names = ("weights", "buffers", "kv", "activations")
    return Working(
        lines=(
            *_sum_line(
                "resident bytes",
                memory.total_bytes,
                [(name, getattr(memory, f"{name}_bytes")) for name in names],
            ),
            (
                f"capacity {units.count(memory.capacity_bytes)} B:"
                f" {'fits' if memory.fits else 'does not fit'}"
            ),
            (
                "largest batch = (capacity - weights - buffers) / (KV cache and activations of one"
                " sequence), rounded down, at least 0"
            ),
            f"= {largest_batch(memory, prediction.workload.batch)}",
            "largest context = the most cached tokens with which the sum fits, by bisection",
            _largest_context(prediction),
        ),
        terms=(),
        terms_are="",
        source=documented(footprint)["source"],
        doc="\n\n".join(documented(each)["doc"] for each in (footprint, max_context)),
    )


def _largest_context(prediction: Prediction) -> str:
    """The largest context, with what is resident at it and at one more token."""

    def resident(context: int) -> str:
        workload = replace(prediction.workload, context=context)
        memory = predict(prediction.model, workload, prediction.hardware).memory
        fits = "fits" if memory.fits else "does not fit"
        return f"with {context:,} tokens {units.count(memory.total_bytes)} B, which {fits}"

    most = max_context(prediction)
    if most is None:
        return f"= none: {resident(0)}"
    if most == MAX_CONTEXT:
        return f"= {most:,} or more: {resident(most)}"
    return f"= {most:,}: {resident(most)}; {resident(most + 1)}"


def _distinct(prediction: Prediction) -> Working:
    workload, costs = prediction.workload, prediction.costs
    routing = type(workload.routing).expected_distinct
    touched = [(o, o.touched) for o in costs.operators if o.touched is not None]
    lines = [f"routing: {workload.routing.label}"] + [
        f"{what}, mean over the layers that have them = {units.count(number)}"
        for what, number in (("experts", costs.distinct.experts), ("rows", costs.distinct.rows))
        if number is not None
    ]
    return Working(
        lines=tuple(lines),
        terms=tuple(
            {
                "Operator": operator.path,
                "What": each.kind,
                "Of a layer": each.population,
                "Expected distinct": each.distinct,
                "Layers": operator.count,
            }
            for operator, each in touched
        ),
        terms_are="What each sparse layer touches",
        source=documented(routing)["source"],
        doc="\n\n".join(documented(each)["doc"] for each in (routing, distinct)),
    )


TOTALS: dict[str, Callable[[Prediction], Working]] = {
    "Floor time": floor,
    "Predicted time": predicted,
    "Tokens per second": tokens_per_s,
    "Energy per token": energy,
    "HBM bytes": _hbm,
    "FLOPs": _flops,
    "Parameters": _parameters,
    "KV cache": _kv,
    "Resident memory, largest batch and context": _memory,
    "Routing": routing,
    "Distinct experts and rows": _distinct,
}
