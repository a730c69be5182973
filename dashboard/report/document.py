"""A cost report as one frozen value: the inputs, and every number and word that follows from them.

Each format is a view of this value, and its JSON rebuilds it: nothing is predicted anew, so that a
kept report says later what it said when it was made. Nothing of a file is trusted: its types,
the names and sizes of its fields, and the length of its texts are checked before anything is drawn.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from costmodel.errors import InputError, shown
from costmodel.inputs.files import MAX_FILE_BYTES, read_json_object
from costmodel.layers.mesh import ONE_GPU
from costmodel.recordings.machine import Label, Moment
from costmodel.recordings.quantities import RunName, Unit
from costmodel.strict import STRICT, validated
from dashboard.report.inputs import Amount, Inputs, Line, Name, Real, Size, Whole
from dashboard.report.quantities import NEEDED, REPORTED, is_of

DOCUMENT: Literal["sparsecost report"] = "sparsecost report"  # tells its JSON from any other
SCHEMA_VERSION = 1
MAX_STEPS = 32  # models times batches times contexts
MAX_ROWS = 65_536  # of one list

Content: TypeAlias = Literal["summary", "operators", "comparison", "measured", "method"]
Seconds: TypeAlias = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
"""A difference of times, of either sign."""
CONTENTS: tuple[Content, ...] = get_args(Content)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class OperatorLine:
    """One operator of a step; its numbers are those of one of its `count` layers."""

    path: Name
    kind: Label
    count: Size
    flops: Amount
    compares: Amount
    compulsory_bytes: Amount
    activation_bytes: Amount
    intermediate_bytes: Amount
    row_reads: Amount | None = None  # None: of a file of an earlier version
    host_read_bytes: Amount | None = None
    disk_read_bytes: Amount | None = None
    launches: Amount | None  # None: the backend has no kernels for the step
    floor_s: Real
    predicted_s: Real | None
    bound_by: Label
    formula: Line
    source: Line


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ExchangeLine:
    """What the GPUs of a mesh exchange in one of `count` layers, for one microbatch."""

    path: Name
    count: Size
    payload_bytes: Amount
    sent_bytes: Amount
    floor_s: Real
    low_s: Real
    time_s: Real
    high_s: Real


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class StepCosts:
    """One model under one workload: its quantities by name (`quantities.REPORTED`), its operators.

    `reasons` says, by name, why a quantity is None. A file of an earlier version may lack
    quantities that later ones have.
    """

    model: Name
    batch: Size
    context: Size
    values: dict[Label, Amount | bool | Label | None]
    reasons: dict[Label, Line]
    operators: Annotated[tuple[OperatorLine, ...], Field(min_length=1, max_length=MAX_ROWS)]
    mesh: Label = ONE_GPU.label
    exchanges: Annotated[tuple[ExchangeLine, ...], Field(max_length=MAX_ROWS)] = ()
    transferred: Line | None = None  # interval and label of a time that was not measured
    interval_s: tuple[Real, Real] | None = None  # of 90 %, about the predicted time

    def __post_init__(self) -> None:
        """Every quantity is a known one and of its own type; what is drawn is there."""
        for name in NEEDED:
            if name not in self.values:
                raise InputError(f"values: {shown(name)} is missing")
        for name, value in self.values.items():
            if name not in REPORTED:
                raise InputError(f"values: {shown(name)} is no quantity of a report")
            if not is_of(REPORTED[name], value):
                raise InputError(f"values.{name}={shown(value)}: is no {REPORTED[name].unit}")


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ComparedLine:
    """One model at one batch of the comparison."""

    context: Size
    batch: Size
    model: Name
    weights_bytes: Amount
    table_rows_bytes: Amount
    kv_read_bytes: Amount
    flops: Amount
    routing_flops: Amount
    routing_compares: Amount
    routing_bytes: Amount
    compulsory_bytes: Amount
    bytes_of_first_over_this: Real
    floor_s: Real
    predicted_s: Real | None
    bound_by: Label
    memory_bytes: Amount
    fits: bool
    max_batch: Whole
    gpus: Size = 1
    mesh: Label = ONE_GPU.label
    exchanges_s: Real = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Finding:
    """One finding of the comparison in words."""

    context: Size
    text: Line


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Compared:
    """All models over the compared batches, for each context; ratios are to the first model."""

    lines: Annotated[tuple[ComparedLine, ...], Field(max_length=MAX_ROWS)]
    findings: Annotated[tuple[Finding, ...], Field(max_length=MAX_ROWS)]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class MeasuredLine:
    """One quantity of a step, or of one leaf (`path`): measured, and its predicted counterpart.

    `measured` is a median, `q1` and `q3` its quartiles (None of an exact count). `chooses`: the
    leaf does nothing but choose experts or rows.
    """

    model: Name
    recording: Name
    batch: Size
    context: Size
    run: RunName
    quantity: Label
    unit: Unit
    path: Name
    chooses: bool
    kind: Label | None
    basis: Line
    predicted: Amount | None
    measured: Amount | None
    q1: Amount | None
    q3: Amount | None
    repeats: Size | None
    ratio: Amount | None
    source: Label | None
    reason: Line | None
    backend: Label = "torch"  # whose kernels were measured; files of earlier versions lack it


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class AttributionLine:
    """Where the measured time of a step (`of` is empty) or of a kind of its kernels goes, seconds.

    The parts sum to the time; a negative one took time away. None: not known; `notes` say why.
    """

    model: Name
    recording: Name
    batch: Size
    context: Size
    backend: Label
    of: Line
    measured_s: Seconds
    bound_s: Seconds
    over_read_s: Seconds | None
    launch_s: Seconds | None
    inefficiency_s: Seconds | None
    residual_s: Seconds
    notes: Annotated[tuple[Line, ...], Field(max_length=64)]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class MethodNote:
    """How something is counted, what is left out, or where a number comes from."""

    topic: Label
    what: Line
    text: Line
    source: Line


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Report:
    """The whole report. Sections that were not asked for (`contents`) hold nothing."""

    document: Literal["sparsecost report"]
    schema_version: Literal[1]
    sparsecost_version: Label
    made: Moment
    contents: Annotated[tuple[Content, ...], Field(min_length=1, max_length=len(CONTENTS))]
    inputs: Inputs
    steps: Annotated[tuple[StepCosts, ...], Field(min_length=1, max_length=MAX_STEPS)]
    comparison: Compared | None
    measured: Annotated[tuple[MeasuredLine, ...], Field(max_length=MAX_ROWS)]
    method: Annotated[tuple[MethodNote, ...], Field(max_length=MAX_ROWS)]
    # files of earlier versions lack it
    attributions: Annotated[tuple[AttributionLine, ...], Field(max_length=MAX_ROWS)] = ()

    def __post_init__(self) -> None:
        """A section is asked for once; a step stands once, and is of a model that is given."""
        if len(set(self.contents)) != len(self.contents):
            raise InputError("contents: hold a section twice")
        if ("comparison" in self.contents) != (self.comparison is not None):
            raise InputError("comparison: stands exactly where contents name it")
        names = [model.name for model in self.inputs.models]
        steps = [(step.model, step.batch, step.context) for step in self.steps]
        if len(set(names)) != len(names):
            raise InputError("inputs.models: hold a name twice")
        if len(set(steps)) != len(steps):
            raise InputError("steps: hold a step twice")
        of_lines = [line.model for line in self.comparison.lines] if self.comparison else []
        of_lines += [line.model for line in self.measured]
        of_lines += [line.model for line in self.attributions]
        for name in (*(name for name, _, _ in steps), *of_lines):
            if name not in names:
                raise InputError(f"model={shown(name)}: is not one of inputs.models")


def report_of(data: Mapping[str, Any], *, where: str) -> Report:
    """The report that plain JSON values hold.

    Raises:
        InputError: A field breaks a rule; all broken rules stand in the message.
    """
    return validated(Report, dict(data), where=where)


def load_report(path: Path) -> Report | None:
    """The report in a JSON file; None where the file is some other JSON object.

    Raises:
        InputError: The file cannot be read, is no JSON object, or is no valid report.
    """
    data = read_json_object(path)
    if data.get("document") != DOCUMENT:
        return None
    return report_of(data, where=f"report {shown(path.name)}")


def report_text(report: Report) -> str:
    """The report as JSON that `load_report` reads.

    Raises:
        InputError: It would be longer than what is read.
    """
    text = json.dumps(report_json(report), allow_nan=False, separators=(",", ":")) + "\n"
    if len(text) > MAX_FILE_BYTES:
        raise InputError(
            f"report: would hold {len(text):,} bytes of JSON, of which at most {MAX_FILE_BYTES:,}"
            " are read again; choose fewer steps or recordings"
        )
    return text


def report_json(report: Report) -> dict[str, Any]:
    """The report as plain values of JSON."""
    values: dict[str, Any] = _writer().dump_python(report, mode="json")
    return values


@cache
def _writer() -> TypeAdapter[Report]:
    return TypeAdapter(Report)
