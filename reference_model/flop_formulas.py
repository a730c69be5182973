"""FLOPs of a step by leaf, counted by PyTorch on the meta device, where nothing is computed.

PyTorch's `FlopCounterMode` counts matrix products and fused attention by the shapes of their
arguments. The formulas here do the same for the operators that it does not know. A multiply-add is
2 FLOPs. Norms, softmax, activations and top-k are not counted: the cost model has a table of FLOPs
per element for them.
"""

from collections.abc import Callable
from math import prod
from typing import TypeAlias

import torch
from torch import Size
from torch.utils.flop_counter import FlopCounterMode

from costmodel.inputs.workload import Logits
from reference_model.cache import Cache
from reference_model.model import ReferenceModel

aten = torch.ops.aten

Formula: TypeAlias = Callable[..., int]


def embedding_bag(table: Size, indices: Size, *_: object, **__: object) -> int:
    """Weighted sum of table rows: 2 FLOPs for each element that is read.

    Leaves out: that an unweighted sum needs only the adds; all sums of rows here are weighted.

    Args:
        table: Shape [R, width].
        indices: Shape of the row indices.
    """
    return 2 * prod(indices) * table[1]


def grouped_mm(x: Size, weight: Size, *_: object, **__: object) -> int:
    """Each row of x times the matrix of its group: 2 R i o FLOPs, however rows are grouped.

    Args:
        x: Shape [R, i].
        weight: Shape [E, i, o], a matrix for each group.
    """
    assert len(x) + 1 == len(weight) == 3, "rows in groups, a matrix for each"  # noqa: PLR2004
    return 2 * prod(x) * weight[2]


FORMULAS: dict[object, Formula] = {
    aten._embedding_bag: embedding_bag,  # noqa: SLF001 - operators have these names
    aten._embedding_bag_forward_only: embedding_bag,  # noqa: SLF001
    aten._grouped_mm: grouped_mm,  # noqa: SLF001
}
"""What `FlopCounterMode(custom_mapping=...)` takes."""


@torch.no_grad()
def count_flops(
    model: ReferenceModel, cache: Cache, new_tokens: int, *, logits: Logits = "last"
) -> dict[str, int]:
    """FLOPs of one step, by leaf path; 0 for leaves without a counted operator.

    Counts matrix products, attention and sums of table rows. Attention on the meta device computes
    the whole square of queries and keys and masks it: compare with `attention_flops = "full"`.

    Args:
        model: On the device `meta`.
        cache: What is held before the step.
        new_tokens: Per sequence.
        logits: Of the last token of each sequence, or of all.
    """
    ids = torch.zeros(cache.batch, new_tokens, dtype=torch.int64, device=model.device)
    with FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
        model(ids, cache, logits=logits)
    by_module = {name: sum(by.values()) for name, by in counter.get_flop_counts().items()}
    root = type(model).__name__
    by_path = {path: by_module.get(f"{root}.{path}", 0) for path in model.leaves()}
    assert sum(by_path.values()) == counter.get_total_flops(), "a leaf's work is done outside it"
    return by_path
