"""Model FLOPs of some kinds of work, as transformers' counter sees them."""

from typing import Any

from costmodel.costs.operators import build_operators
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload

PRODUCTS = ("matmul", "attention")  # what PyTorch's `FlopCounterMode` counts


def flops(model: ModelConfig, workload: Workload, kinds: tuple[str, ...] = PRODUCTS) -> Any:  # noqa: ANN401 - a number
    """The sum over all operators of a step, in FLOPs."""
    return sum(
        part.flops * operator.count
        for operator in build_operators(model, workload.step())
        for part in operator.parts
        if part.kind in kinds
    )
