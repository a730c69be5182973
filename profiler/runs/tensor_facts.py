"""What a case's tensors say without a clock: parameters, cache bytes, FLOPs, choices made."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from costmodel.recordings.measured import Accesses, Exact, ExactColumn, Measured
from costmodel.recordings.recording import CaseWorkload
from profiler.instruments.spread import exact_column
from profiler.runs.case import PreparedCase
from reference_model.flop_formulas import count_flops
from reference_model.model import ReferenceModel, build_model
from reference_model.routing import choosers, histograms


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Exact numbers of one case."""

    step: dict[str, Measured]
    operators: dict[str, ExactColumn]


def counts(case: PreparedCase, flops: Mapping[str, int]) -> Counts:
    """Bytes of the tensors that are there, and FLOPs counted on the meta device."""
    model, work = case.model, case.workload
    held = work.context + work.new_tokens
    tensors: dict[str, int] = {
        "parameters": sum(each.numel() for each in model.parameters()),
        "buffer_bytes": sum(each.nbytes for each in model.buffers()),
        "kv_held_bytes": case.cache.held_bytes(held),
        "kv_allocated_bytes": case.cache.allocated_bytes(),
    }
    step: dict[str, Measured] = {
        name: Exact(value=value, source="tensors") for name, value in tensors.items()
    }
    step["flops_counted"] = Exact(value=sum(flops.values()), source="flop_counter")
    column = exact_column(tuple(flops), flops, "flop_counter")
    return Counts(step=step, operators={"flops_counted": column})


class FlopCount:
    """Counts FLOPs by leaf; those of equal shapes once, since no routing changes them."""

    def __init__(self, model: ReferenceModel) -> None:
        # bf16 whatever the model's dtype: it changes no FLOPs, and is all that grouped products
        # take on the meta device.
        self.shadow = build_model(model.config, device="meta", dtype=torch.bfloat16)
        self.known: dict[tuple[object, ...], dict[str, int]] = {}

    def of(self, work: CaseWorkload) -> dict[str, int]:
        """FLOPs of one step of the workload, by path."""
        key = (work.phase, work.batch, work.context, work.new_tokens)
        if key not in self.known:
            self.shadow.set_mla("absorbed" if work.phase == "decode" else "expanded")
            cache = self.shadow.new_cache(work.batch, work.context + work.new_tokens)
            cache.length = work.context
            self.known[key] = count_flops(self.shadow, cache, work.new_tokens)
        return self.known[key]


def distinct_column(model: ReferenceModel) -> ExactColumn:
    """Different experts or rows that the last step chose, by the leaf that chose them."""
    found = {
        path: int(leaf.chosen.unique().numel())
        for path, leaf in choosers(model).items()
        if leaf.chosen is not None
    }
    return exact_column(tuple(model.leaves()), found, "choices")


def accesses(model: ReferenceModel) -> dict[str, Accesses]:
    """How often the last step chose each expert or row, by the leaf that chose them."""
    return {
        path: Accesses(
            population=found["population"],
            trials=found["trials"],
            draws=found["draws"],
            counts=tuple((times, items) for times, items in found["counts"]),
        )
        for path, found in histograms(model).items()
    }
