"""The least work of each leaf and of a step, by the experts and rows that a run touched.

A leaf reads its own distinct rows, whatever other leaves read. Of a step every row of a shared
table counts once: the union over the layers, as in the compulsory bytes of a prediction.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from costmodel.costs.operators import build_operators
from costmodel.inputs.model import ModelConfig
from costmodel.layers.operator import Operator
from costmodel.layers.site import expanded_paths
from costmodel.layers.touched import Touched
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.routing.union import expected_union
from costmodel.validation.recorded_routing import RecordedRouting, selectors_by_module


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
        operator: with work of the case's step; which experts or rows are touched is left open.
        paths: of its leaves, one for each layer.
        selectors: for each path the router or selector whose choice the leaf follows, if any.
        untouched: the work of one leaf that touches no experts or rows.
        one_item: the work of one leaf that touches a single expert or row.
        one_token: the work of one leaf that touches what a single token chooses.
        shared_rows: what a single token touches of the table that the leaves share, if any.
    """

    operator: Operator
    paths: tuple[str, ...]
    selectors: tuple[str | None, ...]
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
    tables = _shared_rows_by_module(one_token)
    work = []
    for operator, with_one, with_token in zip(untouched, one_item, one_token, strict=True):
        paths = expanded_paths(operator.path)
        modules = [path.rpartition(".")[0] for path in paths]
        work.append(
            OperatorWork(
                operator=operator,
                paths=paths,
                selectors=tuple(selectors.get(module) for module in modules),
                untouched=_leaf_work(operator),
                one_item=_leaf_work(with_one),
                one_token=_leaf_work(with_token),
                shared_rows=None if operator.rows is None else tables.get(modules[0]),
            )
        )
    return tuple(work)


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


def _leaf_work(operator: Operator) -> RequiredWork:
    """The work of one layer of the operator, all rows that it reads among it."""
    rows = float(operator.repeated_row_bytes)
    return RequiredWork(
        read_bytes=float(operator.total("read_bytes")) + rows,
        compulsory_bytes=float(operator.compulsory_bytes) + rows,
        flops=float(operator.total("flops")),
    )
