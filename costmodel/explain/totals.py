"""The sums of a step explained: FLOPs, HBM bytes, routing, distinct experts and rows."""

from typing import Literal

from costmodel.costs.hbm_traffic import L2_SHARE, HbmTraffic
from costmodel.costs.totals import KINDS
from costmodel.explain.explanation import Column, Derivation, Equation, Terms
from costmodel.explain.rows import TABLE_ROWS
from costmodel.explain.sums import (
    Builder,
    Case,
    byte_letters,
    operator_terms,
    over_operators,
    over_parts,
)
from costmodel.layers.letters import Letter
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator


def _total(name: str) -> Builder:
    """The sum of a field of parts, or of several fields that `Traffic` has a name for."""
    return over_operators(lambda operator: operator.total(name))


def _routing(name: str) -> Builder:
    """The same of the parts that choose experts or rows."""
    return over_parts(
        lambda operator, place: getattr(operator.parts[place], name), lambda part: part.routing
    )


def _flops_of(kind: str) -> Builder:
    """The FLOPs of parts of one kind."""
    return over_parts(
        lambda operator, place: operator.parts[place].flops, lambda part: part.kind == kind
    )


def _flops(case: Case) -> Derivation:
    by_kind = case.prediction.costs.flops_by_kind
    kinds = [Letter(kind, by_kind[kind], f"FLOPs of parts of this kind: {kind}") for kind in KINDS]
    return Derivation(
        equations=(case.sum_of(*kinds),),
        terms=operator_terms(case, lambda operator: operator.total("flops")),
    )


def _flops_per_token(case: Case) -> Derivation:
    flops = Letter("FLOPs", case.prediction.costs.totals.flops, "FLOPs of the step")
    return Derivation(equations=(case.equation("FLOPs / (B T)", flops),))


def _compulsory(case: Case) -> Derivation:
    sums = case.prediction.costs.totals
    return Derivation(
        equations=(case.sum_of(*byte_letters(lambda name: getattr(sums, name))),),
        terms=operator_terms(case, lambda operator: operator.compulsory_bytes),
    )


def _kv(case: Case) -> Derivation:
    sums = case.prediction.costs.totals
    return Derivation(
        equations=(
            case.sum_of(
                Letter("read", sums.kv_read_bytes, "bytes of the cached tokens that are read"),
                Letter("written", sums.kv_written_bytes, "bytes of the new tokens"),
            ),
        ),
        terms=operator_terms(
            case,
            lambda operator: operator.total("kv_read_bytes") + operator.total("kv_written_bytes"),
        ),
    )


def _routing_launches(case: Case) -> Derivation:
    kernels = case.prediction.kernels

    def launches(operator: Operator, place: int) -> Number:
        launched = kernels.launches(operator, operator.parts[place])
        assert launched is not None, kernels.refusal
        return launched

    return over_parts(launches, lambda part: part.routing, of_all_gpus=False)(case)


def _distinct(kind: str) -> Builder:
    """The mean over layers of the experts or rows that each is expected to touch."""

    def build(case: Case) -> Derivation:
        sets = _expert_sets(case) if kind == "experts" else 1
        touched = [
            (operator.count, operator.touched.distinct * sets)
            for operator in case.operators
            if operator.touched is not None and operator.touched.kind == kind
        ]
        over_layers = sum(count * distinct for count, distinct in touched)
        layers = sum(count for count, _ in touched)
        return Derivation(
            equations=(
                case.equation(
                    "touched / layers",
                    Letter("touched", over_layers, f"distinct {kind}, summed over layers"),
                    Letter("layers", layers, f"layers that choose {kind}"),
                ),
            ),
            terms=_touched_terms(case, kind, total=over_layers),
        )

    return build


def _expert_sets(case: Case) -> int:
    """ep, the sets of experts: operators of a mesh touch those of one GPU."""
    of = case.prediction.parallel
    return 1 if of is None else of.step.mesh.ep


def _union(case: Case) -> Derivation:
    return Derivation(
        equations=(
            case.in_words("distinct rows of all layers, a row that several layers touch once"),
        ),
        terms=_touched_terms(case, "rows", total=None),
    )


def _touched_terms(case: Case, kind: str, *, total: Number | None) -> Terms:
    sets = _expert_sets(case) if kind == "experts" else 1
    return Terms(
        title=f"distinct {kind} of each layer under {case.prediction.workload.routing.label}"
        " routing",
        columns=(
            Column(header="operator", unit="text"),
            Column(header="layers", unit="count"),
            Column(header=f"{kind} in reach", unit="count"),
            Column(header="distinct, one layer", unit="count"),
            Column(header="distinct, summed", unit="count", total=total),
        ),
        rows=tuple(
            (
                operator.path,
                operator.count,
                operator.touched.population * sets,
                operator.touched.distinct * sets,
                operator.count * operator.touched.distinct * sets,
            )
            for operator in case.operators
            if operator.touched is not None and operator.touched.kind == kind
        ),
    )


def _moved(which: Literal["read", "written"]) -> Builder:
    """What the step reads from HBM or writes there: what is required, and what L2 drops."""

    def build(case: Case) -> Derivation:
        traffic = case.prediction.traffic()
        assert isinstance(traffic, HbmTraffic)
        cache = Letter("C", traffic.cache.kept_bytes, "bytes that L2 keeps for another read")
        of_layer = {
            operator.path: moved[which == "written"]
            for operator, moved in zip(case.operators, traffic.operators, strict=True)
        }
        return Derivation(
            equations=(
                case.sum_of(*(Letter(*each) for each in traffic.terms(which))),
                Equation.of(
                    "bytes that L2 keeps",
                    "L2_share L2",
                    (
                        Letter("L2_share", L2_SHARE, "fitted on leaves at random shapes"),
                        Letter("L2", case.prediction.hardware.l2_bytes, "bytes, as the GPU states"),
                        cache,
                    ),
                    "bytes",
                ),
            ),
            terms=operator_terms(case, lambda operator: of_layer[operator.path]),
        )

    return build


WORK: dict[str, Builder] = {
    "flops.total": _flops,
    "flops.per_token": _flops_per_token,
    **{f"flops.by_kind.{kind}": _flops_of(kind) for kind in KINDS},
    "hbm_bytes.compulsory": _compulsory,
    "hbm_bytes.read": _moved("read"),
    "hbm_bytes.written": _moved("written"),
    "hbm_bytes.weights": _total("weight_bytes"),
    "hbm_bytes.kv": _kv,
    "hbm_bytes.state": _total("state_bytes"),
    **TABLE_ROWS,
    "hbm_bytes.indices": _total("index_bytes"),
    "hbm_bytes.io": _total("io_bytes"),
    "hbm_bytes.activations": _total("activation_bytes"),
    "hbm_bytes.intermediates": _total("intermediate_bytes"),
    "routing.flops": _routing("flops"),
    "routing.compares": _routing("compares"),
    "routing.hbm_bytes": _routing("compulsory_bytes"),
    "routing.activation_bytes": _routing("activation_bytes"),
    "routing.intermediate_bytes": _routing("intermediate_bytes"),
    "routing.launches": _routing_launches,
    "routing.expected_distinct_experts": _distinct("experts"),
    "routing.expected_distinct_rows": _distinct("rows"),
    "routing.expected_distinct_rows_union": _union,
}
"""By JSON name; what is not predicted has no entry."""
