"""What a report's sections are made of, and how they name a workload and a step."""

from dataclasses import dataclass

from costmodel import units
from costmodel.inputs.workload import CHECKPOINT
from costmodel.layers.mesh import ONE_GPU
from costmodel.layers.placement import IN_HBM
from costmodel.recordings.quantities import QUANTITIES
from costmodel.show.text import Table
from costmodel.show.told_times import DIGITS, digits_within
from dashboard.report.document import Content, Report, StepCosts


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One part of a report: its title, its findings in words (`lead`), and its tables.

    `name` is the content that it belongs to, or `inputs`, which every report has.
    """

    name: Content | str
    title: str
    lead: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: tuple[Table, ...] = ()


def title(report: Report) -> str:
    """What the report is of, in one line."""
    names = " against ".join(model.name for model in report.inputs.models)
    mesh = mesh_words(report.inputs.workload.mesh)
    return f"What a step of {names} costs on {report.inputs.hardware.name}{mesh}"


def mesh_words(mesh: str) -> str:
    """`: 8 GPUs (tp 8)`, of the label of a mesh; empty on one GPU."""
    return "" if mesh == ONE_GPU.label else f": {mesh}"


def step_digits(step: StepCosts) -> int:
    """The significant digits of what is predicted of a step, as the interval of its time allows."""
    if step.transferred is not None:
        return DIGITS
    seconds = step.values.get("time.predicted_s")
    return digits_within(None if seconds is None else float(seconds), step.interval_s)


def workload_words(report: Report) -> str:
    """The workload in one line, without batch and context."""
    work = report.inputs.workload
    caches = ", MLA expanded" * (work.mla_cache == "expanded")
    caches += ", windows whole" * (work.window_cache == "whole")
    placed = "" if work.placement == IN_HBM.label else f", {work.placement}"
    if work.hot_rows_bytes:
        placed += f" with {units.formatted(work.hot_rows_bytes, 'bytes')} of hot rows in HBM"
    new = f", {work.new_tokens:,} new tokens a sequence" if work.phase == "prefill" else ""
    stored = f" ({work.dtype_stored_as})" if CHECKPOINT in work.dtype else ""
    return (
        f"{work.phase}{new}, weights {work.dtype}{stored}, KV cache {work.kv_dtype}{caches},"
        f" {work.routing} routing{placed}, {work.attention_flops} attention FLOPs, logits of"
        f" {work.logits} tokens, kernels of {work.backend}{mesh_words(work.mesh)}"
    )


def quantity_words(name: str) -> str:
    """What a reader calls a measured quantity."""
    return QUANTITIES[name].title if name in QUANTITIES else name


def step_words(batch: int, context: int) -> str:
    """`batch 64, context 2,048`."""
    return f"batch {batch:,}, context {context:,}"


def points(report: Report) -> tuple[tuple[int, int], ...]:
    """The batches and contexts of the steps, in their order."""
    return tuple(dict.fromkeys((step.batch, step.context) for step in report.steps))


def steps_at(report: Report, point: tuple[int, int]) -> list[StepCosts]:
    """The models at one batch and context."""
    return [step for step in report.steps if (step.batch, step.context) == point]
