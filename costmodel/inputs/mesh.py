"""A mesh of GPUs as a user types it, or a list of them."""

from itertools import product

from costmodel.errors import InputError, shown
from costmodel.inputs.parse import parse_count
from costmodel.layers.mesh import MAX_GPUS, AskedMesh, Mesh, TableSplit


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
    fewest = gpus == "auto"
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


def parse_meshes(
    gpus: str | None,
    *,
    tp: str | None = None,
    ep: str | None = None,
    pp: str | None = None,
    dp: str | None = None,
    tables: TableSplit = "width",
    redundant_experts: int = 0,
) -> tuple[Mesh | AskedMesh, ...]:
    """The meshes of texts that may be lists, `1,2,4`: every combination, in the order typed.

    Raises:
        InputError: One of them is no mesh, or stands twice.
    """
    lists = [[None] if text is None else text.split(",") for text in (gpus, tp, ep, pp, dp)]
    found: dict[Mesh | AskedMesh, None] = {}
    for of_gpus, of_tp, of_ep, of_pp, of_dp in product(*lists):
        mesh = parse_mesh(
            of_gpus,
            tp=of_tp,
            ep=of_ep,
            pp=of_pp,
            dp=of_dp,
            tables=tables,
            redundant_experts=redundant_experts,
        )
        if mesh in found:
            raise InputError(f"mesh={shown(mesh.label)}: is listed twice")
        found[mesh] = None
    return tuple(found)
