"""The numbers of a step on several GPUs explained: what one GPU has, what exchanges take.

Numbers that are sums over the operators of all GPUs have the equations that they have on one.
"""

from dataclasses import fields

from costmodel.costs.latency import Unknown
from costmodel.costs.mesh.predict import Parallel, Spent
from costmodel.explain.explanation import Column, Derivation, Equation, Terms
from costmodel.explain.sums import Builder, Case
from costmodel.explain.working import number_text
from costmodel.layers.letters import Letter

SECONDS = {"bound_s": "floor_s", "low_s": "low_s", "typical_s": "time_s", "high_s": "high_s"}
"""The fields of `Spent`, by what the JSON calls them."""
KEPT = ("weights", "buffers", "kv", "state", "towers", "activations")


def _parallel(case: Case) -> Parallel:
    of = case.prediction.parallel
    assert of is not None, "only a step on several GPUs has these numbers"
    return of


def _gpus(case: Case) -> Letter:
    return Letter("gpus", case.prediction.gpus, "GPUs, tp x dp x pp")


def _mean(of_all: str, meaning: str) -> Builder:
    """A number of all GPUs over their number."""

    def build(case: Case) -> Derivation:
        total = Letter("total", getattr(case.prediction.costs.totals, of_all), meaning)
        return Derivation(equations=(case.equation("total / gpus", total, _gpus(case)),))

    return build


def _kept(words: str) -> Builder:
    """What stands on the fullest GPU."""

    def build(case: Case) -> Derivation:
        of = _parallel(case).step
        stage = next(stage for stage in of.stages if stage.memory is of.fullest)
        layers = f"{stage.layers.start} to {stage.layers.stop - 1}"
        return Derivation(equations=(case.in_words(f"{words}, layers {layers}"),))

    return build


def _kept_sum(case: Case) -> Derivation:
    fullest = _parallel(case).step.fullest
    letters = [
        Letter(name, getattr(fullest, f"{name}_bytes"), f"bytes of {name} on that GPU")
        for name in KEPT
    ]
    return Derivation(equations=(case.sum_of(*letters),))


def _capacity(case: Case) -> Derivation:
    return Derivation(equations=(case.in_words(f"as {case.prediction.hardware.name} has it"),))


def _seconds(field: str) -> Builder:
    """A time of all exchanges, which is a sum over layers."""

    def build(case: Case) -> Derivation:
        return Derivation(
            equations=(case.in_words("sum over exchanges of layers x one layer"),),
            terms=exchange_terms(_parallel(case), field),
        )

    return build


def exchange_terms(of: Parallel, field: str) -> Terms:
    """What each exchange adds to a time of `Spent`."""
    rows = tuple(
        (one.path, one.count, one.collective.payload_bytes, getattr(spent, field))
        for one, spent in zip(of.exchanges, of.spent, strict=True)
    )
    return Terms(
        title="exchanges of one microbatch",
        columns=(
            Column(header="exchange", unit="text"),
            Column(header="layers", unit="count"),
            Column(header="payload", unit="bytes"),
            Column(header="one layer", unit="s"),
            Column(header="all layers", unit="s", total=float(getattr(of.all_spent, field))),
        ),
        rows=tuple((*row, row[1] * row[3]) for row in rows),
    )


def _sent(case: Case) -> Derivation:
    of = _parallel(case)
    return Derivation(
        equations=(
            case.sum_of(
                Letter("node", of.node_bytes, "bytes to GPUs of its node"),
                Letter("network", of.network_bytes, "bytes to other nodes"),
            ),
        )
    )


def _sent_over(link: str) -> Builder:
    """Bytes over one link: a sum over the exchanges of one microbatch."""

    def build(case: Case) -> Derivation:
        of = _parallel(case)
        sent = [
            (one.path, one.count, getattr(one.collective.sent, f"{link}_bytes"))
            for one in of.exchanges
        ]
        total = sum(count * one for _, count, one in sent)
        letters = (
            Letter("sent", total, "bytes sent for one microbatch, all stages together"),
            Letter("microbatches", of.step.microbatches, "of a group"),
            Letter("pp", of.step.mesh.pp, "stages"),
        )
        return Derivation(
            equations=(case.equation("sent microbatches / pp", *letters),),
            terms=Terms(
                title="bytes that one GPU sends",
                columns=(
                    Column(header="exchange", unit="text"),
                    Column(header="layers", unit="count"),
                    Column(header="one layer", unit="bytes"),
                    Column(header="all layers", unit="bytes", total=total),
                ),
                rows=tuple((path, count, one, count * one) for path, count, one in sent if one),
            ),
        )

    return build


def _busiest(case: Case) -> Derivation:
    return Derivation(equations=(case.in_words("expected maximum over GPUs / mean"),))


MESH: dict[str, Builder] = {
    "parallel.per_gpu.weights_bytes": _kept("weights that one GPU of the fullest stage stores"),
    "parallel.per_gpu.kv_bytes": _kept("KV cache that one GPU of the fullest stage stores"),
    "parallel.per_gpu.state_bytes": _kept("states that one GPU of the fullest stage stores"),
    "parallel.per_gpu.activations_bytes": _kept("activations on one GPU of the fullest stage"),
    "parallel.per_gpu.total_bytes": _kept_sum,
    "parallel.per_gpu.capacity_bytes": _capacity,
    "parallel.per_gpu.flops": _mean("flops", "FLOPs of all GPUs"),
    "parallel.per_gpu.hbm_bytes": _mean("compulsory_bytes", "compulsory bytes of all GPUs"),
    "parallel.busiest_experts": _busiest,
    "parallel.busiest_rows": _busiest,
    "parallel.communication.bytes": _sent,
    "parallel.communication.node_bytes": _sent_over("node"),
    "parallel.communication.network_bytes": _sent_over("network"),
    **{
        f"parallel.communication.{SECONDS[field.name]}": _seconds(field.name)
        for field in fields(Spent)
    },
}
"""By JSON name."""


def or_exchanges(bound: Equation, of: Parallel) -> Equation:
    """The bound of a step on several GPUs: exchanges hide behind other work at best.

    Bytes and FLOPs are those of one GPU of each stage, for one microbatch.
    """
    sent = Letter("exchanges", of.all_spent.bound_s, "parallel.communication.floor_s")
    letters = (*bound.letters, sent)
    return Equation.of(bound.name, f"max({bound.formula}, exchanges)", letters, bound.unit)


def _with_exchanges(field: str) -> Builder:
    """A predicted time: what one GPU takes for its operators, and all exchanges."""

    def build(case: Case) -> Derivation:
        time, of = case.prediction.time, _parallel(case)
        assert not isinstance(time, Unknown)
        waits = float(of.all_spent.typical_s)
        letters = (
            Letter("alone", getattr(time, field) - waits, "seconds of the operators of one GPU"),
            Letter("exchanges", waits, "parallel.communication.time_s"),
        )
        return Derivation(
            equations=(case.equation("alone + exchanges", *letters),),
            terms=exchange_terms(of, "typical_s"),
        )

    return build


def _by_stage(name: str) -> Builder:
    """Bytes that the GPUs of all stages keep."""

    def build(case: Case) -> Derivation:
        of, unit = _parallel(case).step, case.quantity.unit
        rows = []
        for stage in of.stages:
            layers = f"{stage.layers.start} to {stage.layers.stop - 1}"
            one = getattr(stage.memory, name)
            rows.append((layers, of.mesh.of_stage, one, one * of.mesh.of_stage))
        return Derivation(
            equations=(case.in_words("sum over stages of GPUs x one GPU"),),
            terms=Terms(
                title=f"{case.quantity.label} by stage",
                columns=(
                    Column(header="layers of the stage", unit="text"),
                    Column(header="GPUs", unit="count"),
                    Column(header="one GPU", unit=unit),
                    Column(header="all GPUs", unit=unit, total=case.total),
                ),
                rows=tuple(rows),
            ),
        )

    return build


def _energy(case: Case) -> Derivation:
    """Idle power of all GPUs, and what bytes and FLOPs take beyond it."""
    time, curves, gpus = case.prediction.time, case.prediction.calibration, _gpus(case)
    assert not isinstance(time, Unknown)
    assert not isinstance(curves, Unknown)
    assert curves.power is not None
    idle_w, seconds = curves.power.idle_w, float(time.predicted_s)
    beyond = float(case.total) - idle_w * case.prediction.gpus * seconds
    letters = (
        gpus,
        Letter("idle", idle_w, "watts of an idle GPU"),
        Letter("t", seconds, "time.predicted_s"),
        Letter("beyond", beyond, "joules that bytes and FLOPs of all GPUs take beyond idle power"),
    )
    return Derivation(equations=(case.equation("gpus idle t + beyond", *letters),))


def _max_batch(case: Case) -> Derivation:
    """The fullest stage decides, with the sequences of one group."""
    of = _parallel(case).step
    letters = (
        Letter("dp", of.mesh.dp, "groups with sequences of their own"),
        Letter(
            "least",
            min(int(stage.memory.max_batch) for stage in of.stages),
            "sequences that fit a GPU of the stage that holds the fewest",
        ),
    )
    return Derivation(equations=(case.equation("dp least", *letters),))


def _fits_l2(case: Case) -> Derivation:
    of, hardware = _parallel(case).step, case.prediction.hardware
    moved = of.sums.compulsory_bytes
    words = "compulsory bytes of one GPU of each stage <= L2 caches of these GPUs, in bytes"
    values = f"{number_text(moved)} <= {of.mesh.pp} * {number_text(hardware.l2_bytes)}"
    return Derivation(equations=(case.in_words(words, values),))


ON_A_MESH: dict[str, Builder] = {
    "time.predicted_s": _with_exchanges("predicted_s"),
    "time.predicted_graph_s": _with_exchanges("graph_s"),
    "time.predicted_eager_s": _with_exchanges("eager_s"),
    "time.fits_l2": _fits_l2,
    "energy.predicted_j": _energy,
    "kv_cache.stored_bytes": _by_stage("kv_bytes"),
    "kv_cache.state_bytes": _by_stage("state_bytes"),
    "memory.weights_bytes": _by_stage("weights_bytes"),
    "memory.buffers_bytes": _by_stage("buffers_bytes"),
    "memory.activations_bytes": _by_stage("activations_bytes"),
    "memory.max_batch": _max_batch,
}
"""Numbers that one GPU has as well, with another equation."""
