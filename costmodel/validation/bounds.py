"""Lower bounds of measured reads and times, by the experts and rows that the run touched.

A step or leaf cannot read less than its compulsory bytes, less what L2 may hold from before. It
cannot take less time than the roofline bound of its compulsory bytes (less the same) and its model
FLOPs, at the datasheet's peaks. A number below its bound was measured wrongly, or the cost model
demands too much.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from costmodel.costs.roofline import floor_s
from costmodel.layers.site import region_leaves
from costmodel.recordings.measured import Exact, ExactColumn, Spread, SpreadColumn
from costmodel.recordings.recording import Case, Recording, Run
from costmodel.validation.machines import Gpus, device_of
from costmodel.validation.recorded_routing import recorded_distinct
from costmodel.validation.required_work import (
    OperatorWork,
    RequiredWork,
    StepWork,
    operator_work,
    required_work,
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
    found: list[Violation] = []
    least_by_choices: dict[tuple[tuple[str, float], ...], StepWork] = {}  # most runs choose alike
    for name, run in case.runs.items():
        gpu = gpus.of(device_of(recording, case, name))
        measured = [*_step_values(run), *_leaf_values(recording, run)]
        if gpu is None or not measured:
            continue
        distinct = recorded_distinct(recording, run)
        choices = tuple(distinct.items())
        if choices not in least_by_choices:
            least_by_choices[choices] = required_work(work, distinct)
        l2_bytes = recording.sessions[run.session].machine.l2_bytes or gpu.hardware.l2_bytes
        limits = _Limits(
            least=least_by_choices[choices],
            l2_bytes=l2_bytes,
            hbm_bytes_per_s=gpu.hardware.hbm_bytes_per_s,
            peak_flops_per_s=gpu.hardware.peak_flops_per_s(case.workload.dtype)[0],
        )
        found += limits.violations(case.workload.label, measured)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limits:
    """The bounds of one run: of the work that it cannot do without, on its GPU."""

    least: StepWork
    l2_bytes: float  # that may hold something from before
    hbm_bytes_per_s: float
    peak_flops_per_s: float

    def violations(
        self, case: str, measured: Iterable[tuple[str, str | None, float]]
    ) -> Iterator[Violation]:
        """Of numbers (quantity, path, value) those below their bounds."""
        # Most layers share one work; it stands beside its bound so that its id stays its own
        known: dict[tuple[int, bool], tuple[RequiredWork, float]] = {}
        for quantity, path, value in measured:
            required = (
                self.least.step if path is None else self.least.of_region(region_leaves(path))
            )
            if required is None:  # no operator of the model has this path
                continue
            reads = quantity == READ
            key = id(required), reads
            if key not in known:
                known[key] = required, self._bound(required, reads=reads)
            bound = known[key][1]
            if value < bound:
                yield Violation(
                    case=case, quantity=quantity, path=path, measured=value, bound=bound
                )

    def _bound(self, required: RequiredWork, *, reads: bool) -> float:
        """Bytes to be read, or seconds, beyond what L2 may hold."""
        if reads:
            return max(required.read_bytes - self.l2_bytes, 0.0)
        from_hbm = max(required.compulsory_bytes - self.l2_bytes, 0.0)
        return float(floor_s(from_hbm, required.flops, self.hbm_bytes_per_s, self.peak_flops_per_s))


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
