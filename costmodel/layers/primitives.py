"""What all layers are made of: norms, projections, activations, and their FLOPs per element.

The one table of FLOPs for everything that is not a matrix product, attention or a gather. Each
add, subtract, multiply, divide, exp, tanh and square root counts 1; a maximum or a choice counts 0
FLOPs (choices are `compares`). Left out: terms of one operation a row (mean, epsilon, rsqrt).
Source: operation counts of the definitions (RMSNorm arXiv 1910.07467, RoPE 2104.09864, SiLU and
GELU 1606.08415, SwiGLU 2002.05202).
"""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from costmodel.layers.formats import Group
from costmodel.layers.kernel_shape import Gemm
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Buffer, Operator, Part, Step, Weight
from costmodel.layers.site import Site

RMS_NORM = 4  # square, add into the mean, scale, weight
LAYER_NORM = 6  # those, and before them add into the mean, subtract it; its bias: one more
SOFTCAP = 3  # divide, tanh, multiply: logits kept within a bound (Gemma 2, arXiv 2408.00118)
SOFTMAX = 4  # subtract the maximum, exp, add into the sum, divide
SIGMOID = 3  # exp, add, divide
SOFTPLUS = 3  # exp, add, logarithm, which counts as an exp does
L2_NORM = 3  # square, add into the sum, scale: a vector brought to length 1, without a weight
ROTARY = 3  # a rotated pair takes four multiplies and two adds
MULTIPLY_ADD = 2

Activation: TypeAlias = Literal["silu", "gelu", "relu", "relu2", "clamped_silu"]
ACTIVATION: dict[Activation, int] = {
    "silu": 4,  # x sigmoid(x)
    "gelu": 9,  # 0.5 x (1 + tanh(a (x + b x^3))): the tanh form
    "relu": 0,  # a maximum
    "relu2": 1,  # its square (Primer, arXiv 2109.08668)
    "clamped_silu": 6,  # gpt-oss: x sigmoid(alpha x), and + 1 on the linear half; clamps are free
}


def activation_flops(activation: Activation, *, gated: bool) -> int:
    """FLOPs of one activated element, the product with its gate included."""
    return ACTIVATION[activation] + (1 if gated else 0)


LAYER_NORM_PART: Final = "layer_norm"


@dataclass(frozen=True, slots=True, kw_only=True)
class NormForm:
    """Which norm the blocks of a model have, and what it costs an element."""

    name: str
    part: str  # of the operator
    flops: int  # an element
    bias: bool = False
    source: str


RMS: Final = NormForm(name="RMSNorm", part="norm", flops=RMS_NORM, source="arXiv 1910.07467")


def layer_norm(*, bias: bool) -> NormForm:
    """LayerNorm, with or without a bias."""
    return NormForm(
        name="LayerNorm",
        part=LAYER_NORM_PART,
        flops=LAYER_NORM + bias,
        bias=bias,
        source="arXiv 1607.06450",
    )


def norm(
    leaf: str,
    site: Site,
    step: Step,
    *,
    form: NormForm = RMS,
    residual_adds: int = 0,
    joins: bool = False,
    tokens: Number | None = None,
) -> Operator:
    """A norm over D, after the residual adds that wait for it.

    `tokens`, where given, are the last ones of the B sequences; without it all N are normalised.
    With `joins`, what is normalised is the output of a sublayer, which then joins the stream
    (OLMo 2, arXiv 2501.00656, section 3.2). Counts 4 D FLOPs a token (LayerNorm 6 D, and D for its
    bias), and D for each add. Leaves out: the one rsqrt a token.
    Source: RMSNorm, arXiv 1910.07467; LayerNorm, arXiv 1607.06450.
    """
    assert not (joins and residual_adds), "nothing waits for a norm whose result joins the stream"
    n = step.tokens if tokens is None else tokens
    adds = f"{residual_adds} residual add{'' if residual_adds == 1 else 's'}"
    elements = n * site.hidden_size
    stream = elements * step.activation_bytes
    names = ("weight", "bias") if form.bias else ("weight",)
    weights = tuple(vector(name, "norm", site.hidden_size) for name in names)
    parts = []
    if residual_adds:
        parts.append(
            Part(
                name="residual_add",
                kind="elementwise",
                flops=residual_adds * elements,
                input_bytes=(1 + residual_adds) * stream,
                output_bytes=stream,
                operations=residual_adds,
            )
        )
    parts.append(
        Part(
            name=form.part,
            kind="norm",
            flops=form.flops * elements,
            weight_bytes=sum(weight.stored_bytes(step) for weight in weights),
            input_bytes=0 if residual_adds else stream,
            output_bytes=0 if joins else stream,
            inner_input_bytes=stream if residual_adds else 0,
            inner_output_bytes=stream if joins else 0,
        )
    )
    if joins:
        parts.append(
            Part(
                name="residual_add",
                kind="elementwise",
                flops=elements,
                input_bytes=stream,
                inner_input_bytes=stream,
                output_bytes=stream,
            )
        )
    return site.operator(
        leaf,
        kind="norm",
        parts=tuple(parts),
        weights=weights,
        summary=f"{form.name} of a sublayer's output, which then joins the residual stream"
        if joins
        else f"{form.name} of the hidden state{f', after {adds}' if residual_adds else ''}",
        formula=f"{'N' if tokens is None else 'B'} D ({form.flops} + {residual_adds + joins})",
        source=f"{form.source}; FLOPs per element: costmodel/layers/primitives.py",
    )


def linear(
    leaf: str,
    site: Site,
    step: Step,
    *,
    inputs: int,
    outputs: int,
    group: Group,
    bias: bool = False,
    activation: Activation | None = None,
    gated: bool = False,
    extra: tuple[Part, ...] = (),
    extra_weights: tuple[Weight, ...] = (),
    routing: bool = False,
    name: str = "gemm",
    matrix_rows: tuple[int, ...] = (),
    summary: str = "",
    formula: str,
    source: str,
) -> Operator:
    """A projection of N = B T tokens from `inputs` to `outputs`, with bias and activation.

    Counts 2 N inputs outputs FLOPs (a multiply-add is 2), N outputs for a bias. With `gated`, the
    outputs are two halves and the activation of one multiplies the other. `matrix_rows`: the
    outputs of each matrix that the checkpoint holds, where it is not one, or two halves.
    Leaves out: tile padding (executed FLOPs are more, see the counters).
    """
    n, a = step.tokens, step.activation_bytes
    left = outputs // 2 if gated else outputs
    stays_inside = bool(activation or extra)  # what the GEMM writes, a later part reads
    weights = [
        Weight(
            name="weight",
            group=group,
            rows=outputs,
            cols=inputs,
            leaf=site.named(leaf),
            matrix_rows=matrix_rows or ((left, left) if gated else ()),
        )
    ]
    bias_bytes = 0
    if bias:
        weights.append(Weight(name="bias", group=group, rows=outputs, matrix=False))
        bias_bytes = weights[1].stored_bytes(step)
    parts = [
        Part(
            name=name,
            kind="matmul",
            flops=2 * n * inputs * outputs,
            weight_bytes=weights[0].stored_bytes(step),
            input_bytes=n * inputs * a,
            output_bytes=0 if stays_inside else n * outputs * a,
            inner_output_bytes=n * outputs * a if stays_inside else 0,
            routing=routing,
            shape=Gemm(m=n, n=outputs, k=inputs),
        )
    ]
    if bias:
        parts.append(
            Part(
                name="bias",
                kind="elementwise",
                flops=n * outputs,
                weight_bytes=bias_bytes,
                operations=0,
                routing=routing,
            )
        )
    if activation:
        parts.append(
            Part(
                name="activation",
                kind="elementwise",
                flops=activation_flops(activation, gated=gated) * n * left,
                output_bytes=n * left * a,
                inner_input_bytes=n * outputs * a,
                operations=2 if gated else 1,
            )
        )
    return site.operator(
        leaf,
        kind="matmul",
        parts=(*parts, *extra),
        weights=(*weights, *extra_weights),
        summary=summary,
        formula=formula,
        source=source,
    )


def vector(name: str, group: Group, elements: int) -> Weight:
    """A parameter that is never quantised: a norm, a bias, sinks, Tucker cores."""
    return Weight(name=name, group=group, rows=elements, matrix=False)


def permutation(elements: int) -> Buffer:
    """A random permutation kept as int64."""
    return Buffer(name="permutation", elements=elements, element_bytes=8)
