"""A gated short convolution in place of attention, as in LFM2.

One projection makes two gates and an input, x = in_proj(u): (b, c, x), each of D. The output is
out_proj(c * conv(b * x)), where conv sees the last K tokens of each channel.
Letters: N tokens, D hidden, K taps. Source: LFM2, arXiv 2511.23404, section 2; names as in the
`config.json` of LiquidAI/LFM2-350M.
"""

from typing import Final, Literal

from pydantic.dataclasses import dataclass

from costmodel.layers.base import MixerKind
from costmodel.layers.letters import Letter, sum_of
from costmodel.layers.operator import Operator, Part, Step
from costmodel.layers.primitives import MULTIPLY_ADD, linear
from costmodel.layers.recurrent import Taps, conv_letters, conv_state_bytes, convolution
from costmodel.layers.site import Site
from costmodel.strict import STRICT

SOURCE: Final = "arXiv 2511.23404, section 2"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ShortConv(MixerKind):
    """Projection, gated causal convolution, projection; D channels."""

    kind: Literal["short_conv"] = "short_conv"
    conv_L_cache: Taps = 3  # K  # noqa: N815 - the name in config.json
    conv_bias: bool = False  # of both projections and the convolution

    def state_bytes(self, hidden_size: int, step: Step) -> int:
        """The last K - 1 inputs of the convolution."""
        return conv_state_bytes(hidden_size, self.conv_L_cache, step)

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """K."""
        del operator, step
        return conv_letters(0, self.conv_L_cache)[1:]

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """in_proj, conv, output."""
        d, bias = site.hidden_size, self.conv_bias
        return [
            linear(
                "attention.in_proj",
                site,
                step,
                inputs=d,
                outputs=3 * d,
                group="attention",
                bias=bias,
                summary="Projection to an input gate, an output gate and an input",
                formula=sum_of("6 N D D", bias and "3 N D"),
                source=SOURCE,
            ),
            self._conv(site, step),
            linear(
                "attention.output",
                site,
                step,
                inputs=d,
                outputs=d,
                group="attention",
                bias=bias,
                summary="Projection of the convolution's output",
                formula=sum_of("2 N D D", bias and "N D"),
                source=SOURCE,
            ),
        ]

    def _conv(self, site: Site, step: Step) -> Operator:
        """The convolution between its two gates: 2 D FLOPs a token for the gates."""
        elements = step.tokens * site.hidden_size
        passed = elements * step.activation_bytes
        conv, weights = convolution(
            step,
            channels=site.hidden_size,
            taps=self.conv_L_cache,
            bias=self.conv_bias,
            border=False,
        )
        input_gate = Part(
            name="input_gate",
            kind="elementwise",
            flops=elements,
            input_bytes=2 * passed,
            inner_output_bytes=passed,
        )
        output_gate = Part(
            name="output_gate",
            kind="elementwise",
            flops=elements,
            input_bytes=passed,
            inner_input_bytes=passed,
            output_bytes=passed,
        )
        return site.operator(
            "attention.conv",
            kind="elementwise",
            parts=(input_gate, *conv, output_gate),
            weights=weights,
            summary="Causal convolution of each channel over its last tokens, between two gates",
            formula=f"N D ({MULTIPLY_ADD} K + {int(self.conv_bias)} + 2)",
            source=SOURCE,
        )
