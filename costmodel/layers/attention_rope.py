"""What stands between attention's projection and its core: norms, rotation, the cache write.

Letters: N tokens, H query heads, K key-value heads, d head size, dv that of values, dr rotated
elements of a head. A layer that reads the keys and values of another treats its queries alone.
"""

from typing import TYPE_CHECKING

from costmodel.layers.letters import sum_of
from costmodel.layers.operator import Operator, Part, Step, Weight
from costmodel.layers.primitives import L2_NORM, RMS_NORM, ROTARY, vector
from costmodel.layers.site import Site

if TYPE_CHECKING:  # attention is written with it
    from costmodel.layers.attention import Attention

VALUE_NORM = RMS_NORM - 1  # no weight


def rope(layer: "Attention", site: Site, step: Step) -> Operator:
    """Norms, rotary embedding and the cache write: one pass over queries, keys and values.

    Leaves out: the factor that queries grow by, one logarithm a token.
    """
    n, a = step.tokens, step.activation_bytes
    rotated, normed = layer.rotated, layer.qk_norm != "none"
    heads = layer.num_attention_heads + (0 if layer.shared_kv else layer.num_key_value_heads)
    passed = n * heads * layer.head_dim * a  # queries, and keys of its own
    values = n * layer.num_key_value_heads * layer.value_dim
    parts: list[Part] = []
    weights = _norm_weights(layer)
    per_element = L2_NORM if layer.qk_norm == "head_unweighted" else RMS_NORM
    if normed:
        parts.append(
            Part(
                name="qk_norm",
                kind="norm",
                flops=per_element * n * heads * layer.head_dim,
                weight_bytes=sum(w.stored_bytes(step) for w in weights),
                inner_input_bytes=passed,
                inner_output_bytes=passed,
                operations=1 if layer.shared_kv else 2,
            )
        )
    if layer.value_norm:
        parts.append(
            Part(
                name="value_norm",
                kind="norm",
                flops=VALUE_NORM * values,
                inner_input_bytes=values * a,
                inner_output_bytes=values * a,
            )
        )
    if rotated:
        parts.append(
            Part(
                name="rotary",
                kind="elementwise",
                flops=ROTARY * n * heads * rotated,
                inner_input_bytes=passed,
                inner_output_bytes=passed,
                operations=1 if layer.shared_kv else 2,
            )
        )
    if layer.floor_scale is not None:
        queries = n * layer.num_attention_heads * layer.head_dim
        parts.append(
            Part(
                name="query_scale",
                kind="elementwise",
                flops=queries,
                inner_input_bytes=queries * a,
                inner_output_bytes=queries * a,
            )
        )
    parts.append(_cache_write(layer, step))
    counted = heads_of(1, 0 if layer.shared_kv else 1, "d")
    return site.operator(
        "attention.rope",
        kind="elementwise",
        parts=tuple(parts),
        weights=weights,
        summary=f"{'Norm and rotation' if normed else 'Rotation'} of queries"
        + (
            "; keys and values lie in an earlier layer's cache"
            if layer.shared_kv
            else " and keys, and the write of new keys and values to the cache"
        ),
        formula=sum_of(
            normed and f"{per_element} N {counted}",
            layer.value_norm and f"{VALUE_NORM} N K {layer.value_letter}",
            rotated > 0 and f"{ROTARY} N {counted}r",
            layer.floor_scale is not None and "N H d",
        ),
        source="RoPE arXiv 2104.09864; QK-norm arXiv 2409.02060, 2505.09388",
    )


def _norm_weights(layer: "Attention") -> tuple[Weight, ...]:
    """Those of the QK-norm; a layer that shares keys norms its queries alone."""
    if layer.qk_norm in {"none", "head_unweighted"}:
        return ()
    heads = {"q_norm": layer.num_attention_heads, "k_norm": layer.num_key_value_heads}
    if layer.shared_kv:
        del heads["k_norm"]
    return tuple(
        vector(name, "norm", layer.head_dim * (count if layer.qk_norm == "full" else 1))
        for name, count in heads.items()
    )


def _cache_write(layer: "Attention", step: Step) -> Part:
    """What enters the leaf and leaves it; new keys and values go to the cache on the way.

    Without keys and values of its own nothing is written, and nothing launched.
    """
    queries = layer.num_attention_heads * layer.head_dim
    read = queries + layer.new_elements
    if layer.attention_k_eq_v:  # a key is read once, and leaves as key and value
        read -= layer.num_key_value_heads * layer.head_dim
    moved = step.tokens * step.activation_bytes
    if layer.shared_kv and layer.qk_norm == "none" and not (layer.rotated or layer.floor_scale):
        moved = 0  # queries pass as they are
    kept = layer.kept_tokens(step.new_tokens, step)
    return Part(
        name="cache_write",
        kind="elementwise",
        kv_written_bytes=step.batch * kept * layer.kv_token_bytes(step),
        input_bytes=moved * read,
        output_bytes=moved * (queries + layer.new_elements),
        operations=0 if layer.shared_kv else 1,
    )


def heads_of(queries: int, groups: int, size: str) -> str:
    """`(2 H + K) d`: so many times all query heads and all key-value heads of a size."""
    terms = [
        letter if count == 1 else f"{count} {letter}"
        for letter, count in (("H", queries), ("K", groups))
        if count
    ]
    return f"({' + '.join(terms)}) {size}" if len(terms) > 1 else f"{terms[0]} {size}"
