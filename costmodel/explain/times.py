"""Times and energy explained: the roofline bound, what a calibration predicts, routing's share."""

from costmodel.costs.energy import executed_flops
from costmodel.costs.energy_fit import EnergyCoefficients
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import StepTime, Unknown, leaf_regions, region_time
from costmodel.costs.predict import Prediction
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.costs.roofline import NEAR, Bound, FarBytes, Peak, far_bytes
from costmodel.costs.table_rows import repeated_row_bytes
from costmodel.explain.explanation import Column, Derivation, Equation, Terms
from costmodel.explain.mesh import or_exchanges
from costmodel.explain.sums import Builder, Case, over_parts
from costmodel.explain.working import number_text, worked
from costmodel.layers.letters import Letter
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator

BOUND = "max(bytes / bandwidth, FLOPs / peak)"


def label(name: str) -> str:
    """What tables call a number of a step."""
    return STEP_QUANTITIES[name].label


def operator_bound(prediction: Prediction, operator: Operator) -> Equation:
    """The roofline bound of one of an operator's layers by itself, in seconds."""
    peak, flops = prediction.ceilings.peak_of(operator), operator.total("flops")
    counted = Letter("FLOPs", flops, label("flops.total"))
    _, _, far = prediction.ceilings.of_operator(operator)
    return _bound(prediction, operator.compulsory_bytes, counted, peak, far)


def _step_bound(case: Case) -> Equation:
    """The roofline bound of the step, in seconds."""
    prediction, of = case.prediction, case.prediction.parallel
    sums = prediction.costs.totals if of is None else of.step.sums  # of one GPU and microbatch
    ceilings = prediction.ceilings
    peak = Peak(ceilings.peak_flops_per_s, ceilings.peak_name)
    words = label("flops.total")
    if ceilings.other_peaks:
        others = ", ".join(
            f"{dtype} at that of {at.name}" for dtype, at in ceilings.other_peaks.items()
        )
        words += f", those at another peak times this one over theirs: {others}"
    flops = Letter("FLOPs", ceilings.at_peak(prediction.costs.operators, sums.flops), words)
    bound = _bound(prediction, sums.compulsory_bytes, flops, peak, far_bytes(sums))
    return bound if of is None else or_exchanges(bound, of)


def _bound(
    prediction: Prediction, moved: Number, flops: Letter, peak: Peak, far: FarBytes
) -> Equation:
    """The roofline bound of so many bytes and FLOPs at one peak, and of bytes from outside HBM."""
    ceilings, gpu = prediction.ceilings, prediction.hardware.name
    letters = (
        Letter("bytes", moved, label("hbm_bytes.compulsory")),
        Letter("bandwidth", ceilings.hbm_bytes_per_s, f"datasheet bytes/s of {gpu}"),
        flops,
        Letter("peak", peak.flops_per_s, f"datasheet dense {peak.name} FLOP/s"),
        *_far_letters(prediction, far),
    )
    return Equation.of(label("time.floor_s"), _bound_formula(prediction, far), letters, "s")


def _bound_formula(prediction: Prediction, far: FarBytes) -> str:
    """The roofline bound in letters, with a term for the link and for a disk where rows take it."""
    formula = BOUND
    for term in _far_terms(prediction, far).values():
        formula = f"max({formula}, {term})"
    return formula


def _far_terms(prediction: Prediction, far: FarBytes) -> dict[Bound, str]:
    """The terms of link and disk, by the name of the bound."""
    if far is NEAR:
        return {}
    terms: dict[Bound, str] = {"link": "linked / link"}
    if prediction.ceilings.disk_bytes_per_s is not None and far.disk:
        terms["disk"] = "latency + stored / disk"
    return terms


def _far_letters(prediction: Prediction, far: FarBytes) -> tuple[Letter, ...]:
    ceilings, gpu = prediction.ceilings, prediction.hardware
    if far is NEAR:
        return ()
    assert ceilings.link_bytes_per_s is not None
    assert gpu.link is not None
    letters = [
        Letter("linked", far.link, "bytes of rows from outside HBM, over the link"),
        Letter("link", ceilings.link_bytes_per_s, f"datasheet bytes/s of {gpu.link.name}"),
    ]
    if ceilings.disk_bytes_per_s is not None:
        letters += [
            Letter("stored", far.disk, "bytes of rows from disk"),
            Letter("latency", ceilings.disk_latency_s, "seconds of one read from disk"),
            Letter("disk", ceilings.disk_bytes_per_s, "bytes/s of the disk"),
        ]
    return tuple(letters)


def _floor(case: Case) -> Derivation:
    return Derivation(equations=(_step_bound(case),))


def _bound_by(case: Case) -> Derivation:
    bound = _step_bound(case)
    values = {letter.name: letter.value for letter in bound.letters}
    far = _far_terms(case.prediction, far_bytes(case.prediction.costs.totals))
    if case.prediction.parallel is not None:
        far["exchange"] = "exchanges"
    words = "memory if bytes / bandwidth >= FLOPs / peak, else compute"
    for name, term in far.items():
        words += f"; {name} if {term} is longer than these"
    seconds = [
        number_text(worked(term, values).result)
        for term in ("bytes / bandwidth", "FLOPs / peak", *far.values())
    ]
    return Derivation(
        equations=(
            case.in_words(words, " against ".join(f"{each} s" for each in seconds)),
            bound,
        )
    )


def _fits_l2(case: Case) -> Derivation:
    moved, l2_bytes = (
        case.prediction.costs.totals.compulsory_bytes,
        case.prediction.hardware.l2_bytes,
    )
    return Derivation(
        equations=(
            case.in_words(
                "hbm_bytes.compulsory <= L2 cache of the GPU, in bytes",
                f"{number_text(moved)} <= {number_text(l2_bytes)}",
            ),
        )
    )


def _floor_tokens(case: Case) -> Derivation:
    bound = _step_bound(case)
    seconds = Letter("bound", case.prediction.floor_s, "time.floor_s")
    return Derivation(equations=(case.equation("B T / bound", seconds), bound))


def _times(prediction: Prediction) -> tuple[StepTime, Curves]:
    """Of a prediction that has them."""
    time, curves = prediction.time, prediction.calibration
    assert not isinstance(time, Unknown)
    assert not isinstance(curves, Unknown)
    return time, curves


def _kernels(prediction: Prediction) -> Terms:
    """The time of each region that the backend's kernels do together, over its layers."""
    time, curves = _times(prediction)
    kernels, operators = prediction.kernels, prediction.costs.operators
    if time.transfer is not None or kernels.backend.name in curves.leaves:
        rows = [
            (one.region.path, one.region.count, float(one.seconds))
            for one in leaf_regions(operators, time.operators, kernels)
        ]
        if time.outside_s:
            rows.append(("kernels of no operator", 1, float(time.outside_s)))
        if time.hidden_s:
            rows.append(("hidden by kernels beside", 1, -float(time.hidden_s)))
    else:
        rows = [
            (one.path, one.count, float(region_time(curves, one, kernels, prediction.ceilings)[0]))
            for one in kernels.regions(operators)
        ]
    total = sum(count * seconds for _, count, seconds in rows)
    return Terms(
        title="kernel times by operator, within a CUDA graph",
        columns=(
            Column(header="operator", unit="text"),
            Column(header="layers", unit="count"),
            Column(header="one layer", unit="s"),
            Column(header="all layers", unit="s", total=total),
        ),
        rows=tuple((path, count, seconds, count * seconds) for path, count, seconds in rows),
    )


def graph_equation(prediction: Prediction, terms: Terms) -> Equation:
    """The predicted time of the step as a CUDA graph."""
    total = terms.columns[-1].total
    assert total is not None
    time, _ = _times(prediction)
    waited = time.fetches.waited_s
    return Equation.of(
        label("time.predicted_graph_s"),
        "max(kernels + waited, bound)" if waited else "max(kernels, bound)",
        (
            Letter("kernels", total, "kernel times, summed over operators and layers"),
            Letter("waited", waited, "seconds that layers wait for rows fetched ahead"),
            Letter("bound", prediction.floor_s, "time.floor_s"),
        ),
        "s",
    )


def eager_equation(prediction: Prediction) -> Equation:
    """The predicted time of the step, its kernels launched one by one."""
    time, curves = _times(prediction)
    launches = prediction.kernels.step_launches(prediction.costs.operators)
    assert launches is not None
    return Equation.of(
        label("time.predicted_eager_s"),
        "max(graph, launches launch)",
        (
            Letter("graph", time.graph_s, "time.predicted_graph_s"),
            Letter("launches", launches, "kernels that the step launches"),
            Letter("launch", curves.eager_s, "seconds of an eager launch, by calibration"),
        ),
        "s",
    )


def _predicted(case: Case) -> Derivation:
    time, _ = _times(case.prediction)
    terms = _kernels(case.prediction)
    graph = graph_equation(case.prediction, terms)
    if case.prediction.workload.phase == "decode":
        letter = Letter("graph", time.graph_s, "a decode step runs as a CUDA graph")
        return Derivation(equations=(case.equation("graph", letter), graph), terms=terms)
    letter = Letter("eager", time.eager_s, "a prefill is launched eagerly")
    equations = (case.equation("eager", letter), eager_equation(case.prediction), graph)
    return Derivation(equations=equations, terms=terms)


def _graph(case: Case) -> Derivation:
    terms = _kernels(case.prediction)
    return Derivation(equations=(graph_equation(case.prediction, terms),), terms=terms)


def _eager(case: Case) -> Derivation:
    terms = _kernels(case.prediction)
    return Derivation(
        equations=(eager_equation(case.prediction), graph_equation(case.prediction, terms)),
        terms=terms,
    )


def _tokens_per_s(case: Case) -> Derivation:
    time, _ = _times(case.prediction)
    seconds = Letter("t", time.predicted_s, "time.predicted_s")
    return Derivation(equations=(case.equation("B T / t", seconds),))


def _energy(case: Case) -> Derivation:
    time, curves = _times(case.prediction)
    power, sums = curves.power, case.prediction.costs.totals
    if curves.energy is not None:
        return _fitted_energy(case, curves.energy, curves.power_limit_w)
    assert power is not None
    moved = [
        Letter("compulsory", sums.compulsory_bytes, label("hbm_bytes.compulsory")),
        Letter("activations", sums.activation_bytes, label("hbm_bytes.activations")),
    ]
    if not case.prediction.kernels.backend.saves_intermediates:
        between = Letter("inner", sums.intermediate_bytes, label("hbm_bytes.intermediates"))
        moved.append(between)
    repeated = repeated_row_bytes(case.operators)
    moved.append(Letter("again", repeated, "bytes of rows that layers of one table read again"))
    moved_sum = Equation.sum_of("bytes that the parts move", moved, "bytes")
    assert isinstance(moved_sum.result, int | float)
    letters = [
        Letter("idle", power.idle_w, "watts of the idle GPU"),
        Letter("t", time.predicted_s, "time.predicted_s"),
        Letter("bytes", moved_sum.result, "bytes that the parts move, through HBM or not"),
        Letter("copy", power.copy_w, "watts of a copy loop"),
        Letter("copied", power.copy_bytes_per_s, "bytes/s of that loop"),
        Letter("FLOPs", sums.flops, label("flops.total")),
        Letter("gemm", power.gemm_w, "watts of a loop of large matrix products"),
        Letter("rate", power.gemm_flops_per_s, "FLOP/s of that loop"),
    ]
    formula = "idle t + bytes (copy - idle) / copied + FLOPs (gemm - idle) / rate"
    if curves.power_limit_w is not None:
        letters.append(Letter("limit", curves.power_limit_w, "watts of the power limit"))
        formula = f"min({formula}, limit t)"
    return Derivation(equations=(case.equation(formula, *letters), moved_sum))


def _fitted_energy(
    case: Case, coefficients: EnergyCoefficients, power_limit_w: float | None
) -> Derivation:
    """From the steady loops of a calibration."""
    time, _ = _times(case.prediction)
    sums, kernels = case.prediction.costs.totals, case.prediction.kernels
    repeated = repeated_row_bytes(case.operators)
    on_chip = sums.activation_bytes
    if not kernels.backend.saves_intermediates:
        on_chip = on_chip + sums.intermediate_bytes
    flops = executed_flops(case.operators, kernels)
    letters = [
        Letter("awake", coefficients.awake_w, "watts while kernels that do nothing run"),
        Letter("t", time.predicted_s, "time.predicted_s"),
        Letter("read", sums.read_bytes, "compulsory bytes that are read"),
        Letter("again", repeated, "bytes of rows that layers of one table read again"),
        Letter("per_read", coefficients.read_j_per_byte, "joules a byte read"),
        Letter("written", sums.written_bytes, "compulsory bytes that are written"),
        Letter("per_written", coefficients.written_j_per_byte, "joules a byte written"),
        Letter("chip", on_chip, "bytes of activations that parts read and write"),
        Letter("per_chip", coefficients.on_chip_j_per_byte, "joules a byte within L2"),
        Letter("executed", flops, "FLOPs that tensor cores do, padding among them"),
        Letter("per_FLOP", coefficients.j_per_flop, "joules a FLOP"),
    ]
    formula = (
        "awake t + (read + again) per_read + written per_written + chip per_chip"
        " + executed per_FLOP"
    )
    if power_limit_w is not None:
        letters.append(Letter("limit", power_limit_w, "watts of the power limit"))
        formula = f"min({formula}, limit t)"
    return Derivation(equations=(case.equation(formula, *letters),))


def _energy_per_token(case: Case) -> Derivation:
    time, _ = _times(case.prediction)
    assert not isinstance(time.energy_j, Unknown)
    energy = Letter("energy", time.energy_j, "energy.predicted_j")
    return Derivation(equations=(case.equation("energy / (B T)", energy),))


def _routing_time(case: Case) -> Derivation:
    time, _ = _times(case.prediction)
    parts_s = {
        operator.path: operator_time.parts_s
        for operator, operator_time in zip(case.operators, time.operators, strict=True)
    }
    return over_parts(
        lambda operator, place: float(parts_s[operator.path][place]),
        lambda part: part.routing,
        of_all_gpus=False,
    )(case)


def _routing_share(case: Case) -> Derivation:
    time, _ = _times(case.prediction)
    return Derivation(
        equations=(
            case.equation(
                "routing / graph",
                Letter("routing", time.routing_s, "routing.time_s"),
                Letter("graph", time.graph_s, "time.predicted_graph_s"),
            ),
        )
    )


TIMES: dict[str, Builder] = {
    "time.floor_s": _floor,
    "time.bound_by": _bound_by,
    "time.fits_l2": _fits_l2,
    "time.floor_tokens_per_s": _floor_tokens,
    "time.predicted_s": _predicted,
    "time.predicted_graph_s": _graph,
    "time.predicted_eager_s": _eager,
    "time.tokens_per_s": _tokens_per_s,
    "energy.predicted_j": _energy,
    "energy.j_per_token": _energy_per_token,
    "routing.time_s": _routing_time,
    "routing.share_of_time": _routing_share,
}
"""By JSON name."""
