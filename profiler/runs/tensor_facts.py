"""Facts that a case's tensors give without a clock: parameters, bytes, FLOPs, and choices made."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from costmodel.recordings.case_workload import CaseWorkload
from costmodel.recordings.measured import Accesses, Exact, ExactColumn, Measured
from profiler.instruments.spread import exact_column
from profiler.runs.case import PreparedCase
from reference_model.flop_formulas import count_flops
from reference_model.model import ReferenceModel, build_model
from reference_model.routing import histograms, selectors


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorFacts:
    """Exact quantities of a case, of the step and by operator, under their names in a recording."""

    step: dict[str, Measured]
    operators: dict[str, ExactColumn]


def tensor_facts(case: PreparedCase, flops: Mapping[str, int]) -> TensorFacts:
    """Parameters, buffers, cache and state of the case, and its `flops` by leaf path."""
    model, work = case.model, case.workload
    held = work.context + work.new_tokens
    tensors: dict[str, int] = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "buffer_bytes": sum(buffer.nbytes for buffer in model.buffers()),
        "kv_held_bytes": case.cache.held_bytes(held),
        "kv_allocated_bytes": case.cache.allocated_bytes(),
    }
    if state := case.cache.state_bytes():
        tensors["state_held_bytes"] = state
    step: dict[str, Measured] = {
        name: Exact(value=value, source="tensors") for name, value in tensors.items()
    }
    step["flops_counted"] = Exact(value=sum(flops.values()), source="flop_counter")
    column = exact_column(case.paths, flops, "flop_counter")
    return TensorFacts(step=step, operators={"flops_counted": column})


class FlopCount:
    """Counts FLOPs by leaf on the meta device; equal shapes only once, whatever their routing."""

    def __init__(self, model: ReferenceModel) -> None:
        # bf16 whatever the model's dtype: the dtype changes no FLOPs, and grouped products take no
        # other on the meta device.
        self.shadow = build_model(model.config, device="meta", dtype=torch.bfloat16)
        self.known: dict[tuple[object, ...], dict[str, int]] = {}

    def of(self, work: CaseWorkload) -> dict[str, int]:
        """FLOPs of one step of the workload, by leaf path."""
        key = (work.phase, work.batch, work.context, work.new_tokens)
        if key not in self.known:
            self.shadow.set_mla("absorbed" if work.phase == "decode" else "expanded")
            cache = self.shadow.new_cache(work.batch, work.context + work.new_tokens)
            cache.length = work.context
            self.known[key] = count_flops(self.shadow, cache, work.new_tokens)
        return self.known[key]


def distinct_column(case: PreparedCase) -> ExactColumn:
    """How many different experts or rows each choosing leaf chose in the last step."""
    distinct = {
        path: int(leaf.selected.unique().numel())
        for path, leaf in selectors(case.model).items()
        if leaf.selected is not None
    }
    return exact_column(case.paths, distinct, "choices")


def accesses(model: ReferenceModel) -> dict[str, Accesses]:
    """How often the last step chose each expert or row, as a histogram for each choosing leaf."""
    return {
        path: Accesses(
            population=histogram["population"],
            trials=histogram["trials"],
            draws=histogram["draws"],
            counts=tuple((times, items) for times, items in histogram["counts"]),
        )
        for path, histogram in histograms(model).items()
    }
