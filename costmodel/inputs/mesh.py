"""A mesh of GPUs as a user types it."""

from costmodel.inputs.parse import parse_count
from costmodel.layers.mesh import MAX_GPUS, AskedMesh, Mesh, TableSplit

FEWEST = "auto"  # of `gpus`: as few as fit


def parse_mesh(
    gpus: str | None,
    *,
    tp: str | None = None,
    ep: str | None = None,
    pp: str | None = None,
    dp: str | None = None,
    tables: TableSplit = "width",
    redundant_experts: int = 0,
) -> Mesh | AskedMesh:
    """The mesh of the texts that say what of it is given; `gpus` may be "auto".

    Raises:
        InputError: A size is no number of GPUs, or they do not multiply to `gpus`.
    """
    sizes = {
        name: None if text is None else parse_count(text, field=name, low=1, high=MAX_GPUS)
        for name, text in (("tp", tp), ("ep", ep), ("pp", pp), ("dp", dp))
    }
    fewest = gpus == FEWEST
    asked = AskedMesh(
        gpus=None
        if gpus is None or fewest
        else parse_count(gpus, field="gpus", low=1, high=MAX_GPUS),
        fewest=fewest,
        tables=tables,
        redundant_experts=redundant_experts,
        **sizes,
    )
    return asked if asked.stated is None else asked.stated
