"""Copies of each leaf or region of a prepared step, one a layer: what a calibration times.

A copy has its layer's own weights, keys, values and table rows, which L2 does not hold. Its other
inputs are those of all copies, as a model leaves them in L2 a moment before. The first layer is
left out, since its first norm has nothing to add. What stands beside the layers has copies of its
own weights, or one copy if these are larger than L2.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from profiler.runs.case import PreparedCase
from reference_model.leaf import Leaf

if TYPE_CHECKING:
    from reference_model.fused.plan import Launch
    from reference_model.fused.step import FusedStep

LAYER = re.compile(r"^layers\.(\d+)\.")
END_COPIES = 64  # of what stands beside the layers
END_BYTES = 2e9  # of all its copies' weights
ROUTER, EXPERTS = "moe.router", "moe.experts"  # the one counts from zero, the other reads counts

Call = Callable[[], object]


def _nothing() -> None:
    """Prepare nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """Calls of one leaf or region, each on a layer of its own.

    Attributes:
        path: Of the second layer's.
        calls: One for each copy.
        sets: How many sets of weights they have.
        begin: What must run before them once.
        prepare: What must run before each round of all of them.
    """

    path: str
    calls: tuple[Call, ...]
    sets: int
    begin: Call = _nothing
    prepare: Call = _nothing


def copies_of(case: PreparedCase) -> list[Copies]:
    """The copies of each leaf, or of each region of the backend `fused`, in the order of a step.

    Runs the step once; nothing else may run it between the copies' calls.
    """
    return _leaf_copies(case) if case.fused is None else list(_region_copies(case, case.fused))


@dataclass(frozen=True, slots=True)
class _LeafCall:
    leaf: Leaf
    args: tuple[Any, ...]
    options: dict[str, Any]

    @torch.no_grad()
    def __call__(self) -> object:
        return self.leaf(*self.args, **self.options)


def _leaf_copies(case: PreparedCase) -> list[Copies]:
    """By the arguments that each leaf gets in a step."""
    calls: dict[str, dict[int | None, list[_LeafCall]]] = {}
    own = set() if case.workload.context == 0 else _storages(case)

    def note(path: str, leaf: Leaf, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        layer = _layer(path)
        if layer == 0:
            return
        by_layer = calls.setdefault(_every(path), {})
        mine = by_layer.setdefault(layer, [])
        first = next(iter(by_layer.values()))
        if first is not mine and len(first) > len(mine):
            like = first[len(mine)]
            args, options = tree_map(
                partial(_shared, own), (args, options), (like.args, like.options)
            )
        mine.append(_LeafCall(leaf, args, options))

    hooks = [
        leaf.register_forward_pre_hook(partial(note, path), with_kwargs=True)
        for path, leaf in case.model.leaves().items()
    ]
    case.run()
    for hook in hooks:
        hook.remove()
    return [_of_leaf(path, by_layer) for path, by_layer in calls.items()]


def _shared(own: set[int], mine: object, first: object) -> object:
    """The second layer's activation in place of a later one's; keys, values and indices stay."""
    if not isinstance(mine, Tensor) or not isinstance(first, Tensor):
        return mine
    if not mine.is_floating_point() or mine.untyped_storage().data_ptr() in own:
        return mine
    return first


def _of_leaf(path: str, by_layer: dict[int | None, list[_LeafCall]]) -> Copies:
    if None in by_layer:
        (call,) = by_layer[None]
        return _of_end(path, call)
    each = [calls[0] if len(calls) == 1 else partial(_all, calls) for calls in by_layer.values()]
    return Copies(path=path.replace("*", "1"), calls=tuple(each), sets=len(each))


def _of_end(path: str, call: _LeafCall) -> Copies:
    """Of a leaf beside the layers; an embedding's copies get other ids, and so other rows."""
    weight_bytes = sum(parameter.nbytes for parameter in call.leaf.parameters())
    if path == "embed":
        (ids,), (table,) = call.args, call.leaf.parameters()
        rows = table.shape[0]
        ends = [_LeafCall(call.leaf, (_other(ids, rows),), {}) for _ in range(END_COPIES)]
        return Copies(path=path, calls=tuple(ends), sets=END_COPIES)
    sets = max(1, min(END_COPIES, int(END_BYTES / max(weight_bytes, 1))))
    leaves = [call.leaf, *(deepcopy(call.leaf) for _ in range(sets - 1))]
    calls = tuple(_LeafCall(leaf, call.args, call.options) for leaf in leaves)
    return Copies(path=path, calls=calls, sets=sets)


def _other(ids: Tensor, rows: int) -> Tensor:
    return torch.randint_like(ids, rows)


def _region_copies(case: PreparedCase, step: "FusedStep") -> Iterator[Copies]:
    """By the launches of each region, all in one stream."""
    case.run()  # fills what a region reads of those before it
    by_path: dict[str, dict[int | None, list[Launch]]] = {}
    for launch in step.plan.launches:
        layer = _layer(launch.path)
        if layer != 0:
            by_path.setdefault(_every(launch.path), {}).setdefault(layer, []).append(launch)
    route: list[Call] = [partial(_zero, step.counters)]
    for path, by_layer in by_path.items():
        if None in by_layer:
            calls, sets = _end_launches(case, by_layer[None])
            yield Copies(path=path, calls=tuple(calls), sets=sets)
            continue
        usual = Counter(map(len, by_layer.values())).most_common(1)[0][0]
        alike = [launches for launches in by_layer.values() if len(launches) == usual]
        calls = [partial(_all, [_run_of(each) for each in launches]) for launches in alike]
        routes, reads = ROUTER in path, EXPERTS in path
        if routes:
            route += calls
        yield Copies(
            path=path.replace("*", "1"),
            calls=tuple(calls),
            sets=len(calls),
            begin=partial(_all, route) if reads else _nothing,
            prepare=route[0] if routes else _nothing,
        )


def _end_launches(case: PreparedCase, launches: "list[Launch]") -> tuple[list[Call], int]:
    """Of launches beside the layers, on the one set of weights there is; an embedding has more."""
    first = launches[0].run
    if launches[0].path != "embed" or not isinstance(first, partial):
        return [partial(_all, [_run_of(each) for each in launches])] * END_COPIES, 1
    ids, *others = first.args
    vocabulary = case.model.config.vocab_size
    return [
        partial(first.func, _other(ids, vocabulary), *others, **first.keywords)
        for _ in range(END_COPIES)
    ], END_COPIES


def _run_of(launch: "Launch") -> Call:
    """What a launch does; the product behind a prompt's attention finds what that left each time.

    In a step it lets go of it.
    """
    run = launch.run
    function = run.func if isinstance(run, partial) else run
    core = getattr(function, "__self__", None)
    if core is None or function != getattr(core, "project", None):
        return run
    with torch.no_grad():
        core.attend()
    attended = core.attended

    def project() -> None:
        core.attended = attended
        run()

    return project


@torch.no_grad()
def _all(calls: Sequence[Call]) -> None:
    for call in calls:
        call()


def _zero(counters: list[Tensor]) -> None:
    for counts in counters:
        counts.zero_()


def _layer(path: str) -> int | None:
    at = LAYER.match(path)
    return None if at is None else int(at[1])


def _every(path: str) -> str:
    return LAYER.sub("layers.*.", path)


def _storages(case: PreparedCase) -> set[int]:
    """The storages of keys, values and states."""
    cache = case.cache
    return {
        tensor.untyped_storage().data_ptr()
        for layer in (*cache.layers, *cache.memories.values())
        for tensor in layer.tensors
    }
