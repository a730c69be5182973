"""The bound that no measurement may beat, with the touched experts and rows from the recording.

Reads: the compulsory bytes that a step or leaf reads, less what L2 can hold. Times: the floor of
its compulsory bytes, less what L2 can hold, and of its useful FLOPs, at datasheet peaks. What
undercuts them was measured wrongly, or the cost model demands too much.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from costmodel.beside import Gpus, read_bytes, workload_of
from costmodel.build import build_operators
from costmodel.costs.time import floor_s
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.measured import Exact, ExactColumn, Spread, SpreadColumn
from costmodel.inputs.recording import Case, Recording, Run
from costmodel.join import case_label, device_of
from costmodel.layers.operator import Operator, expanded_paths
from costmodel.observed import Observed, chosen_by, recorded_distinct

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


def violations(recording: Recording, gpus: Gpus) -> list[Violation]:
    """Every measured read and time below its bound; none on machines without a datasheet."""
    return [
        found
        for case in recording.cases
        for name, run in case.runs.items()
        if (gpu := gpus.of(device_of(recording, case, name))) is not None
        for found in _of_run(recording, case, run, gpu.hardware)
    ]


def required(
    recording: Recording, case: Case, distinct: Mapping[str, float]
) -> dict[str, Required]:
    """What each leaf requires, by path; `distinct` experts or rows by the leaf that chose them.

    Bytes are linear in the distinct items, so costing the step with 0 and with 1 of them everywhere
    gives what any step moves and what each item adds. A leaf whose choices were not recorded counts
    one token's choice, the least there is.
    """
    none, one, least = (
        build_operators(recording.model, workload_of(case.workload, routing).step())
        for routing in (
            Observed(experts=0.0, rows=0.0),
            Observed(experts=1.0, rows=1.0),
            Observed(experts=None, rows=None),
        )
    )
    choosers = {module: path for module, (path, _) in chosen_by(none).items()}
    result: dict[str, Required] = {}
    for without, with_one, at_least in zip(none, one, least, strict=True):
        base, more, few = _bytes(without), _bytes(with_one), _bytes(at_least)
        flops = float(without.total("flops"))
        for path in expanded_paths(without.path):
            items = distinct.get(choosers.get(path.rpartition(".")[0], ""))
            read, compulsory = (
                few
                if items is None
                else (base[0] + (more[0] - base[0]) * items, base[1] + (more[1] - base[1]) * items)
            )
            result[path] = Required(read_bytes=read, compulsory_bytes=compulsory, flops=flops)
    return result


def _bytes(operator: Operator) -> tuple[float, float]:
    """Compulsory bytes that one layer reads, and all its compulsory bytes."""
    return float(read_bytes(operator)), float(operator.compulsory_bytes)


def whole(by_path: Mapping[str, Required]) -> Required:
    """The step: the sum over its leaves."""
    return Required(
        read_bytes=sum(each.read_bytes for each in by_path.values()),
        compulsory_bytes=sum(each.compulsory_bytes for each in by_path.values()),
        flops=sum(each.flops for each in by_path.values()),
    )


def _of_run(recording: Recording, case: Case, run: Run, hardware: Hardware) -> Iterator[Violation]:
    measured = [*_step_values(run), *_leaf_values(recording, run)]
    if not measured:
        return
    l2_bytes = recording.sessions[run.session].machine.l2_bytes or hardware.l2_bytes
    peak, _ = hardware.peak_flops_per_s(case.workload.dtype)
    by_path = required(recording, case, recorded_distinct(recording, run))
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
