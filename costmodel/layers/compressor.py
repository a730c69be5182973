"""A compressor: it makes one entry of each m tokens of a sequence, their mean with learnt weights.

Letters: N = B T tokens, S cached tokens, D hidden, m tokens of an entry, w width of an entry, s
series: 2 where entries overlap, else 1; r rotated elements, made entries of a step.
A token is projected to a value and a gate of w for each series. An entry is the softmax of the
gates over its tokens, element by element, times the values; then a norm and a rotation. With two
series an entry takes the second of its own m tokens and the first of the m before them. Tokens of
an entry that is not whole yet wait in a state: value as activations are stored, gate in float32.
Source: DeepSeek-V4, transformers 5.24 (`modeling_deepseek_v4`); the layout of the state, m or 2 m
tokens: the release's own code.
"""

from dataclasses import dataclass

from costmodel.layers.numbers import Number, larger, smaller
from costmodel.layers.operator import Operator, Part, Step, Weight
from costmodel.layers.primitives import MULTIPLY_ADD, RMS_NORM, ROTARY, SOFTMAX, linear, vector
from costmodel.layers.recurrent import STATE_ELEMENT_BYTES
from costmodel.layers.site import Site

SOURCE = "transformers 5.24, modeling_deepseek_v4"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compressor:
    """The sizes of a compressor."""

    name: str  # of its leaves: "compress", or that of an indexer's keys
    width: int  # w
    ratio: int  # m
    overlapping: bool
    rotated: int  # r
    what: str  # its entries, in words
    position_bias: bool = True  # of the gates

    @property
    def series(self) -> int:
        """How many: the letter s."""
        return 2 if self.overlapping else 1

    @property
    def pooled(self) -> int:
        """Tokens that an entry is a mean of."""
        return self.series * self.ratio

    @property
    def gated(self) -> bool:
        """Whether an entry is of several tokens."""
        return self.pooled > 1

    def entry_bytes(self, step: Step) -> int:
        """Of one entry in the cache."""
        return step.kv_dtype.row_bytes(self.width)

    def made(self, step: Step) -> Number:
        """Entries of a sequence that become whole in the step."""
        return (step.cached + step.new_tokens) // self.ratio - step.cached // self.ratio

    def state_bytes(self, step: Step) -> int:
        """Values and gates of s m tokens of s w, which wait for their entry; none for m = s = 1."""
        return self.pooled * self.series * self._vector_bytes(step) if self.gated else 0

    def _vector_bytes(self, step: Step) -> int:
        """Of the value and the gate of a token in one series."""
        return self.width * (step.activation_bytes + STATE_ELEMENT_BYTES)

    def _state_traffic(self, step: Step) -> tuple[Number, Number]:
        """Bytes that a sequence reads of its state, and writes to it.

        Read are, once an entry becomes whole, its tokens of earlier steps; written the new tokens
        of an entry that is not whole at the end. Of two series the first is read a whole entry
        later than the second, and so are those of the last whole entry written.
        """
        held, m, made = step.cached + step.new_tokens, self.ratio, self.made(step)
        waiting = step.cached % m
        read = (made >= 1) * waiting
        written = smaller(step.new_tokens, held % m) * self.series
        if self.overlapping:
            read = read + (made > 1) * waiting + (made >= 1) * (step.cached >= m) * m
            written = written + smaller(larger(step.new_tokens - held % m, 0), m)
        each = self._vector_bytes(step) if self.gated else 0
        return read * each, written * each

    def _bias(self) -> tuple[Weight, ...]:
        """One of each gate, by the position among the m tokens."""
        if not (self.gated and self.position_bias):
            return ()
        return (
            Weight(
                name="position_bias",
                group="attention",
                rows=self.ratio,
                cols=self.series * self.width,
                matrix=False,
            ),
        )

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """The projection to values and gates, and the entries."""
        columns = self.series * self.width
        matrices = (columns, columns) if self.gated else (columns,)
        return [
            linear(
                f"attention.{self.name}_in",
                site,
                step,
                inputs=site.hidden_size,
                outputs=sum(matrices),
                group="attention",
                matrix_rows=matrices,
                summary=f"Values{' and gates' if self.gated else ''} of which {self.what} are made",
                formula=f"{MULTIPLY_ADD} N D {len(matrices)} s w",
                source=SOURCE,
            ),
            self._entries(site, step),
        ]

    def _entries(self, site: Site, step: Step) -> Operator:
        """The new entries: gates, softmax, weighted sum, norm, rotation, the write to the cache.

        Counts an add for each gate, then a softmax and a multiply-add for each of s m tokens of an
        entry. Weights are read whole in every step. Leaves out: that the first entry of a sequence
        has none before it.
        """
        a, n = step.activation_bytes, step.tokens
        made = step.batch * self.made(step)
        elements, pooled = made * self.width, made * self.pooled * self.width
        projected = n * self.series * self.width
        norm = vector("norm", "norm", self.width)
        weights: tuple[Weight, ...] = (norm,)
        parts: list[Part] = []
        if self.gated:
            weights = (*self._bias(), norm)
            read, written = self._state_traffic(step)
            parts = [
                Part(
                    name="position_bias" if self.position_bias else "state_write",
                    kind="elementwise",
                    flops=projected if self.position_bias else 0,
                    weight_bytes=sum(weight.stored_bytes(step) for weight in self._bias()),
                    state_written_bytes=step.batch * written,
                    input_bytes=2 * projected * a,
                    inner_output_bytes=2 * projected * a,
                    operations=3,  # the bias of a position, its sum, the write to the state
                ),
                Part(
                    name="softmax",
                    kind="elementwise",
                    flops=SOFTMAX * pooled,
                    state_read_bytes=step.batch * read,
                    inner_input_bytes=pooled * a,
                    inner_output_bytes=pooled * a,
                ),
                Part(
                    name="sum",
                    kind="elementwise",
                    flops=MULTIPLY_ADD * pooled,
                    inner_input_bytes=2 * pooled * a,
                    inner_output_bytes=elements * a,
                    operations=2,
                ),
            ]
        parts += [
            Part(
                name="norm",
                kind="norm",
                flops=RMS_NORM * elements,
                weight_bytes=norm.stored_bytes(step),
                input_bytes=0 if self.gated else elements * a,
                inner_input_bytes=elements * a if self.gated else 0,
                inner_output_bytes=elements * a,
            ),
            Part(
                name="rotary",
                kind="elementwise",
                flops=ROTARY * made * self.rotated,
                inner_input_bytes=elements * a,
                inner_output_bytes=elements * a,
            ),
            Part(
                name="cache_write",
                kind="elementwise",
                kv_written_bytes=made * self.entry_bytes(step),
                inner_input_bytes=elements * a,
                output_bytes=elements * a,
            ),
        ]
        added = "N s w + " if self.position_bias else ""
        gates = f"{added}{SOFTMAX + MULTIPLY_ADD} B made s m w + " if self.gated else ""
        return site.operator(
            f"attention.{self.name}",
            kind="elementwise",
            parts=tuple(parts),
            weights=weights,
            summary=f"The {self.what} that become whole: softmax of gates over their tokens, norm,"
            " rotation, and the write to the cache"
            if self.gated
            else f"The {self.what}: norm, rotation, and the write to the cache",
            formula=f"{gates}{RMS_NORM} B made w + {ROTARY} B made r",
            source=SOURCE,
        )
