"""Lower bounds of measured reads and times, by the experts and rows that the run touched.

A step or leaf cannot read less than its compulsory bytes, less what L2 may hold from before. It
cannot take less time than the roofline bound of its compulsory bytes (less the same) and its model
FLOPs, at the datasheet's peaks. A number below its bound was measured wrongly, or the cost model
demands too much.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from costmodel.costs.operators import build_operators
from costmodel.costs.roofline import floor_s
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import ModelConfig
from costmodel.layers.operator import Operator
from costmodel.layers.site import expanded_paths, region_leaves
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.recordings.measured import Exact, ExactColumn, Spread, SpreadColumn
from costmodel.recordings.recording import Case, Recording, Run
from costmodel.validation.machines import Gpus, device_of
from costmodel.validation.recorded_routing import (
    RecordedRouting,
    recorded_distinct,
    selectors_by_module,
)

READ = "hbm_read_bytes"
BOUNDED = (READ, "graph_s", "eager_s", "kernel_s")  # the quantities that have a bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A measured number below its bound, of a leaf or of the whole step (`path` is None)."""

    case: str
    quantity: str
    path: str | None
    measured: float
    bound: float  # what L2 may hold is taken off already

    @property
    def share(self) -> float:
        """Measured number over bound, from 0 up to 1."""
        return self.measured / self.bound

    def __str__(self) -> str:
        """One line: `decode, ...: hbm_read_bytes of the step = 1e9: below the bound, 2e9`."""
        where = self.path or "the step"
        return (
            f"{self.case}: {self.quantity} of {where} = {self.measured:.6g}:"
            f" below the bound, {self.bound:.6g}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RequiredWork:
    """The least work of a leaf or a step, whatever kernels do it."""

    read_bytes: float  # compulsory bytes that are read
    compulsory_bytes: float  # read and written
    flops: float  # model FLOPs


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorWork:
    """The required work of an operator's leaves, as a function of the items that they touch.

    Attributes:
        operator: with work of the case's step; which experts or rows are touched is left open.
        paths: of its leaves, one for each layer.
        selectors: for each path the router or selector whose choice the leaf follows, if any.
        untouched: the work of one leaf that touches no experts or rows.
        one_item: the work of one leaf that touches a single expert or row.
        one_token: the work of one leaf that touches what a single token chooses.
    """

    operator: Operator
    paths: tuple[str, ...]
    selectors: tuple[str | None, ...]
    untouched: RequiredWork
    one_item: RequiredWork
    one_token: RequiredWork

    @property
    def follows_choices(self) -> bool:
        """Whether the work depends on how many distinct items are touched."""
        return self.untouched != self.one_item

    def of_leaf(self, distinct: float | None) -> RequiredWork:
        """The work of one leaf that touches so many distinct items; None if nobody counted them.

        Bytes are linear in the distinct items. Without a count the choice of one token is assumed,
        the least that any step touches.
        """
        if distinct is None:
            return self.one_token
        none, one = self.untouched, self.one_item
        read_per_item = one.read_bytes - none.read_bytes
        compulsory_per_item = one.compulsory_bytes - none.compulsory_bytes
        return RequiredWork(
            read_bytes=none.read_bytes + read_per_item * distinct,
            compulsory_bytes=none.compulsory_bytes + compulsory_per_item * distinct,
            flops=none.flops,
        )


def violations(recording: Recording, gpus: Gpus) -> list[Violation]:
    """All measured reads and times of a recording that lie below their bounds.

    Runs of machines without a datasheet have no bounds.
    """
    return [
        violation
        for case in recording.cases
        for violation in case_violations(
            recording, case, gpus, operator_work(recording.model, case.workload)
        )
    ]


def case_violations(
    recording: Recording, case: Case, gpus: Gpus, work: Sequence[OperatorWork]
) -> list[Violation]:
    """The violations of one case; `work` is that of its operators (`operator_work`)."""
    return [
        violation
        for name, run in case.runs.items()
        if (gpu := gpus.of(device_of(recording, case, name))) is not None
        for violation in _run_violations(recording, case, run, gpu.hardware, work)
    ]


def operator_work(model: ModelConfig, workload: CaseWorkload) -> tuple[OperatorWork, ...]:
    """The required work of every operator of a case's step, whichever items are touched.

    The operators are built three times: without touched items, with one in every layer, and with
    the choice of one token.
    """
    untouched, one_item, one_token = (
        build_operators(model, workload.to_workload(routing=routing).step())
        for routing in (
            RecordedRouting(experts=0.0, rows=0.0),
            RecordedRouting(experts=1.0, rows=1.0),
            RecordedRouting(experts=None, rows=None),
        )
    )
    selectors = {module: path for module, (path, _) in selectors_by_module(untouched).items()}
    work = []
    for operator, with_one, with_token in zip(untouched, one_item, one_token, strict=True):
        paths = expanded_paths(operator.path)
        work.append(
            OperatorWork(
                operator=operator,
                paths=paths,
                selectors=tuple(selectors.get(path.rpartition(".")[0]) for path in paths),
                untouched=_leaf_work(operator),
                one_item=_leaf_work(with_one),
                one_token=_leaf_work(with_token),
            )
        )
    return tuple(work)


def work_by_leaf(
    work: Iterable[OperatorWork], distinct: Mapping[str, float]
) -> dict[str, RequiredWork]:
    """The required work of each leaf of a step, by its path.

    `distinct` is the number of touched experts or rows by the path of the router or selector.
    """
    by_leaf: dict[str, RequiredWork] = {}
    for operator in work:
        if not operator.follows_choices:
            by_leaf |= dict.fromkeys(operator.paths, operator.untouched)
            continue
        for path, selector in zip(operator.paths, operator.selectors, strict=True):
            by_leaf[path] = operator.of_leaf(distinct.get(selector) if selector else None)
    return by_leaf


def step_work(by_leaf: Mapping[str, RequiredWork]) -> RequiredWork:
    """The required work of a step or a region: the sum over its leaves."""
    leaves = by_leaf.values()
    return RequiredWork(
        read_bytes=sum(leaf.read_bytes for leaf in leaves),
        compulsory_bytes=sum(leaf.compulsory_bytes for leaf in leaves),
        flops=sum(leaf.flops for leaf in leaves),
    )


def _leaf_work(operator: Operator) -> RequiredWork:
    """The work of one layer of the operator."""
    return RequiredWork(
        read_bytes=float(operator.total("read_bytes")),
        compulsory_bytes=float(operator.compulsory_bytes),
        flops=float(operator.total("flops")),
    )


def _run_violations(
    recording: Recording, case: Case, run: Run, hardware: Hardware, work: Sequence[OperatorWork]
) -> Iterator[Violation]:
    measured = [*_step_values(run), *_leaf_values(recording, run)]
    if not measured:
        return
    l2_bytes = recording.sessions[run.session].machine.l2_bytes or hardware.l2_bytes
    peak, _ = hardware.peak_flops_per_s(case.workload.dtype)
    by_leaf = work_by_leaf(work, recorded_distinct(recording, run))
    step = step_work(by_leaf)
    for quantity, path, value in measured:
        leaves = () if path is None else region_leaves(path)
        if not by_leaf.keys() >= set(leaves):  # no operator of the model has this path
            continue
        required = step_work({leaf: by_leaf[leaf] for leaf in leaves}) if leaves else step
        if quantity == READ:
            bound = max(required.read_bytes - l2_bytes, 0.0)
        else:
            from_hbm = max(required.compulsory_bytes - l2_bytes, 0.0)
            bound = float(floor_s(from_hbm, required.flops, hardware.hbm_bytes_per_s, peak))
        if value < bound:
            label = case.workload.label
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
