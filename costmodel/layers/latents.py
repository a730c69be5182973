"""What latent attention does with its latents: their bytes in the cache, up-projections, attention.

Letters: H heads, c latent width, r rotary, p no-position and v value head size. The two modes are
described in `mla.py`. Source: DeepSeek-V2, arXiv 2405.04434, section 2.1 and appendix C.
"""

from dataclasses import dataclass

from costmodel.layers.attention_core import attended_pairs, core
from costmodel.layers.indexer import (
    choice_elements,
    chosen_pairs,
    chosen_tokens,
    priced_keys,
)
from costmodel.layers.kernel_shape import Gemm
from costmodel.layers.operator import Operator, Part, Step, Weight
from costmodel.layers.primitives import RMS_NORM, vector
from costmodel.layers.site import Site


def latent_norm(
    site: Site, step: Step, *, latent: int, query: int | None, formula: str, source: str
) -> Operator:
    """RMSNorm of a token's latent and, where there is one, of its compressed query.

    `formula` is the sum of both widths in the letters of the kind.
    """
    weights = [vector("kv_norm", "norm", latent)]
    if query is not None:
        weights.append(vector("q_norm", "norm", query))
    elements = step.tokens * sum(w.rows for w in weights)
    return site.operator(
        "attention.latent_norm",
        kind="norm",
        parts=(
            Part(
                name="norm",
                kind="norm",
                flops=RMS_NORM * elements,
                weight_bytes=sum(w.stored_bytes(step) for w in weights),
                input_bytes=elements * step.activation_bytes,
                output_bytes=elements * step.activation_bytes,
                operations=len(weights),
            ),
        ),
        weights=tuple(weights),
        summary="RMSNorm of the latent and of the compressed query, if there is one",
        formula=f"{RMS_NORM} N {formula}",
        source=source,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Latents:
    """The sizes of latents and of the heads that attend to them."""

    heads: int  # H
    latent: int  # c
    rotary: int  # r
    nope: int  # p
    value: int  # v
    topk: int | None  # tokens that a query attends to; None: all

    def token_bytes(self, step: Step) -> int:
        """Of a cached token: its latent and rotary key; expanded, keys and values of all heads."""
        if step.mla_cache == "latent":
            return self._latent_bytes(step) + self._rotary_bytes(step)
        key = step.kv_dtype.row_bytes(self.nope + self.rotary)
        return self.heads * (key + step.kv_dtype.row_bytes(self.value))

    def _latent_bytes(self, step: Step) -> int:
        return step.kv_dtype.row_bytes(self.latent)

    def _rotary_bytes(self, step: Step) -> int:
        """Of the one rotary key of a token, which a layout of the cache may keep in more bits."""
        bits = step.kv_dtype.rotary_bits
        return -(-self.rotary * bits // 8) if bits else step.kv_dtype.row_bytes(self.rotary)

    def keys_up(self, site: Site, step: Step) -> Operator:
        """`k_up`: rebuilds keys, or maps queries into the latent space."""
        return self._up("k_up", self.nope, site, step, reads_latents=True)

    def values_up(self, site: Site, step: Step) -> Operator:
        """`v_up`: rebuilds values, or maps results out of the latent space."""
        return self._up("v_up", self.value, site, step, reads_latents=False)

    def _up(
        self, leaf: str, head_dim: int, site: Site, step: Step, *, reads_latents: bool
    ) -> Operator:
        """Per head, c to `head_dim`: of the new tokens, or of all attended ones.

        2 N H c head_dim FLOPs where attention is absorbed or the cache expanded; where attention is
        expanded and the cache holds latents, 2 B (S + T) H c head_dim. The cached latents are read
        once: by `k_up` when expanded, by the core when absorbed.
        """
        h, c = self.heads, self.latent
        expanded = step.mla == "expanded"
        rebuilds = expanded and step.mla_cache == "latent"
        tokens = step.batch * (step.cached + step.new_tokens) if rebuilds else step.tokens
        weight = Weight(
            name="weight", group="attention", rows=h * head_dim, cols=c, leaf=f"attention.{leaf}"
        )
        latents = step.batch * step.cached * self._latent_bytes(step)
        # Rebuilding, `v_up` reads the cached latents a second time: activations, not compulsory.
        fresh = step.tokens if reads_latents else tokens
        inputs, outputs = fresh * c, tokens * h * head_dim
        if not expanded:  # queries into the latent space, or results out of it
            narrow, wide = tokens * h * head_dim, tokens * h * c
            inputs, outputs = (narrow, wide) if reads_latents else (wide, narrow)
        if expanded:
            what = "Keys" if reads_latents else "Values"
            which = "every attended token, rebuilt" if rebuilds else "every new token, built"
            summary = f"{what} of {which} from its latent"
        else:
            summary = (
                "Queries mapped into the latent space, where attention runs"
                if reads_latents
                else "Results of attention mapped out of the latent space"
            )
        return site.operator(
            f"attention.{leaf}",
            kind="matmul",
            parts=(
                Part(
                    name="gemm",
                    kind="matmul",
                    flops=2 * tokens * h * c * head_dim,
                    weight_bytes=weight.stored_bytes(step),
                    kv_read_bytes=latents if rebuilds and reads_latents else 0,
                    input_bytes=inputs * step.activation_bytes,
                    output_bytes=outputs * step.activation_bytes,
                    shape=Gemm(m=tokens, n=h * head_dim, k=c),
                ),
            ),
            weights=(weight,),
            summary=summary,
            formula=f"2 {'B (S + T)' if rebuilds else 'N'} H c {'p' if reads_latents else 'v'}",
            source="arXiv 2405.04434, appendix C",
        )

    def core(self, site: Site, step: Step) -> Operator:
        """Attention over latents, or over keys and values, of all tokens or of those chosen."""
        h, c, r, p, v = self.heads, self.latent, self.rotary, self.nope, self.value
        expanded = step.mla == "expanded"
        cached, topk = step.batch * step.cached, self.topk
        rebuilds = expanded and step.mla_cache == "latent"  # of all held tokens, chosen or not
        read = step.cached if topk is None or rebuilds else chosen_tokens(step, topk)
        token_bytes = self._rotary_bytes(step) if rebuilds else self.token_bytes(step)
        if rebuilds:  # queries and rotary keys of new tokens; rebuilt keys and values
            inputs = step.tokens * (h * (p + r) + r) + (cached + step.tokens) * h * (p + v)
        elif expanded:  # queries, keys and values of new tokens
            inputs = step.tokens * h * (2 * (p + r) + v)
        else:
            inputs = step.tokens * (h * (c + r) + c + r)
        return core(
            site,
            step,
            pairs=attended_pairs(step, None) if topk is None else chosen_pairs(step, topk),
            heads=h,
            kv_heads=h if expanded else 1,  # all heads share the latents
            key_dim=p + r if expanded else c + r,
            value_dim=v if expanded else c,
            keys=step.cached + step.new_tokens if topk is None else priced_keys(step, topk),
            kv_read_bytes=step.batch * read * token_bytes,
            input_elements=inputs + (0 if topk is None else choice_elements(step, topk)),
            output_elements=step.tokens * h * (v if expanded else c),
            operations=3 if rebuilds else 2,  # queries joined, rebuilt keys joined, attention
            formula=f"2 B pairs H {'(p + r + v)' if expanded else '(c + r + c)'}",
            source="arXiv 2405.04434, appendix C",
        )
