"""All quantities of `predict --json` and of the rows of `compare --json`, by their JSON names."""

from costmodel.costs.quantities.quantity import Quantity
from costmodel.costs.quantities.sizes import KV_CACHE, MEMORY, PARAMETERS
from costmodel.costs.quantities.times import COMPARED, ENERGY, PRICE, TIME
from costmodel.costs.quantities.work import FLOPS, HBM_BYTES, OPERATORS, ROUTING

STEP: dict[str, Quantity] = {
    name: quantity
    for quantity in (
        *PARAMETERS,
        *KV_CACHE,
        *FLOPS,
        *HBM_BYTES,
        *ROUTING,
        *MEMORY,
        *TIME,
        *ENERGY,
        PRICE,
        *OPERATORS,
        *COMPARED,
    )
    for name in (quantity.name, *quantity.also)
}
