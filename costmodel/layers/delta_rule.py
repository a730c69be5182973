"""The delta rule with decay: a matrix of dk x dv a head that forgets, is corrected, and is read.

    S = diag(exp g) S;  S = S + k (beta (v - S^T k))^T;  o = S^T q

The log decay g is one number a head (gated delta net) or one a key channel (KDA). In a prompt the
tokens of a chunk meet by matrix products, and the state is touched once a chunk.
Letters: N tokens, B sequences, Hv heads of values, dk and dv sizes of a head's key and value,
squares and single of `recurrent.py`. Sources: arXiv 2412.06464, equation 10 and section 3.3;
arXiv 2510.26692, section 3.
"""

from dataclasses import dataclass
from typing import Final

from costmodel.layers.letters import Letter
from costmodel.layers.operator import Operator, Part, Step
from costmodel.layers.primitives import L2_NORM, SIGMOID, SOFTPLUS, vector
from costmodel.layers.recurrent import (
    STATE_ELEMENT_BYTES,
    STATE_PRODUCTS,
    Chunk,
    chunk_letters,
    chunk_squares,
    single_tokens,
)
from costmodel.layers.site import Site

DEFAULT_CHUNK: Final[Chunk] = 64  # of the kernels that the papers publish
DECAY_GATE: Final = SOFTPLUS + 3  # -exp(A) softplus(x + bias), and its exp; exp(A) is a constant
_SQUARES: Final = 2  # of a chunk and head: keys by keys, queries by keys


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaRule:
    """The heads of a layer, and what decays."""

    heads: int  # Hv
    key_heads: int  # Hk: each serves Hv / Hk heads
    key_dim: int  # dk
    value_dim: int  # dv
    channel_decay: bool  # a decay for each key channel, not for each head
    chunk: int

    @property
    def decays(self) -> int:
        """Decays of a token."""
        return self.heads * (self.key_dim if self.channel_decay else 1)

    @property
    def state_bytes(self) -> int:
        """Of one sequence: Hv dk dv elements in float32."""
        return self.heads * self.key_dim * self.value_dim * STATE_ELEMENT_BYTES

    def letters(self, step: Step) -> tuple[Letter, ...]:
        """Hv, Hk, dk, dv, squares, single."""
        return (
            Letter("Hv", self.heads, "heads of values"),
            Letter("Hk", self.key_heads, "heads of queries and keys"),
            Letter("dk", self.key_dim, "key size of a head"),
            Letter("dv", self.value_dim, "value size of a head"),
            *chunk_letters(step, self.chunk),
        )

    def operator(self, site: Site, step: Step, source: str) -> Operator:
        """The operator `attention.recurrence`: gates, norms of queries and keys, decay, products.

        Counts, a token: 7 Hv dk dv in decode (the decay 1, reading by the key 2, writing 2, reading
        by the query 2), and in a chunk of c tokens Hv (6 dk dv + 6 c dk + 4 c dv): keys by keys,
        queries by keys, and the three products with the chunk's corrections, whole squares as
        kernels compute them. Gates: 6 for a decay, 3 for a beta; 3 for each element that is brought
        to length 1. The state is read and written whole in every step.
        Leaves out: the inverse of a chunk's triangle and the decays within a chunk.
        """
        n, a = step.tokens, step.activation_bytes
        head = self.key_dim * self.value_dim
        squares = step.batch * chunk_squares(step, self.chunk) * self.heads
        query_key = 2 * n * self.key_heads * self.key_dim
        values = n * self.heads * self.value_dim
        gates = n * (self.decays + self.heads)
        in_chunks = squares * _SQUARES * STATE_ELEMENT_BYTES
        state = step.batch * self.state_bytes
        weights = (
            vector("A_log", "attention", self.heads),
            vector("dt_bias", "attention", self.decays),
        )
        parts = (
            Part(
                name="gates",
                kind="elementwise",
                flops=n * (DECAY_GATE * self.decays + SIGMOID * self.heads),
                weight_bytes=sum(weight.stored_bytes(step) for weight in weights),
                input_bytes=gates * a,
                inner_output_bytes=gates * STATE_ELEMENT_BYTES,
                operations=5,  # sigmoid; bias, softplus, exp of A, product
            ),
            Part(
                name="qk_norm",
                kind="norm",
                flops=L2_NORM * query_key,
                input_bytes=query_key * a,
                inner_output_bytes=query_key * STATE_ELEMENT_BYTES,
                operations=2,  # of queries and of keys
            ),
            Part(
                name="decay",
                kind="recurrence",
                flops=single_tokens(step) * self.heads * head,
                inner_input_bytes=gates * STATE_ELEMENT_BYTES,
            ),
            Part(
                name=STATE_PRODUCTS,
                kind="recurrence",
                flops=6 * n * self.heads * head + squares * (6 * self.key_dim + 4 * self.value_dim),
                state_read_bytes=state,
                state_written_bytes=state,
                input_bytes=values * a,
                inner_input_bytes=query_key * STATE_ELEMENT_BYTES + in_chunks,
                inner_output_bytes=in_chunks,
                output_bytes=values * a,
                operations=6,  # read, correct 2, write, read, keep
            ),
        )
        decays = "Hv dk" if self.channel_decay else "Hv"
        return site.operator(
            "attention.recurrence",
            kind="recurrence",
            parts=parts,
            weights=weights,
            summary="Delta rule with decay: the state of each head forgets, is corrected by the new"
            " key and value, and is read by the query",
            formula=f"N ({DECAY_GATE} {decays} + {SIGMOID} Hv) + {2 * L2_NORM} N Hk dk"
            " + single Hv dk dv + 6 N Hv dk dv + B squares Hv (6 dk + 4 dv)",
            source=source,
        )
