"""Mamba-2: a state-space layer whose state decays by one scalar a head.

One projection makes a gate z, an input x, B and C of each group, and a step size dt of each head;
x, B and C pass a causal convolution. Of each head, with its group's B and C:

    h = exp(-exp(A_log) dt) h + dt x B^T;  y = h C + D x

Then the gate, a norm, and the output projection. Its state has di Ns elements.
Letters: N tokens, D hidden, nh heads of P, di = nh P, G groups, Ns state size, K taps,
C = di + 2 G Ns channels. Source: arXiv 2405.21060; names as in the `config.json` of Granite 4.
"""

from dataclasses import replace
from typing import Final, Literal, Self

from pydantic.dataclasses import dataclass

from costmodel.errors import InputError
from costmodel.layers.base import Count, MixerKind, Width
from costmodel.layers.letters import Letter, sum_of
from costmodel.layers.mesh import Mesh
from costmodel.layers.operator import Operator, Part, Step
from costmodel.layers.primitives import MULTIPLY_ADD, SOFTPLUS, linear, vector
from costmodel.layers.recurrent import (
    STATE_ELEMENT_BYTES,
    STATE_PRODUCTS,
    Chunk,
    Taps,
    chunk_letters,
    chunk_squares,
    conv_letters,
    conv_state_bytes,
    gated_norm,
    silu_convolution,
    single_tokens,
)
from costmodel.layers.site import Site
from costmodel.strict import STRICT

SOURCE: Final = "arXiv 2405.21060"
STEP_GATES: Final = SOFTPLUS + 3  # softplus(dt + bias), times -exp(A), which is a constant; its exp


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Mamba2(MixerKind):
    """nh heads of P with a state of P x Ns each, in float32, and a convolution before them."""

    kind: Literal["mamba2"] = "mamba2"
    mamba_n_heads: Count  # nh
    mamba_d_head: Width  # P; nh P is the inner width, whatever `mamba_expand` of a file says
    mamba_n_groups: Count = 1  # G: heads of a group share B and C
    mamba_d_state: Width  # Ns
    mamba_d_conv: Taps = 4  # K
    mamba_conv_bias: bool = True
    mamba_proj_bias: bool = False  # of both projections
    mamba_rms_norm: bool = True  # of the gated output, in each group
    mamba_chunk_size: Chunk = 256  # tokens of a prompt that meet by matrix products

    def __post_init__(self) -> None:
        """Heads share groups evenly."""
        if self.mamba_n_heads % self.mamba_n_groups:
            raise InputError(
                f"mamba_n_heads={self.mamba_n_heads}: is not a multiple of"
                f" mamba_n_groups={self.mamba_n_groups}"
            )

    def split(self, mesh: Mesh) -> Self:
        """Nh / tp heads; G / tp groups, or one whose B and C tp / G GPUs have alike."""
        tp, groups = mesh.tp, self.mamba_n_groups
        if groups % tp and tp % groups:
            raise InputError(
                f"tp={tp}: is neither a divisor nor a multiple of mamba_n_groups={groups}"
            )
        heads = mesh.of_tp(self.mamba_n_heads, "mamba_n_heads")
        return replace(self, mamba_n_heads=heads, mamba_n_groups=max(groups // tp, 1))

    @property
    def inner(self) -> int:
        """The inner width di, of all heads."""
        return self.mamba_n_heads * self.mamba_d_head

    @property
    def channels(self) -> int:
        """C: x, B and C pass the convolution."""
        return self.inner + 2 * self.mamba_n_groups * self.mamba_d_state

    @property
    def _state_bytes(self) -> int:
        """Of one sequence, without the convolution's."""
        return self.inner * self.mamba_d_state * STATE_ELEMENT_BYTES

    def state_bytes(self, hidden_size: int, step: Step) -> int:
        """State of di Ns elements in float32, and the last K - 1 inputs of the convolution."""
        del hidden_size
        return self._state_bytes + conv_state_bytes(self.channels, self.mamba_d_conv, step)

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """Heads, widths, groups, state size, squares, single, C, K."""
        del operator
        return (
            Letter("nh", self.mamba_n_heads, "heads"),
            Letter("di", self.inner, "inner width, of all heads"),
            Letter("G", self.mamba_n_groups, "groups of heads that share B and C"),
            Letter("Ns", self.mamba_d_state, "state size"),
            *chunk_letters(step, self.mamba_chunk_size),
            *conv_letters(self.channels, self.mamba_d_conv),
        )

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """in_proj, conv, recurrence, gated_norm, output."""
        inner, bias = self.inner, self.mamba_proj_bias
        outputs = "(di + C + nh)"
        return [
            linear(
                "attention.in_proj",
                site,
                step,
                inputs=site.hidden_size,
                outputs=inner + self.channels + self.mamba_n_heads,
                group="attention",
                bias=bias,
                summary="Projection to gate, input, B, C and step sizes",
                formula=sum_of(f"2 N D {outputs}", bias and f"N {outputs}"),
                source=SOURCE,
            ),
            silu_convolution(
                site,
                step,
                channels=self.channels,
                taps=self.mamba_d_conv,
                bias=self.mamba_conv_bias,
                source=SOURCE,
            ),
            self._recurrence(site, step),
            gated_norm(
                site,
                step,
                width=inner,
                letters="di",
                weight=inner if self.mamba_rms_norm else None,
                gate="silu",
                source=SOURCE,
            ),
            linear(
                "attention.output",
                site,
                step,
                inputs=inner,
                outputs=site.hidden_size,
                group="attention",
                bias=bias,
                summary="Projection of all heads' results back to the hidden size",
                formula=sum_of("2 N di D", bias and "N D"),
                source=SOURCE,
            ),
        ]

    def _recurrence(self, site: Site, step: Step) -> Operator:
        """Step sizes, the recurrence, and the skip D x.

        Counts, a token: 5 di Ns in decode (decay 1, writing 2, reading 2), and in a chunk of l
        tokens 4 di Ns + 2 l G Ns + 2 l di: B by C of each group, their product with x, whole
        squares as kernels compute them. 6 a step size; 3 an element of x for its step size and the
        skip. The state is read and written whole in every step.
        Leaves out: the decays within a chunk.
        """
        n, a = step.tokens, step.activation_bytes
        inner, size, heads = self.inner, self.mamba_d_state, self.mamba_n_heads
        squares = step.batch * chunk_squares(step, self.mamba_chunk_size)
        products = 4 * inner * size
        in_chunks = squares * (self.mamba_n_groups + heads) * STATE_ELEMENT_BYTES
        state = step.batch * self._state_bytes
        weights = tuple(vector(name, "attention", heads) for name in ("A_log", "D", "dt_bias"))
        steps = n * heads
        parts = (
            Part(
                name="gates",
                kind="elementwise",
                flops=STEP_GATES * steps,
                weight_bytes=sum(weight.stored_bytes(step) for weight in weights),
                input_bytes=steps * a,
                inner_output_bytes=2 * steps * STATE_ELEMENT_BYTES,
                operations=5,  # bias, softplus, exp of A, product, exp
            ),
            Part(
                name="decay",
                kind="recurrence",
                flops=single_tokens(step) * inner * size,
                inner_input_bytes=steps * STATE_ELEMENT_BYTES,
            ),
            Part(
                name=STATE_PRODUCTS,
                kind="recurrence",
                flops=products * n + squares * (2 * self.mamba_n_groups * size + 2 * inner),
                state_read_bytes=state,
                state_written_bytes=state,
                input_bytes=n * self.channels * a,
                inner_input_bytes=steps * STATE_ELEMENT_BYTES + in_chunks,
                inner_output_bytes=in_chunks,
                output_bytes=n * inner * a,
                operations=4,  # x by its step size, write, read, keep
            ),
            Part(
                name="skip",
                kind="elementwise",
                flops=(1 + MULTIPLY_ADD) * n * inner,  # dt x, and y + D x
                operations=1,
            ),
        )
        return site.operator(
            "attention.recurrence",
            kind="recurrence",
            parts=parts,
            weights=weights,
            summary="The state of each head decays, takes x B^T and is read by C",
            formula=f"{STEP_GATES} N nh + single di Ns + 4 N di Ns + B squares (2 G Ns + 2 di)"
            f" + {1 + MULTIPLY_ADD} N di",
            source=SOURCE,
        )
