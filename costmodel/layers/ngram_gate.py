"""What follows the rows of n-grams: gates of the hidden state, and a convolution over tokens.

Letters: N tokens, D hidden, c streams, Kc kernel. Source: Engram, arXiv 2601.07372, section 2.3.
"""

from costmodel.layers.letters import sum_of
from costmodel.layers.numbers import smaller
from costmodel.layers.operator import Operator, Part, Step, Weight
from costmodel.layers.primitives import (
    MULTIPLY_ADD,
    RMS_NORM,
    SIGMOID,
    activation_flops,
    vector,
)
from costmodel.layers.site import Site

SOURCE = "arXiv 2601.07372, section 2.3; FLOPs per element: costmodel/layers/primitives.py"
GATE = SIGMOID + 3  # of a dot product: scaled, its square root under its own sign, the sigmoid
SILU = activation_flops("silu", gated=False)


def gate(site: Site, step: Step, *, streams: int, sums: bool, wide: bool) -> Operator:
    """Gates of c keys [N, c D] and the hidden state [N, D] or [N, c D] times one value [N, D].

    Formula, of each stream: sigmoid(sign(s) sqrt(abs(s))), s the dot product of key and hidden
    state, both normalised (RMSNorm with a weight of the stream), over sqrt(D).

    Args:
        site: Of the layers.
        step: Of N tokens.
        streams: c.
        sums: Whether the c gated values are added up here; else they leave as they are.
        wide: Whether the hidden state is one vector of each stream.
    """
    n, a, d = step.tokens, step.activation_bytes, site.hidden_size
    stream, of_streams = n * d * a, n * streams * d * a
    elements = n * streams * d
    norms = tuple(vector(name, "norm", streams * d) for name in ("q_norm", "k_norm"))
    adds_up = sums and streams > 1
    parts = [
        Part(
            name="norms",
            kind="norm",
            flops=2 * RMS_NORM * elements,
            weight_bytes=sum(weight.stored_bytes(step) for weight in norms),
            input_bytes=(of_streams if wide else stream) + of_streams,
            inner_output_bytes=2 * of_streams,
            operations=2,
        ),
        Part(
            name="gates",
            kind="elementwise",
            flops=MULTIPLY_ADD * elements + GATE * n * streams,
            inner_input_bytes=2 * of_streams,
            inner_output_bytes=n * streams * a,
        ),
        Part(
            name="product",
            kind="elementwise",
            flops=elements,
            input_bytes=stream,
            inner_input_bytes=n * streams * a,
            inner_output_bytes=of_streams if adds_up else 0,
            output_bytes=0 if adds_up else of_streams,
        ),
    ]
    if adds_up:
        parts.append(_sum_of_streams(step, d, streams))
    return site.operator(
        "ngram.gate",
        kind="elementwise",
        parts=tuple(parts),
        weights=norms,
        summary="The value times a gate of each stream: a sigmoid of how its key suits the hidden"
        " state",
        formula=sum_of(
            f"N c D ({2 * RMS_NORM} + {MULTIPLY_ADD} + 1)",
            f"{GATE} N c",
            adds_up and "N D (c - 1)",
        ),
        source=SOURCE,
    )


def conv(
    site: Site, step: Step, *, streams: int, kernel: int, dilation: int, sums: bool
) -> Operator:
    """The sum over streams of x + silu(a depthwise causal convolution of RMSNorm(x)), x [N, c D].

    State: the normalised vectors that the kernel's Kc - 1 earlier taps reach, `dilation` tokens
    apart. Of a step of T tokens a sequence, those taps read min(T, dilation) vectors each of what
    was there before, and min(T, what the state holds) new ones are written: a ring, in which
    nothing else moves.

    Args:
        site: Of the layers.
        step: Of T new tokens each of B sequences.
        streams: c.
        kernel: Kc.
        dilation: Tokens from one tap to the next.
        sums: Whether the streams' results are added up; else they leave as they are.
    """
    n, a, d = step.tokens, step.activation_bytes, site.hidden_size
    wide = n * streams * d * a
    elements = n * streams * d
    norm = vector("norm", "norm", streams * d)
    taps = Weight(
        name="weight", group="memory_projections", rows=streams * d, cols=kernel, matrix=False
    )
    past = (kernel - 1) * smaller(step.new_tokens, dilation)
    kept = smaller(step.new_tokens, (kernel - 1) * dilation)
    of_vectors = step.batch * streams * d * a
    adds_up = sums and streams > 1
    parts = [
        Part(
            name="norm",
            kind="norm",
            flops=RMS_NORM * elements,
            weight_bytes=norm.stored_bytes(step),
            input_bytes=wide,
            inner_output_bytes=wide,
        ),
        Part(
            name="taps",
            kind="elementwise",
            flops=MULTIPLY_ADD * kernel * elements,
            weight_bytes=taps.stored_bytes(step),
            state_read_bytes=past * of_vectors,
            state_written_bytes=kept * of_vectors,
            inner_input_bytes=wide,
            inner_output_bytes=wide,
            operations=kernel,
        ),
        Part(
            name="activation",
            kind="elementwise",
            flops=(SILU + 1) * elements,
            input_bytes=wide,
            inner_input_bytes=wide,
            inner_output_bytes=wide if adds_up else 0,
            output_bytes=0 if adds_up else wide,
            operations=2,  # SiLU, and the sum with what the convolution read
        ),
    ]
    if adds_up:
        parts.append(_sum_of_streams(step, d, streams))
    return site.operator(
        "ngram.conv",
        kind="elementwise",
        parts=tuple(parts),
        weights=(norm, taps),
        summary="The gated values and SiLU of a depthwise convolution of them over the tokens",
        formula=sum_of(
            f"N c D ({RMS_NORM} + {MULTIPLY_ADD} Kc + {SILU + 1})", adds_up and "N D (c - 1)"
        ),
        source=SOURCE,
    )


def _sum_of_streams(step: Step, hidden_size: int, streams: int) -> Part:
    """The values of c streams added up: N D (c - 1) FLOPs."""
    stream = step.tokens * hidden_size * step.activation_bytes
    return Part(
        name="sum",
        kind="elementwise",
        flops=step.tokens * hidden_size * (streams - 1),
        inner_input_bytes=streams * stream,
        output_bytes=stream,
    )
