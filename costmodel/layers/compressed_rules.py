"""The rules between the fields of attention to a window and compressed entries."""

from typing import TYPE_CHECKING, Any, Final

from costmodel.errors import InputError

if TYPE_CHECKING:  # the kind is written with it
    from costmodel.layers.compressed_attention import CompressedAttention

_NEEDS: Final = (  # a field and another that it needs
    ("overlapping", "compress_ratio"),
    ("index_topk", "compress_ratio"),
    ("shared_entries", "compress_ratio"),
    ("index_n_heads", "index_topk"),
    ("index_head_dim", "index_topk"),
    ("index_topk", "index_n_heads"),
    ("index_topk", "index_head_dim"),
    ("keys_of_entries", "index_topk"),
    ("shared_index", "index_topk"),
    ("shared_index", "shared_entries"),
    ("candidate_topk_blocks", "index_topk"),
    ("candidate_topk_blocks", "candidate_block_size"),
    ("candidate_block_size", "candidate_topk_blocks"),
)

WITHOUT_ENTRIES: Final[dict[str, Any]] = {  # the fields of a layer that attends to tokens alone
    **dict.fromkeys(("compress_ratio", "index_topk", "index_n_heads", "index_head_dim")),
    **dict.fromkeys(("candidate_topk_blocks", "candidate_block_size")),
    **dict.fromkeys(("overlapping", "keys_of_entries", "shared_entries", "shared_index"), False),
}


def check_compressed(layer: "CompressedAttention") -> None:
    """Heads divide into groups, rotated elements fit; entries and an indexer have their sizes.

    Raises:
        InputError: A rule is broken.
    """
    if layer.num_attention_heads % layer.o_groups:
        raise InputError(
            f"num_attention_heads={layer.num_attention_heads}: is not a multiple of"
            f" o_groups={layer.o_groups}"
        )
    for field in ("head_dim", "index_head_dim"):
        size = getattr(layer, field)
        if size is not None and size < layer.qk_rope_head_dim:
            raise InputError(
                f"{field}={size}: is less than qk_rope_head_dim={layer.qk_rope_head_dim},"
                " which is rotated"
            )
    for field, needed in _NEEDS:
        value = getattr(layer, field)
        if value and not getattr(layer, needed):
            raise InputError(f"{field}={value}: needs {needed}")
    if layer.shared_index and layer.candidate_topk_blocks is not None:
        raise InputError(
            f"candidate_topk_blocks={layer.candidate_topk_blocks}: is of a layer with an indexer"
            " of its own, and so without shared_index"
        )
