"""The bound that no measurement may beat, with the touched experts and rows from the recording.

Reads: the compulsory bytes that a step or leaf reads, less what L2 can hold. Times: the floor of
its compulsory bytes, less what L2 can hold, and of its useful FLOPs, at datasheet peaks. What
undercuts them was measured wrongly, or the cost model demands too much.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from costmodel.costs.operators import build_operators
from costmodel.costs.roofline import floor_s
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import ModelConfig
from costmodel.layers.operator import Operator
from costmodel.layers.site import expanded_paths
from costmodel.recordings.measured import Exact, ExactColumn, Spread, SpreadColumn
from costmodel.recordings.recording import Case, CaseWorkload, Recording, Run
from costmodel.validation.counterparts import Gpus, read_bytes, workload_of
from costmodel.validation.join import case_label, device_of
from costmodel.validation.recorded_routing import Observed, chosen_by, recorded_distinct

READ = "hbm_read_bytes"
BOUNDED = (READ, "graph_s", "eager_s", "kernel_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One measured number below its bound. `path` is None for the step."""

    case: str
    quantity: str
    path: str | None
    measured: float
    bound: float  # what L2 can hold is taken off already

    @property
    def share(self) -> float:
        """How much of the bound was measured, from 0 up to 1."""
        return self.measured / self.bound

    def __str__(self) -> str:
        """One line: `decode, ...: hbm_read_bytes of the step = 1e9: below the bound, 2e9`."""
        where = self.path or "the step"
        return (
            f"{self.case}: {self.quantity} of {where} = {self.measured:.6g}:"
            f" below the bound, {self.bound:.6g}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Required:
    """What a leaf cannot do without, by the choices that its run recorded."""

    read_bytes: float
    compulsory_bytes: float
    flops: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What the leaves of one operator require: without items, with one each, and at the least."""

    operator: Operator
    paths: tuple[str, ...]
    choosers: tuple[str | None, ...]  # by path: the leaf whose choice it follows
    none: Required
    one: Required
    least: Required

    def of(self, items: float | None) -> Required:
        """Of a leaf that touches so many distinct items; None: nobody counted them."""
        if items is None:
            return self.least
        none, one = self.none, self.one
        read = one.read_bytes - none.read_bytes
        compulsory = one.compulsory_bytes - none.compulsory_bytes
        return Required(
            read_bytes=none.read_bytes + read * items,
            compulsory_bytes=none.compulsory_bytes + compulsory * items,
            flops=none.flops,
        )


def violations(recording: Recording, gpus: Gpus) -> list[Violation]:
    """Every measured read and time below its bound; none on machines without a datasheet."""
    return [
        found
        for case in recording.cases
        for found in violations_of(recording, case, gpus, demands(recording.model, case.workload))
    ]


def violations_of(
    recording: Recording, case: Case, gpus: Gpus, demanded: Sequence[Demand]
) -> list[Violation]:
    """Those of one case, whose operators demand so much."""
    return [
        found
        for name, run in case.runs.items()
        if (gpu := gpus.of(device_of(recording, case, name))) is not None
        for found in _of_run(recording, case, run, gpu.hardware, demanded)
    ]


def required(
    recording: Recording, case: Case, distinct: Mapping[str, float]
) -> dict[str, Required]:
    """What each leaf requires, by path; `distinct` experts or rows by the leaf that chose them."""
    return required_of(demands(recording.model, case.workload), distinct)


def required_of(demanded: Iterable[Demand], distinct: Mapping[str, float]) -> dict[str, Required]:
    """The same, of a step whose operators demand so much."""
    result: dict[str, Required] = {}
    for demand in demanded:
        if demand.none == demand.one:  # it follows no choice
            result |= dict.fromkeys(demand.paths, demand.none)
            continue
        for path, chooser in zip(demand.paths, demand.choosers, strict=True):
            result[path] = demand.of(distinct.get(chooser) if chooser else None)
    return result


def demands(model: ModelConfig, work: CaseWorkload) -> tuple[Demand, ...]:
    """What each operator demands of a step, whatever is chosen.

    Bytes are linear in the distinct items, so costing the step with 0 and with 1 of them everywhere
    gives what any step moves and what each item adds. A leaf whose choices were not recorded counts
    one token's choice, the least there is.
    """
    none, one, least = (
        build_operators(model, workload_of(work, routing).step())
        for routing in (
            Observed(experts=0.0, rows=0.0),
            Observed(experts=1.0, rows=1.0),
            Observed(experts=None, rows=None),
        )
    )
    choosers = {module: path for module, (path, _) in chosen_by(none).items()}
    found = []
    for without, with_one, at_least in zip(none, one, least, strict=True):
        paths = expanded_paths(without.path)
        found.append(
            Demand(
                operator=without,
                paths=paths,
                choosers=tuple(choosers.get(path.rpartition(".")[0]) for path in paths),
                none=_required(without),
                one=_required(with_one),
                least=_required(at_least),
            )
        )
    return tuple(found)


def _required(operator: Operator) -> Required:
    """Of one layer of the operator."""
    return Required(
        read_bytes=float(read_bytes(operator)),
        compulsory_bytes=float(operator.compulsory_bytes),
        flops=float(operator.total("flops")),
    )


def whole(by_path: Mapping[str, Required]) -> Required:
    """The step: the sum over its leaves."""
    return Required(
        read_bytes=sum(each.read_bytes for each in by_path.values()),
        compulsory_bytes=sum(each.compulsory_bytes for each in by_path.values()),
        flops=sum(each.flops for each in by_path.values()),
    )


def _of_run(
    recording: Recording, case: Case, run: Run, hardware: Hardware, demanded: Sequence[Demand]
) -> Iterator[Violation]:
    measured = [*_step_values(run), *_leaf_values(recording, run)]
    if not measured:
        return
    l2_bytes = recording.sessions[run.session].machine.l2_bytes or hardware.l2_bytes
    peak, _ = hardware.peak_flops_per_s(case.workload.dtype)
    by_path = required_of(demanded, recorded_distinct(recording, run))
    step = whole(by_path)
    for quantity, path, value in measured:
        needed = step if path is None else by_path.get(path)
        if needed is None:  # a leaf that the model does not have: nothing is known of it
            continue
        if quantity == READ:
            bound = max(needed.read_bytes - l2_bytes, 0.0)
        else:
            beyond = max(needed.compulsory_bytes - l2_bytes, 0.0)
            bound = float(floor_s(beyond, needed.flops, hardware.hbm_bytes_per_s, peak))
        if value < bound:
            label = case_label(case)
            yield Violation(case=label, quantity=quantity, path=path, measured=value, bound=bound)


def _step_values(run: Run) -> Iterator[tuple[str, None, float]]:
    for quantity in BOUNDED:
        match run.step.get(quantity):
            case Exact(value=value) | Spread(median=value):
                yield quantity, None, float(value)


def _leaf_values(recording: Recording, run: Run) -> Iterator[tuple[str, str, float]]:
    for quantity in BOUNDED:
        match run.operators.get(quantity):
            case ExactColumn(values=values) | SpreadColumn(median=values):
                for path, value in zip(recording.paths, values, strict=True):
                    if value is not None:
                        yield quantity, path, float(value)
