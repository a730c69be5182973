"""What recurrent mixers share: a causal convolution, chunks of a prompt, a norm behind a gate.

A recurrent mixer keeps a state of fixed size a sequence, which each step reads and writes whole. In
decode the state takes one token. In a prompt it takes chunks of tokens: within a chunk tokens meet
by matrix products, as in attention, and the state is touched once a chunk.

Letters: N tokens, C channels of the convolution, K taps of its kernel, squares and single as
`chunk_letters` says. Sources: causal convolutions of few taps, arXiv 2312.00752, section 3.4;
chunks, arXiv 2405.21060, section 6, and 2412.06464, section 3.3.
"""

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field

from costmodel.layers.letters import Letter
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part, Step, Weight
from costmodel.layers.primitives import (
    ACTIVATION,
    MULTIPLY_ADD,
    RMS_NORM,
    SIGMOID,
    activation_flops,
    vector,
)
from costmodel.layers.site import Site

Taps: TypeAlias = Annotated[int, Field(ge=2, le=64)]
"""Tokens that a short convolution sees, itself in."""
Chunk: TypeAlias = Annotated[int, Field(ge=2, le=2**14)]
"""Tokens of a prompt that meet by matrix products."""

STATE_ELEMENT_BYTES: Final = 4  # states of recurrences are float32 (`mamba_ssm_dtype` of files)
CONVOLUTION: Final = "convolution"
STATE_PRODUCTS: Final = "state_products"
PRODUCTS: Final = frozenset({CONVOLUTION, STATE_PRODUCTS})
"""Parts that PyTorch runs as convolutions and matrix products, though their kind is another."""

_CONV_SOURCE: Final = "arXiv 2312.00752, section 3.4"


def conv_state_bytes(channels: int, taps: int, step: Step) -> int:
    """Bytes of the K - 1 last inputs of a convolution of one sequence, as activations are stored.

    transformers keeps K of them; kernels need K - 1.
    """
    return channels * (taps - 1) * step.activation_bytes


def convolution(
    step: Step, *, channels: int, taps: int, bias: bool, border: bool
) -> tuple[tuple[Part, ...], tuple[Weight, ...]]:
    """A causal convolution of each channel by itself: its parts and weights.

    Counts 2 N C K FLOPs, N C for a bias; the state is read and written whole. With `border`, its
    input crosses the operator's border; else a part before it makes it. A part follows it.
    Leaves out: the zeros before the first token of a sequence, which are multiplied all the same.
    """
    elements = step.tokens * channels
    weight = Weight(name="weight", group="attention", rows=channels, cols=taps, matrix=False)
    passed = elements * step.activation_bytes
    state = step.batch * conv_state_bytes(channels, taps, step)
    part = Part(
        name=CONVOLUTION,
        kind="elementwise",
        flops=MULTIPLY_ADD * elements * taps,
        weight_bytes=weight.stored_bytes(step),
        state_read_bytes=state,
        state_written_bytes=state,
        input_bytes=passed if border else 0,
        inner_input_bytes=0 if border else passed,
        inner_output_bytes=passed,
        operations=3,  # past and new inputs joined, convolved, the last of them kept
    )
    if not bias:
        return (part,), (weight,)
    shift = vector("bias", "attention", channels)
    added = Part(
        name="bias",
        kind="elementwise",
        flops=elements,
        weight_bytes=shift.stored_bytes(step),
        operations=0,
    )
    return (part, added), (weight, shift)


def silu_convolution(
    site: Site, step: Step, *, channels: int, taps: int, bias: bool, source: str
) -> Operator:
    """The operator `attention.conv`: a causal convolution and a SiLU of its output."""
    parts, weights = convolution(step, channels=channels, taps=taps, bias=bias, border=True)
    elements = step.tokens * channels
    silu = Part(
        name="activation",
        kind="elementwise",
        flops=ACTIVATION["silu"] * elements,
        inner_input_bytes=elements * step.activation_bytes,
        output_bytes=elements * step.activation_bytes,
    )
    return site.operator(
        "attention.conv",
        kind="elementwise",
        parts=(*parts, silu),
        weights=weights,
        summary="Causal convolution of each channel over its last tokens, and a SiLU",
        formula=f"N C ({MULTIPLY_ADD} K + {int(bias)} + {ACTIVATION['silu']})",
        source=f"{source}; {_CONV_SOURCE}",
    )


def conv_letters(channels: int, taps: int) -> tuple[Letter, ...]:
    """C and K."""
    return (
        Letter("C", channels, "channels of the convolution"),
        Letter("K", taps, "tokens that the convolution sees, itself in"),
    )


def chunk_squares(step: Step, chunk: int) -> Number:
    """Of one sequence, the sum over its chunks of their tokens squared; 0 in decode.

    T new tokens are floor(T / chunk) whole chunks and a shorter one of the rest.
    """
    whole, rest = step.new_tokens // chunk, step.new_tokens % chunk
    return (whole * chunk * chunk + rest * rest) * (step.new_tokens > 1)


def single_tokens(step: Step) -> Number:
    """Tokens that are the only new one of their sequence: N in decode, else 0."""
    return step.tokens * (step.new_tokens == 1)


def chunk_letters(step: Step, chunk: int) -> tuple[Letter, ...]:
    """`squares` and `single` with their definitions in words."""
    return (
        Letter(
            "squares",
            chunk_squares(step, chunk),
            f"of a sequence, the sum over its chunks of at most {chunk} new tokens of their tokens"
            " squared; 0 in decode",
        ),
        Letter(
            "single",
            single_tokens(step),
            "tokens that are the only new one of their sequence: N in decode, else 0",
        ),
    )


def gated_norm(
    site: Site,
    step: Step,
    *,
    width: int,
    letters: str,
    weight: int | None,
    gate: Literal["silu", "sigmoid"],
    source: str,
) -> Operator:
    """The operator `attention.gated_norm`: an RMSNorm of the recurrence's output, and its gate.

    Counts 4 FLOPs an element for the norm, and the gate's activation and product.

    Args:
        site: The layers.
        step: The step.
        width: Elements of a token.
        letters: `width` in the letters of the kind.
        weight: Elements of the norm's weight; None: there is no norm.
        gate: The activation of the gate.
        source: Of the layer kind.
    """
    elements = step.tokens * width
    passed = elements * step.activation_bytes
    each = activation_flops("silu", gated=True) if gate == "silu" else SIGMOID + 1
    normed = weight is not None
    weights = () if weight is None else (vector("weight", "norm", weight),)
    parts = [
        Part(
            name="gate",
            kind="elementwise",
            flops=each * elements,
            input_bytes=passed if normed else 2 * passed,
            inner_input_bytes=passed if normed else 0,
            output_bytes=passed,
            operations=2,
        )
    ]
    if normed:
        norm = Part(
            name="norm",
            kind="norm",
            flops=RMS_NORM * elements,
            weight_bytes=sum(one.stored_bytes(step) for one in weights),
            input_bytes=passed,
            inner_output_bytes=passed,
        )
        parts.insert(0, norm)
    return site.operator(
        "attention.gated_norm",
        kind="norm" if normed else "elementwise",
        parts=tuple(parts),
        weights=weights,
        summary=f"{'RMSNorm and gate' if normed else 'Gate'} of the recurrence's output",
        formula=f"{each + (RMS_NORM if normed else 0)} N {letters}",
        source=source,
    )
