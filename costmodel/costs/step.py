"""What a step costs on any GPU: operators, totals, caches.

Numbers, or arrays over a grid of steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from costmodel.backends import kernels_of
from costmodel.backends.step_kernels import StepKernels
from costmodel.costs.operators import build_operators
from costmodel.costs.placement import FarTables, far_tables
from costmodel.costs.table_rows import row_totals
from costmodel.costs.totals import (
    Distinct,
    KvCache,
    ParameterCounts,
    Totals,
    distinct,
    flops_by_kind,
    kv_cache,
    parameter_counts,
    routing_totals,
    totals,
)
from costmodel.inputs.model import ModelConfig
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, OperatorKind, Step
from costmodel.layers.placement import Place
from costmodel.layers.touched import TableRows


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a step costs on any GPU. Numbers, or arrays over a grid of steps."""

    step: Step
    operators: tuple[Operator, ...]
    parameters: ParameterCounts
    totals: Totals
    rows: TableRows  # of all memory tables in HBM and their layers
    far: Mapping[Place, FarTables]  # tables in host memory and on disk
    flops_by_kind: dict[OperatorKind, Number]  # model FLOPs
    routing: Totals  # of the parts that select experts or table rows
    kv_cache: KvCache
    distinct: Distinct  # experts and rows that the step touches

    def kernels(self, backend: str) -> StepKernels:
        """The kernels that a backend, by its name, has for the step."""
        return kernels_of(backend, self.operators, self.step)


def step_costs(model: ModelConfig, step: Step) -> Costs:
    """What a step costs on any GPU; arrays over a grid of steps if the step holds arrays."""
    operators = build_operators(model, step)
    sums = totals(operators)
    return Costs(
        step=step,
        operators=operators,
        parameters=parameter_counts(operators),
        totals=sums,
        rows=row_totals(operators),
        far=far_tables(operators, sums, step),
        flops_by_kind=flops_by_kind(operators),
        routing=routing_totals(operators),
        kv_cache=kv_cache(model, step, sums),
        distinct=distinct(operators),
    )
