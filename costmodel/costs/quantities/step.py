"""All quantities of `predict --json` and of the rows of `compare --json`, by their JSON names."""

from costmodel.costs.quantities.meshes import EXCHANGE, GPUS, MESH_SECTIONS
from costmodel.costs.quantities.places import DISK_BYTES, FETCH_TIMES, HOST_BYTES, HOT_ROWS
from costmodel.costs.quantities.quantity import Quantity
from costmodel.costs.quantities.sizes import (
    KV_CACHE,
    MAX_CONTEXT,
    MEMORY,
    PARAMETER_GROUPS,
    PARAMETERS,
    STATE,
)
from costmodel.costs.quantities.times import COMPARED, ENERGY, PRICE, TIME
from costmodel.costs.quantities.work import FLOP_KINDS, FLOPS, HBM_BYTES, OPERATORS, ROUTING

STEP_SECTIONS: tuple[tuple[Quantity, ...], ...] = (
    PARAMETERS,
    (*KV_CACHE, *STATE),
    FLOPS,
    HBM_BYTES,
    (*HOST_BYTES, *DISK_BYTES),
    ROUTING,
    (*MEMORY, HOT_ROWS),
    (*TIME, *FETCH_TIMES),
    ENERGY,
)
"""What a summary of a whole step tells, section by section."""

STEP_QUANTITIES: dict[str, Quantity] = {
    name: quantity
    for section in (
        *(*STEP_SECTIONS, PARAMETER_GROUPS, FLOP_KINDS),
        *((PRICE, MAX_CONTEXT), OPERATORS, COMPARED),
        *(*MESH_SECTIONS, EXCHANGE, (GPUS,)),
    )
    for quantity in section
    for name in (quantity.name, *quantity.also)
}
