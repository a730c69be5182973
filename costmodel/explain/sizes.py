"""The sizes of a model explained: parameters, KV cache, recurrent state."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, get_args

from costmodel.explain.explanation import Column, Derivation, Terms
from costmodel.explain.sums import Builder, Case, over_operators
from costmodel.layers.base import LayerKind, MemoryKind, MixerKind
from costmodel.layers.formats import Group
from costmodel.layers.letters import Letter
from costmodel.layers.operator import Operator, Weight
from costmodel.layers.site import layer_pattern

GROUPS: tuple[Group, ...] = get_args(Group)
ENDS = ("embedding", "lm_head")


def tensors(case: Case) -> Iterator[tuple[Operator, Weight, int]]:
    """Each parameter tensor with its copies; a shared one has none after its first."""
    seen: set[str] = set()
    for operator in case.operators:
        for weight in operator.weights:
            copies = 1 if weight.shared else operator.count
            yield operator, weight, 0 if weight.shared in seen else copies
            if weight.shared:
                seen.add(weight.shared)


def tensor_terms(
    case: Case, of: Callable[[Weight], int], where: Callable[[Weight], bool] = lambda _: True
) -> Terms:
    """What each tensor adds, in all its copies."""
    unit = case.quantity.unit
    return Terms(
        title=f"{case.quantity.label} by tensor; one that operators share is stored once",
        columns=(
            Column(header="operator", unit="text"),
            Column(header="tensor", unit="text"),
            Column(header="copies", unit="count"),
            Column(header="one copy", unit=unit),
            Column(header="all copies", unit=unit, total=case.total),
        ),
        rows=tuple(
            (operator.path, weight.name, copies, of(weight), copies * of(weight))
            for operator, weight, copies in tensors(case)
            if where(weight)
        ),
    )


def _group_letters(case: Case) -> tuple[Letter, ...]:
    by_group = case.prediction.costs.parameters.by_group
    return tuple(
        Letter(group, by_group.get(group, 0), f"parameters of this group: {group}")
        for group in GROUPS
    )


def _parameters(case: Case) -> Derivation:
    return Derivation(
        equations=(case.sum_of(*_group_letters(case)),),
        terms=tensor_terms(case, lambda weight: weight.parameters),
    )


def _without_embeddings(case: Case) -> Derivation:
    letters = [letter for letter in _group_letters(case) if letter.name not in ENDS]
    return Derivation(
        equations=(case.sum_of(*letters),),
        terms=tensor_terms(
            case, lambda weight: weight.parameters, lambda weight: weight.group not in ENDS
        ),
    )


def _group(group: Group) -> Builder:
    def build(case: Case) -> Derivation:
        return Derivation(
            equations=(case.in_words("sum over tensors of copies x parameters of one"),),
            terms=tensor_terms(
                case, lambda weight: weight.parameters, lambda weight: weight.group == group
            ),
        )

    return build


def _active(case: Case) -> Derivation:
    """What one token uses of each tensor; of a shared one never more than it has."""
    used: dict[str, int] = {}
    rows = []
    for operator, weight, _ in tensors(case):
        if weight.group in ENDS:
            continue
        one = min(weight.active_parameters, weight.parameters)
        added = operator.count * one
        if weight.shared:
            before = used.get(weight.shared, 0)
            added = min(added, weight.parameters - before)
            used[weight.shared] = before + added
        rows.append((operator.path, weight.name, operator.count, one, added))
    unit = case.quantity.unit
    return Derivation(
        equations=(case.in_words("sum over tensors of what one token uses in all layers"),),
        terms=Terms(
            title="what one token uses of each tensor; of a shared one at most all of it",
            columns=(
                Column(header="operator", unit="text"),
                Column(header="tensor", unit="text"),
                Column(header="layers", unit="count"),
                Column(header="one layer", unit=unit),
                Column(header="all layers", unit=unit, total=case.total),
            ),
            rows=tuple(rows),
        ),
    )


def _active_with_lm_head(case: Case) -> Derivation:
    tied = not case.prediction.costs.parameters.by_group.get("lm_head")
    return _active_and(case, "embedding" if tied else "lm_head")


def _active_with_embeddings(case: Case) -> Derivation:
    return _active_and(case, *ENDS)


def _active_and(case: Case, *ends: str) -> Derivation:
    counts = case.prediction.costs.parameters
    active = Letter(
        "active", counts.active_without_embeddings, "what one token uses between the two ends"
    )
    groups = [letter for letter in _group_letters(case) if letter.name in ends]
    return Derivation(equations=(case.sum_of(active, *groups),))


K = TypeVar("K", bound=LayerKind)


def _numbered(
    groups: Sequence[tuple[K, tuple[int, ...]]],
) -> Iterator[tuple[str, K, tuple[int, ...]]]:
    """Each kind with its layers, and the number that tells its letters from those of others."""
    for number, (kind, layers) in enumerate(groups, start=1):
        yield "" if len(groups) == 1 else str(number), kind, layers


def _mixers(case: Case) -> Iterator[tuple[str, MixerKind, tuple[int, ...]]]:
    return _numbered(case.prediction.model.attention_groups)


def _layer_letter(number: str, kind: LayerKind, layers: tuple[int, ...]) -> Letter:
    name: str = kind.kind
    return Letter(f"L{number}", len(layers), f"layers of {name}: {layer_pattern(layers)}")


def _token_letter(case: Case, number: str, mixer: MixerKind) -> Letter:
    return Letter(
        f"b{number}",
        mixer.kv_token_bytes(case.prediction.workload.step()),
        f"bytes of a token in the cache of such a layer: {_said(mixer, 'kv_token_bytes')}",
    )


def _said(mixer: LayerKind, method: str) -> str:
    """What the kind says of a method of its own, without the full stop."""
    doc = inspect.getdoc(getattr(type(mixer), method)) or ""
    return " ".join(doc.partition("\n\n")[0].split()).removesuffix(".")


def _kv_per_token(case: Case) -> Derivation:
    letters, terms = [], []
    for number, mixer, layers in _mixers(case):
        letters += [_layer_letter(number, mixer, layers), _token_letter(case, number, mixer)]
        terms.append(f"L{number} b{number}")
    return Derivation(equations=(case.equation(" + ".join(terms), *letters),))


def _side_per_token(case: Case) -> Derivation:
    letters, terms, step = [], [], case.prediction.workload.step()
    for number, mixer, layers in _mixers(case):
        letters += [
            _layer_letter(number, mixer, layers),
            Letter(
                f"b{number}",
                mixer.side_token_bytes(step),
                f"bytes of a token's key of an indexer: {_said(mixer, 'side_token_bytes')}",
            ),
        ]
        terms.append(f"L{number} b{number}")
    return Derivation(equations=(case.equation(" + ".join(terms), *letters),))


def _kv_stored(case: Case) -> Derivation:
    workload = case.prediction.workload
    held = workload.context + workload.new_tokens
    letters, terms = [], []
    for number, mixer, layers in _mixers(case):
        letters.append(_layer_letter(number, mixer, layers))
        kept = mixer.kept(held, case.prediction.workload.step())
        if len(kept) == 1:
            letters += [
                _token_letter(case, number, mixer),
                Letter(
                    f"n{number}",
                    kept[0].count,
                    f"tokens of a sequence that it keeps of S + T = {held}:"
                    f" {_said(mixer, 'kept_tokens')}",
                ),
            ]
            terms.append(f"L{number} b{number} n{number}")
            continue
        for place, one in enumerate(kept, start=1):
            name = f"{number}_{place}"
            letters += [
                Letter(f"b{name}", one.each_bytes, f"bytes of one of the {one.what}"),
                Letter(
                    f"n{name}", one.count, f"how many of these it keeps of S + T = {held} tokens"
                ),
            ]
            terms.append(f"L{number} b{name} n{name}")
    return Derivation(equations=(case.equation(f"B ({' + '.join(terms)})", *letters),))


def _state_per_sequence(case: Case) -> Derivation:
    model, step = case.prediction.model, case.prediction.workload.step()
    letters, terms = [], []
    keeping: list[tuple[MixerKind | MemoryKind, tuple[int, ...]]] = [*model.attention_groups]
    for memory in model.memory:
        if memory.state_bytes(model.hidden_size, step):
            placement = memory.placement(model.num_hidden_layers)
            keeping.append((memory, tuple(block for block, _ in placement)))
    for number, kind, layers in _numbered(keeping):
        state = kind.state_bytes(model.hidden_size, step)
        letters += [
            _layer_letter(number, kind, layers),
            Letter(
                f"s{number}",
                state,
                f"bytes that such a layer keeps of a sequence: {_said(kind, 'state_bytes')}",
            ),
        ]
        terms.append(f"L{number} s{number}")
    return Derivation(equations=(case.equation(" + ".join(terms), *letters),))


def _state(case: Case) -> Derivation:
    state = case.prediction.costs.kv_cache.state_bytes_per_sequence
    return Derivation(equations=(case.equation("B s", Letter("s", state, "bytes of a sequence")),))


def _of_traffic(name: str) -> Builder:
    return over_operators(lambda operator: operator.total(name))


SIZES: dict[str, Builder] = {
    "parameters.total": _parameters,
    "parameters.total_without_embeddings": _without_embeddings,
    "parameters.active_without_embeddings": _active,
    "parameters.active_with_lm_head": _active_with_lm_head,
    "parameters.active_with_embeddings": _active_with_embeddings,
    **{f"parameters.by_group.{group}": _group(group) for group in GROUPS},
    "kv_cache.bytes_per_token": _kv_per_token,
    "kv_cache.side_cache_bytes_per_token": _side_per_token,
    "kv_cache.stored_bytes": _kv_stored,
    "kv_cache.read_bytes": _of_traffic("kv_read_bytes"),
    "kv_cache.written_bytes": _of_traffic("kv_written_bytes"),
    "kv_cache.state_bytes_per_sequence": _state_per_sequence,
    "kv_cache.state_bytes": _state,
}
"""By JSON name."""
