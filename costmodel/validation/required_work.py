"""The least work of each leaf and of a step, by the experts and rows that a run touched.

A leaf reads its own distinct rows, whatever other leaves read. Of a step every row of a shared
table counts once: the union over the layers, as in the compulsory bytes of a prediction.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from costmodel.costs.operators import build_operators
from costmodel.inputs.model import ModelConfig
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator
from costmodel.layers.site import expanded_paths
from costmodel.layers.touched import Touched
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.routing.union import expected_union
from costmodel.validation.recorded_routing import RecordedRouting, selectors_by_module

NOTHING = RecordedRouting(experts=0.0, rows=0.0)
ONE_ITEM = RecordedRouting(experts=1.0, rows=1.0)
ONE_TOKEN = RecordedRouting(experts=None, rows=None)  # what a single token chooses


@dataclass(frozen=True, slots=True, kw_only=True)
class RequiredWork:
    """The least work of a leaf or a step, whatever kernels do it."""

    read_bytes: float  # compulsory bytes that are read
    compulsory_bytes: float  # read and written
    flops: float  # model FLOPs


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWork:
    """The least work of every leaf by its path, and of the step that they make up."""

    by_leaf: Mapping[str, RequiredWork]
    step: RequiredWork

    def of_region(self, leaves: Sequence[str]) -> RequiredWork | None:
        """The work of leaves that run together, or of a single one; None if one is not known."""
        if len(leaves) == 1:
            return self.by_leaf.get(leaves[0])
        if not self.by_leaf.keys() >= set(leaves):
            return None
        work = [self.by_leaf[leaf] for leaf in leaves]
        return RequiredWork(
            read_bytes=sum(leaf.read_bytes for leaf in work),
            compulsory_bytes=sum(leaf.compulsory_bytes for leaf in work),
            flops=sum(leaf.flops for leaf in work),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorWork:
    """The required work of an operator's leaves, as a function of the items that they touch.

    Attributes:
        paths: of its leaves, one for each layer.
        selectors: for each path the router or selector whose choice the leaf follows, if any.
        only_routes: whether the leaves do nothing but choose experts or rows.
        untouched: the work of one leaf that touches no experts or rows.
        one_item: the work of one leaf that touches a single expert or row.
        one_token: the work of one leaf that touches what a single token chooses.
        shared_rows: what a single token touches of the table that the leaves share, if any.
    """

    paths: tuple[str, ...]
    selectors: tuple[str | None, ...]
    only_routes: bool
    untouched: RequiredWork
    one_item: RequiredWork
    one_token: RequiredWork
    shared_rows: Touched | None

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


def operator_work(model: ModelConfig, workload: CaseWorkload) -> tuple[OperatorWork, ...]:
    """The required work of every operator of a case's step, whichever items are touched."""
    return operator_works(model, [workload])[workload]


def operator_works(
    model: ModelConfig, workloads: Iterable[CaseWorkload]
) -> dict[CaseWorkload, tuple[OperatorWork, ...]]:
    """The required work of the operators of several cases, by their workloads.

    Cases that differ in batch, context and routing alone are costed together, as arrays.
    """
    together: dict[CaseWorkload, list[CaseWorkload]] = {}
    for workload in workloads:
        alike = replace(workload, batch=1, context=0, routing="uniform")
        together.setdefault(alike, []).append(workload)
    return {
        workload: of_case
        for cases in together.values()
        for workload, of_case in zip(cases, _works_of_alike(model, cases), strict=True)
    }


def _works_of_alike(
    model: ModelConfig, cases: Sequence[CaseWorkload]
) -> list[tuple[OperatorWork, ...]]:
    """The work of cases that differ in batch, context and routing alone.

    The operators are built three times: without touched items, with one in every layer, and with
    the choice of one token.
    """
    workload = cases[0].to_workload(routing=NOTHING)
    step = workload.step()
    if len(cases) > 1:
        step = workload.step(
            batch=np.array([case.batch for case in cases]),
            context=np.array([case.context for case in cases]),
        )
    untouched, one_item, one_token = (
        build_operators(model, replace(step, routing=routing))
        for routing in (NOTHING, ONE_ITEM, ONE_TOKEN)
    )
    selectors = {module: path for module, (path, _) in selectors_by_module(untouched).items()}
    tables = _shared_rows_by_module(one_token)
    works: list[list[OperatorWork]] = [[] for _ in cases]
    for operator, with_one, with_token in zip(untouched, one_item, one_token, strict=True):
        paths = expanded_paths(operator.path)
        modules = [path.rpartition(".")[0] for path in paths]
        of_leaf = tuple(selectors.get(module) for module in modules)
        routes = all(part.routing for part in operator.parts)
        table = None if operator.rows is None else tables.get(modules[0])
        least = [_leaf_work(each) for each in (operator, with_one, with_token)]
        for place, work in enumerate(works):
            none, item, token = (_of_case(each, place) for each in least)
            work.append(
                OperatorWork(
                    paths=paths,
                    selectors=of_leaf,
                    only_routes=routes,
                    untouched=none,
                    one_item=item,
                    one_token=token,
                    shared_rows=table and replace(table, distinct=_at(table.distinct, place)),
                )
            )
    return [tuple(work) for work in works]


def required_work(work: Sequence[OperatorWork], distinct: Mapping[str, float]) -> StepWork:
    """The required work of a step: the sum over its leaves, rows of a shared table counted once.

    `distinct` is the number of touched experts or rows by the path of the router or selector.
    """
    by_leaf = _work_by_leaf(work, distinct)
    leaves = by_leaf.values()
    repeated_bytes = sum(_repeated_row_bytes(operator, distinct) for operator in work)
    return StepWork(
        by_leaf=by_leaf,
        step=RequiredWork(
            read_bytes=sum(leaf.read_bytes for leaf in leaves) - repeated_bytes,
            compulsory_bytes=sum(leaf.compulsory_bytes for leaf in leaves) - repeated_bytes,
            flops=sum(leaf.flops for leaf in leaves),
        ),
    )


def _work_by_leaf(
    work: Iterable[OperatorWork], distinct: Mapping[str, float]
) -> dict[str, RequiredWork]:
    """The required work of each leaf of a step, by its path."""
    by_leaf: dict[str, RequiredWork] = {}
    for operator in work:
        if not operator.follows_choices:
            by_leaf |= dict.fromkeys(operator.paths, operator.untouched)
            continue
        for path, selector in zip(operator.paths, operator.selectors, strict=True):
            by_leaf[path] = operator.of_leaf(distinct.get(selector) if selector else None)
    return by_leaf


def _repeated_row_bytes(work: OperatorWork, distinct: Mapping[str, float]) -> float:
    """What the leaves of an operator read of rows that several of them read, beyond once a row."""
    table = work.shared_rows
    if table is None:
        return 0.0
    one_token = float(table.distinct)
    by_layer = [distinct.get(selector or "", one_token) for selector in work.selectors]
    union = float(expected_union(table.table_rows, table.windows, by_layer))
    row_bytes = work.one_item.read_bytes - work.untouched.read_bytes
    return row_bytes * (sum(by_layer) - union)


def _shared_rows_by_module(operators: Iterable[Operator]) -> dict[str, Touched]:
    """The rows that modules touch of a table that their layers share, by the module's path."""
    return {
        path.rpartition(".")[0]: touched
        for operator in operators
        if (touched := operator.touched) is not None and touched.table_rows
        for path in expanded_paths(operator.path)
    }


def _leaf_work(operator: Operator) -> tuple[Number, Number, Number, Number]:
    """Of one layer of the operator: bytes read, compulsory bytes, FLOPs, and rows read beside.

    Numbers, or arrays over several cases.
    """
    return (
        operator.total("read_bytes"),
        operator.compulsory_bytes,
        operator.total("flops"),
        operator.repeated_row_bytes,
    )


def _of_case(numbers: Iterable[Number], place: int) -> RequiredWork:
    """The work of one of several cases, all rows that a leaf reads among it."""
    read, compulsory, flops, rows = (_at(number, place) for number in numbers)
    return RequiredWork(read_bytes=read + rows, compulsory_bytes=compulsory + rows, flops=flops)


def _at(number: Number, place: int) -> float:
    """The number of one of several cases; they may have one in common."""
    return float(number[place] if isinstance(number, np.ndarray) else number)
