"""What must be resident explained: weights, buffers, activations, and the largest that fits."""

from dataclasses import replace

from costmodel.costs.predict import predict
from costmodel.explain.explanation import Column, Derivation, Equation, Terms
from costmodel.explain.sizes import tensor_terms
from costmodel.explain.sums import Builder, Case
from costmodel.explain.working import number_text
from costmodel.inputs.workload import MAX_CONTEXT
from costmodel.layers.letters import Letter

FIXED = ("weights", "buffers", "towers", "hot")  # what is resident whatever the batch


def _weights(case: Case) -> Derivation:
    step = case.prediction.workload.step()
    return Derivation(
        equations=(case.in_words("sum over tensors of copies x bytes of one as stored"),),
        terms=tensor_terms(
            case,
            lambda weight: weight.stored_bytes(step),
            lambda weight: weight.place == "hbm",
        ),
    )


def _buffers(case: Case) -> Derivation:
    rows = [
        (op.path, buffer.name, op.count, size, op.count * size)
        for op in case.operators
        for buffer in op.buffers
        for size in [buffer.elements * buffer.element_bytes]
    ]
    return Derivation(
        equations=(case.in_words("sum over buffers of layers x bytes of one"),),
        terms=Terms(
            title=f"{case.quantity.label} by buffer",
            columns=(
                Column(header="operator", unit="text"),
                Column(header="buffer", unit="text"),
                Column(header="layers", unit="count"),
                Column(header="one layer", unit=case.quantity.unit),
                Column(header="all layers", unit=case.quantity.unit, total=case.total),
            ),
            rows=tuple(rows),
        ),
    )


def _kv(case: Case) -> Derivation:
    stored = case.prediction.costs.kv_cache.stored_bytes
    return Derivation(
        equations=(case.equation("kv", Letter("kv", stored, "kv_cache.stored_bytes")),)
    )


def _state(case: Case) -> Derivation:
    state = case.prediction.costs.kv_cache.state_bytes
    return Derivation(
        equations=(case.equation("state", Letter("state", state, "kv_cache.state_bytes")),)
    )


def _towers(case: Case) -> Derivation:
    return Derivation(
        equations=(case.in_words("sum over towers of parameters x bytes of one as stored"),),
        terms=Terms(
            title=f"{case.quantity.label} by tower",
            columns=(
                Column(header="tower", unit="text"),
                Column(header="parameters", unit="count"),
                Column(header="stored as", unit="text"),
                Column(header="all of it", unit=case.quantity.unit, total=case.total),
            ),
            rows=tuple(
                (tower.name, tower.parameters, tower.dtype, tower.stored_bytes)
                for tower in case.prediction.model.towers
            ),
        ),
    )


def _activations(case: Case) -> Derivation:
    sizes = [
        (op.total("activation_bytes") + op.total("io_bytes"), op.total("intermediate_bytes"), op)
        for op in case.operators
    ]
    border, inner, widest = max(sizes, key=lambda size: 2 * size[0] + size[1])
    model = case.prediction.model
    several = model.stream_width // model.hidden_size
    streams = "" if several == 1 else f" {several}"
    return Derivation(
        equations=(
            case.equation(
                f"2 N D{streams} a + border + inner / 2",
                Letter(
                    "a",
                    case.prediction.workload.step().activation_bytes,
                    "bytes of an element of an activation",
                ),
                Letter("border", border, f"bytes that cross the border of {widest.path}"),
                Letter("inner", inner, "bytes between its parts, each written and read once"),
            ),
        )
    )


def _parts(case: Case) -> tuple[Letter, ...]:
    memory = case.prediction.memory
    return (
        Letter("weights", memory.weights_bytes, "memory.weights_bytes"),
        Letter("buffers", memory.buffers_bytes, "memory.buffers_bytes"),
        Letter("kv", memory.kv_bytes, "memory.kv_bytes"),
        Letter("state", memory.state_bytes, "memory.state_bytes"),
        Letter("towers", memory.towers_bytes, "memory.towers_bytes"),
        Letter("hot", memory.hot_rows_bytes, "memory.hot_rows_bytes"),
        Letter("activations", memory.activations_bytes, "memory.activations_bytes"),
    )


def _total(case: Case) -> Derivation:
    return Derivation(equations=(case.sum_of(*_parts(case)),))


def _capacity(case: Case) -> Derivation:
    return Derivation(
        equations=(case.in_words(case.prediction.hardware.sources["capacity_bytes"]),)
    )


def _fits(case: Case) -> Derivation:
    memory = case.prediction.memory
    values = f"{number_text(memory.total_bytes)} <= {number_text(memory.capacity_bytes)}"
    return Derivation(
        equations=(case.in_words("memory.total_bytes <= memory.capacity_bytes", values),)
    )


def _max_batch(case: Case) -> Derivation:
    hot = " - hot" if case.prediction.memory.hot_rows_bytes else ""
    capacity = Letter("capacity", case.prediction.memory.capacity_bytes, "memory.capacity_bytes")
    return Derivation(
        equations=(
            case.equation(
                f"max(floor((capacity - weights - buffers - towers{hot})"
                " / ((kv + state + activations) / B)), 0)",
                capacity,
                *_parts(case),
            ),
        )
    )


def _kv_room(case: Case) -> Derivation:
    memory = case.prediction.memory
    capacity = Letter("capacity", memory.capacity_bytes, "memory.capacity_bytes")
    fixed = [part for part in _parts(case) if part.name in FIXED]
    formula = " - ".join(("capacity", *(part.name for part in fixed)))
    return Derivation(equations=(case.equation(f"max({formula}, 0)", capacity, *fixed),))


def _kv_room_tokens(case: Case) -> Derivation:
    room = Letter("room", case.prediction.memory.kv_room_bytes, "memory.kv_room_bytes")
    token = case.prediction.costs.kv_cache.bytes_per_token
    return Derivation(
        equations=(
            case.equation(
                "floor(room / token)", room, Letter("token", token, "kv_cache.bytes_per_token")
            ),
        )
    )


def _max_context(case: Case) -> Derivation:
    """The context with what is resident at it, and at one token more."""
    most = int(case.total)
    contexts = (most,) if most == MAX_CONTEXT else (most, most + 1)
    return Derivation(
        equations=(
            case.in_words("most cached tokens S whose memory.total_bytes are within the capacity"),
            *(_resident(case, context) for context in contexts),
        )
    )


def _resident(case: Case, context: int) -> Equation:
    prediction = case.prediction
    workload = replace(prediction.workload, context=context)
    memory = predict(prediction.model, workload, prediction.hardware).memory
    return Equation(
        name=f"within the capacity with S = {context:,}",
        formula="memory.total_bytes <= memory.capacity_bytes",
        values=f"{number_text(memory.total_bytes)} <= {number_text(memory.capacity_bytes)}",
        result=bool(memory.fits),
        unit="bool",
    )


MEMORY: dict[str, Builder] = {
    "memory.weights_bytes": _weights,
    "memory.buffers_bytes": _buffers,
    "memory.kv_bytes": _kv,
    "memory.state_bytes": _state,
    "memory.towers_bytes": _towers,
    "memory.activations_bytes": _activations,
    "memory.total_bytes": _total,
    "memory.capacity_bytes": _capacity,
    "memory.fits": _fits,
    "memory.max_batch": _max_batch,
    "memory.kv_room_bytes": _kv_room,
    "memory.kv_room_tokens": _kv_room_tokens,
    "memory.max_context": _max_context,
}
"""By JSON name, and the largest context, which pages show."""
